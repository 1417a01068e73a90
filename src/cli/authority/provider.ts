import { type Command, InvalidArgumentError } from 'commander'
import {
  createProvider,
  explainRelease,
  getProvider,
  listProviders,
  type ProviderSettings,
  type ProviderView,
  type Purpose,
  rotateProvider,
  setKeyState,
  setProvider,
} from '../../api/key-provider.js'
import { PlatformError } from '../../core/errors.js'
import { findingLine } from '../findings.js'
import { fields, table } from '../output.js'
import { collect, integer } from '../values.js'
import { addOperation } from './command.js'

interface SettingsOptions {
  readonly purpose?: readonly Purpose[]
  readonly hours?: { readonly from: string; readonly to: string }
  readonly days?: number[]
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

  addOperation<typeof explainRelease, { readonly host: string }>(provider, {
    usage: 'explain <name>',
    operation: explainRelease,
    configure: (command) => command.requiredOption('--host <id>', 'host that would ask'),
    input: ([name = ''], { host }) => ({ params: { provider: name }, query: { hostId: host } }),
    text: ({ explanations }) =>
      explanations.flatMap(({ issuer, serves, findings }) => [
        `${issuer}: ${serves ? 'would be served' : 'would be REFUSED'}`,
        ...findings.map(findingLine),
      ]),
    examples: [
      'sigillo provider explain gold --host host-1',
      'sigillo provider explain gold --host host-1 --json',
    ],
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
    .option('--purpose <purpose>', 'what its keys may be for; may be repeated', collect)
    .option('--hours <from-to>', 'when it serves, UTC: 06:00-22:00', hours)
    .option('--days <list>', 'days on which it serves: 1 is Monday, 1,2,3,4,5', days)
    .option('--rotate-every <days>', 'make a new version when the active one is older', integer)
    .option('--unwrap-compromised', 'let compromised versions unwrap, to wrap their keys anew')
}

function hours(text: string): { readonly from: string; readonly to: string } {
  const [, from, to] = /^(\d\d:\d\d)-(\d\d:\d\d)$/.exec(text) ?? []
  if (from === undefined || to === undefined) {
    throw new InvalidArgumentError('expected hours as 06:00-22:00')
  }
  return { from, to }
}

function days(text: string): number[] {
  return text.split(',').map((day) => integer(day))
}

function hoursText({ hours: served }: ProviderSettings): string | undefined {
  if (!served) return undefined
  const on = served.days ? ` on days ${served.days.join(', ')}` : ''
  return `${served.from} to ${served.to} UTC${on}`
}

function settingsOf(options: SettingsOptions): ProviderSettings {
  if (options.days && !options.hours) {
    throw new PlatformError('REQUEST_INVALID', 'expected --hours beside --days')
  }
  return {
    clusters: [...options.cluster],
    minimumAssurance: options.assurance,
    maxTokenAgeSeconds: options.maxTokenAge,
    ...(options.purpose ? { purposes: [...options.purpose] } : {}),
    ...(options.hours
      ? { hours: { ...options.hours, ...(options.days ? { days: options.days } : {}) } }
      : {}),
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
      ['purposes', provider.settings.purposes?.join(', ')],
      ['hours', hoursText(provider.settings)],
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
