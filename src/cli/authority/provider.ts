import { type Command, InvalidArgumentError } from 'commander'
import {
  type BackendInput,
  type BackendView,
  cancelDestruction,
  createProvider,
  explainRelease,
  getProvider,
  listProviders,
  type ProviderSettings,
  type ProviderView,
  type Purpose,
  rebindTpm,
  rotateProvider,
  scheduleDestruction,
  setKeyServers,
  setKeyState,
  setProvider,
  testProvider,
} from '../../api/key-provider.js'
import { PlatformError } from '../../core/errors.js'
import { findingLine } from '../findings.js'
import { fields, table } from '../output.js'
import { collect, integer } from '../values.js'
import { addOperation } from './command.js'
import {
  type KeyServerOptions,
  keyServerFields,
  keyServersOf,
  testLines,
  withKeyServers,
} from './key-server-options.js'

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

interface CreateOptions extends SettingsOptions, KeyServerOptions {
  readonly keepKeys?: boolean
  readonly tpm?: boolean
  readonly tpmPcr?: number[]
}

export function addProviderCommands(program: Command): void {
  const provider = program.command('provider').description('key providers')

  addOperation<typeof createProvider, CreateOptions>(provider, {
    usage: 'create <name>',
    operation: createProvider,
    configure: (command) =>
      withTpmPcrs(withKeyServers(withSettings(command)))
        .option('--keep-keys', 'leave the primary key in the key servers, which encrypt with it')
        .option('--tpm', 'have the primary key sealed by the TPM of the authority'),
    input: ([name = ''], options) => ({
      body: { name, kind: 'trusted', settings: settingsOf(options), ...backendOf(options) },
    }),
    text: providerLines,
    examples: [
      'sigillo provider create gold --cluster lab',
      'sigillo provider create safe --cluster lab --tpm --tpm-pcr 0 --tpm-pcr 7',
      'sigillo provider create vault --cluster prod --assurance tpm --server kms1.example --server kms2.example \\\n' +
        '      --kms-ca kms-ca.pem --client-certificate sigillo.pem --client-key sigillo.key --keep-keys',
    ],
  })

  addOperation<typeof setKeyServers, KeyServerOptions & { readonly force?: boolean }>(provider, {
    usage: 'key-servers <name>',
    operation: setKeyServers,
    configure: (command) =>
      withKeyServers(command).option('--force', 'also where a key server does not answer'),
    input: ([name = ''], options) => {
      const keyServers = keyServersOf(options)
      if (!keyServers) throw new PlatformError('REQUEST_INVALID', 'expected --server')
      const force = options.force ? { force: true } : {}
      return { params: { provider: name }, body: { keyServers, ...force } }
    },
    text: providerLines,
    examples: [
      'sigillo provider key-servers vault --server kms3.example --kms-ca kms-ca.pem --client-certificate sigillo.pem',
      'sigillo provider key-servers vault --server kms3.example:5697 --kms-ca kms-ca.pem --client-certificate new.pem \\\n' +
        '      --client-key new.key --force',
    ],
  })

  addOperation<typeof rebindTpm, { readonly tpmPcr?: number[] }>(provider, {
    usage: 'rebind-tpm <name>',
    operation: rebindTpm,
    configure: withTpmPcrs,
    input: ([name = ''], { tpmPcr }) => ({
      params: { provider: name },
      body: tpmPcr ? { pcrs: tpmPcr } : {},
    }),
    text: providerLines,
    examples: ['sigillo provider rebind-tpm safe', 'sigillo provider rebind-tpm safe --tpm-pcr 7'],
  })

  addProviderTest(provider, 'test <name>', ['sigillo provider test vault'])
  addDestruction(provider)

  addOperation(provider, {
    usage: 'list',
    operation: listProviders,
    list: 'providers',
    input: () => ({ query: {} }),
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

/** `sigillo kmip test`, beside the other commands about KMIP. */
export function addKmipTest(kmip: Command): void {
  addProviderTest(kmip, 'test <provider>', ['sigillo kmip test vault'])
}

interface DestroyOptions {
  readonly reason: string
  readonly afterDays: number
  readonly abandon?: boolean
}

function addDestruction(provider: Command): void {
  addOperation<typeof scheduleDestruction, DestroyOptions>(provider, {
    usage: 'destroy <name> <version>',
    operation: scheduleDestruction,
    configure: (command) =>
      command
        .requiredOption('--reason <text>', 'for the audit')
        .option('--after-days <days>', 'how long it can be kept after all', integer, 7)
        .option('--abandon', 'also where wrapped keys are there, which nobody can open then'),
    destroys: ([name = '', version = '']) =>
      `this destroys version ${version} of the primary key of ${name}`,
    input: ([name = '', version = ''], { reason, afterDays, abandon }) => ({
      params: { provider: name, version },
      body: { reason, afterDays, ...(abandon ? { abandon } : {}) },
    }),
    text: providerLines,
    examples: [
      "sigillo provider destroy gold 1 --reason 'rotated, all keys wrapped anew' --yes",
      "sigillo provider destroy gold 1 --reason 'tenant left' --after-days 30 --abandon --yes",
    ],
  })

  addOperation(provider, {
    usage: 'keep <name> <version>',
    operation: cancelDestruction,
    input: ([name = '', version = '']) => ({ params: { provider: name, version } }),
    text: providerLines,
    examples: ['sigillo provider keep gold 1', 'sigillo provider keep gold 1 --json'],
  })
}

function addProviderTest(parent: Command, usage: string, examples: readonly string[]): void {
  addOperation(parent, {
    usage,
    operation: testProvider,
    input: ([name = '']) => ({ params: { provider: name }, body: {} }),
    text: testLines,
    refused: ({ verdict }) => verdict !== 'passed',
    examples: [...examples, ...examples.map((example) => `${example} --json`)],
  })
}

function backendOf(options: CreateOptions): { readonly backend?: BackendInput } {
  const keyServers = keyServersOf(options)
  const { tpm, tpmPcr } = options
  if (tpmPcr && !tpm) throw new PlatformError('REQUEST_INVALID', 'expected --tpm beside --tpm-pcr')
  if (tpm) {
    if (keyServers || options.keepKeys) {
      throw new PlatformError('REQUEST_INVALID', 'expected --tpm or key servers, found both')
    }
    return { backend: { kind: 'tpm', ...(tpmPcr ? { pcrs: tpmPcr } : {}) } }
  }
  if (keyServers) {
    return { backend: { kind: 'kmip', place: options.keepKeys ? 'kept' : 'fetched', keyServers } }
  }
  if (options.keepKeys) {
    throw new PlatformError('REQUEST_INVALID', 'expected --server beside --keep-keys')
  }
  return {}
}

function backendFields(backend: BackendView): (readonly [string, string | undefined])[] {
  if (backend.kind === 'embedded') return [['primary key', 'in the embedded keystore']]
  if (backend.kind === 'tpm') {
    return [
      ['primary key', 'sealed by the TPM of the authority'],
      ['PCRs', `${backend.pcrs.join(', ')} (sha256)`],
    ]
  }
  const place = backend.place === 'kept' ? 'stays in' : 'is fetched from'
  return [['primary key', `${place} the key servers`], ...keyServerFields(backend.keyServers)]
}

function withTpmPcrs(command: Command): Command {
  return command.option(
    '--tpm-pcr <pcr>',
    'PCR of the authority (SHA-256) that its TPM binds the key to; may be repeated',
    (text: string, before: readonly number[] = []) => [...before, integer(text)],
  )
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
      ...backendFields(provider.backend),
      ['compromised keys', provider.settings.unwrapCompromised ? 'unwrap' : undefined],
    ]),
    ...provider.versions.flatMap((v) => [
      `  version ${v.version}: ${v.state}, made ${v.createdAt}, ${v.references} wrapped keys`,
      ...(v.destroyAt === undefined || v.state === 'destroyed'
        ? []
        : [`    to be destroyed at ${v.destroyAt}`]),
      ...Object.entries(v.attributes ?? {}).map(([name, value]) => `    ${name}: ${value}`),
    ]),
  ]
}
