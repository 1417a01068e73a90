import type { Command } from 'commander'
import {
  createProvider,
  getProvider,
  listProviders,
  type ProviderSettings,
  type ProviderView,
  rotateProvider,
  setKeyState,
  setProvider,
} from '../../api/key-provider.js'
import { fields, table } from '../output.js'
import { collect, integer } from '../values.js'
import { addOperation } from './command.js'

interface SettingsOptions {
  readonly unwrapCompromised?: boolean
  readonly rotateEvery?: number
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

  addOperation<typeof rotateProvider, { readonly preActive?: boolean }>(provider, {
    usage: 'rotate <name>',
    operation: rotateProvider,
    configure: (command) =>
      command.option('--pre-active', 'make the version now, and use it when it is activated'),
    input: ([name = ''], { preActive }) => ({
      params: { provider: name },
      body: preActive ? { preActive } : {},
    }),
    text: providerLines,
    examples: ['sigillo provider rotate gold', 'sigillo provider rotate gold --pre-active'],
  })

  addOperation<typeof setKeyState, { readonly reason: string }>(provider, {
    usage: 'key-state <name> <version> <state>',
    operation: setKeyState,
    configure: (command) => command.requiredOption('--reason <text>', 'for the audit'),
    input: ([name = '', version = '', state = ''], { reason }) => ({
      params: { provider: name, version },
      body: { state: state as ProviderView['versions'][number]['state'], reason },
    }),
    text: providerLines,
    examples: [
      "sigillo provider key-state gold 2 active --reason 'planned rotation'",
      "sigillo provider key-state gold 1 compromised --reason 'backup was stolen' --json",
    ],
  })
}

function withSettings(command: Command): Command {
  return command
    .requiredOption('--cluster <name>', 'cluster whose hosts may use it; may be repeated', collect)
    .option('--assurance <kind>', 'least assurance of answers: session or tpm', 'session')
    .option('--max-token-age <seconds>', 'oldest token that it accepts', integer, 300)
    .option('--rotate-every <days>', 'make a new version when the active one is older', integer)
    .option('--unwrap-compromised', 'let compromised versions unwrap, to wrap their keys anew')
}

function settingsOf(options: SettingsOptions): ProviderSettings {
  return {
    clusters: [...options.cluster],
    minimumAssurance: options.assurance,
    maxTokenAgeSeconds: options.maxTokenAge,
    ...(options.rotateEvery === undefined ? {} : { rotateEveryDays: options.rotateEvery }),
    ...(options.unwrapCompromised ? { unwrapCompromised: true } : {}),
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
      [
        'rotation',
        provider.settings.rotateEveryDays === undefined
          ? undefined
          : `every ${provider.settings.rotateEveryDays} days`,
      ],
      ['compromised keys', provider.settings.unwrapCompromised ? 'unwrap' : undefined],
    ]),
    ...provider.versions.map((v) => `  version ${v.version}: ${v.state}, made ${v.createdAt}`),
  ]
}
