import type { Command } from 'commander'
import {
  createProvider,
  getProvider,
  listProviders,
  type ProviderSettings,
  type ProviderView,
  rotateProvider,
  setProvider,
} from '../../api/key-provider.js'
import { fields, table } from '../output.js'
import { collect, integer } from '../values.js'
import { addOperation } from './command.js'

interface SettingsOptions {
  readonly cluster: readonly string[]
  readonly assurance: ProviderSettings['minimumAssurance']
  readonly maxTokenAge: number
}

export function addProviderCommands(program: Command): void {
  const provider = program.command('provider').description('key providers')

  addOperation<typeof createProvider, SettingsOptions>(provider, {
    usage: 'create <name>',
    operation: createProvider,
    configure: withSettings,
    input: ([name = ''], options) => ({
      body: { name, kind: 'trusted', settings: settingsOf(options) },
    }),
    text: providerLines,
    examples: [
      'sigillo provider create gold --cluster lab',
      'sigillo provider create vault --cluster lab --cluster prod --assurance tpm',
    ],
  })

  addOperation(provider, {
    usage: 'list',
    operation: listProviders,
    input: () => ({}),
    text: ({ providers }) =>
      table([
        ['PROVIDER', 'KIND', 'CLUSTERS', 'ASSURANCE', 'VERSION'],
        ...providers.map((p) => [
          p.name,
          p.kind,
          p.settings.clusters.join(','),
          p.settings.minimumAssurance,
          String(p.versions.length),
        ]),
      ]),
    examples: ['sigillo provider list', 'sigillo provider list --json'],
  })

  addOperation(provider, {
    usage: 'show <name>',
    operation: getProvider,
    input: ([name = '']) => ({ params: { provider: name } }),
    text: providerLines,
    examples: ['sigillo provider show gold', 'sigillo provider show gold --json'],
  })

  addOperation<typeof setProvider, SettingsOptions>(provider, {
    usage: 'set <name>',
    operation: setProvider,
    configure: withSettings,
    input: ([name = ''], options) => ({ params: { provider: name }, body: settingsOf(options) }),
    text: providerLines,
    examples: [
      'sigillo provider set gold --cluster lab --assurance tpm',
      'sigillo provider set gold --cluster lab --cluster prod --max-token-age 120',
    ],
  })

  addOperation(provider, {
    usage: 'rotate <name>',
    operation: rotateProvider,
    input: ([name = '']) => ({ params: { provider: name }, body: {} }),
    text: providerLines,
    examples: ['sigillo provider rotate gold', 'sigillo provider rotate gold --json'],
  })
}

function withSettings(command: Command): Command {
  return command
    .requiredOption('--cluster <name>', 'cluster whose hosts may use it; may be repeated', collect)
    .option('--assurance <kind>', 'least assurance of answers: session or tpm', 'session')
    .option('--max-token-age <seconds>', 'oldest token that it accepts', integer, 300)
}

function settingsOf(options: SettingsOptions): ProviderSettings {
  return {
    clusters: [...options.cluster],
    minimumAssurance: options.assurance,
    maxTokenAgeSeconds: options.maxTokenAge,
  }
}

function providerLines(provider: ProviderView): readonly string[] {
  return [
    ...fields([
      ['provider', provider.name],
      ['kind', provider.kind],
      ['clusters', provider.settings.clusters.join(', ')],
      ['assurance', `at least ${provider.settings.minimumAssurance}`],
      ['token age', `at most ${provider.settings.maxTokenAgeSeconds} s`],
    ]),
    ...provider.versions.map((v) => `  version ${v.version}: ${v.state}, made ${v.createdAt}`),
  ]
}
