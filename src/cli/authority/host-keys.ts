import type { Command } from 'commander'
import {
  deleteHostKeyProvider,
  getHostKeyProvider,
  type HostKeyKind,
  type HostKeyProviderView,
  listHostKeyDeliveries,
  listHostKeyProviders,
  listHostKeys,
  setHostKeyProvider,
} from '../../api/host-keys.js'
import { fields, table } from '../output.js'
import { collect } from '../values.js'
import { addOperation } from './command.js'
import { keyServerFields } from './key-server-options.js'

interface Clusters {
  readonly cluster?: readonly string[]
}

/** Commands that native and standard key providers have in common: who has their keys, and their end. */
export function addHostKeyCommands(parent: Command, kind: HostKeyKind, name: string): void {
  const program = `sigillo ${kind}`

  addOperation(parent, {
    usage: 'list',
    operation: listHostKeyProviders,
    list: 'providers',
    input: () => ({ query: { kind } }),
    text: ({ providers }) =>
      table([
        ['PROVIDER', 'STATE', 'CLUSTERS', 'KEYS', 'VMS', 'DELIVERED', 'FAILED', 'BACKUP'],
        ...providers.map(providerRow),
      ]),
    examples: [`${program} list`, `${program} list --json`],
  })

  addOperation(parent, {
    usage: 'show <name>',
    operation: getHostKeyProvider,
    input: ([provider = '']) => ({ params: { provider } }),
    text: hostKeyProviderLines,
    examples: [`${program} show ${name}`, `${program} show ${name} --json`],
  })

  addOperation(parent, {
    usage: 'hosts <name>',
    operation: listHostKeyDeliveries,
    list: 'deliveries',
    input: ([provider = '']) => ({ params: { provider } }),
    text: ({ deliveries }) =>
      table([
        ['HOST', 'KEY', 'STATE', 'CODE', 'SINCE'],
        ...deliveries.map((one) => [
          one.hostId,
          String(one.version),
          one.state,
          one.code ?? '-',
          one.at,
        ]),
      ]),
    examples: [`${program} hosts ${name}`, `${program} hosts ${name} --json`],
  })

  addOperation(parent, {
    usage: 'keys <name>',
    operation: listHostKeys,
    list: 'keys',
    input: ([provider = '']) => ({ params: { provider } }),
    text: ({ keys }) =>
      table([
        ['KEY', 'STATE', 'MADE', 'KEY SERVER ID', 'CLUSTER', 'FOR'],
        ...keys.map(({ version, state, createdAt, keyId, cluster, use }) => [
          String(version),
          state,
          createdAt,
          keyId ?? '-',
          cluster ?? '-',
          use ? `${use.kind} ${use.id}` : '-',
        ]),
      ]),
    examples: [`${program} keys ${name}`, `${program} keys ${name} --json`],
  })

  addOperation<typeof setHostKeyProvider, Clusters>(parent, {
    usage: 'clusters <name>',
    operation: setHostKeyProvider,
    configure: withClusters,
    input: ([provider = ''], { cluster = [] }) => ({
      params: { provider },
      body: { clusters: [...cluster] },
    }),
    text: hostKeyProviderLines,
    examples: [
      `${program} clusters ${name} --cluster lab --cluster prod`,
      `${program} clusters ${name} --json    # no cluster: every host erases its keys`,
    ],
  })

  addOperation<typeof deleteHostKeyProvider, { readonly reason: string; readonly force?: boolean }>(
    parent,
    {
      usage: 'delete <name>',
      operation: deleteHostKeyProvider,
      configure: (command) =>
        command
          .requiredOption('--reason <text>', 'why, for the audit')
          .option(
            '--force',
            'although VMs use it or it is a default; the second time: although hosts did not confirm',
          ),
      input: ([provider = ''], { reason, force }) => ({
        params: { provider },
        body: { reason, ...(force ? { force } : {}) },
      }),
      text: ({ deleted, awaits }) => [
        deleted ? 'deleted' : `being deleted: ${awaits.join(', ')} did not confirm yet`,
      ],
      destroys: ([provider]) => `the keys of ${provider} are erased here and on every host`,
      examples: [
        `${program} delete ${name} --reason 'moved to another provider' --yes`,
        `${program} delete ${name} --reason 'host-b was scrapped' --force --yes --json`,
      ],
    },
  )
}

export function withClusters(command: Command): Command {
  return command.option(
    '--cluster <name>',
    'cluster whose hosts get its keys; may be repeated',
    collect,
  )
}

export function hostKeyProviderLines(provider: HostKeyProviderView): readonly string[] {
  const { backup, keyServers, deliveries } = provider
  const counted = Object.entries(deliveries).map(([state, count]) => `${count} ${state}`)
  return fields([
    ['provider', provider.name],
    ['kind', provider.kind],
    ['identity', provider.providerId],
    ['state', provider.state],
    ['clusters', provider.clusters.join(', ') || 'none'],
    ['sealed to TPM', provider.tpmRequired ? 'yes' : 'no'],
    [provider.kind === 'native' ? 'versions' : 'keys', String(provider.keys)],
    [
      'wraps with',
      provider.kind === 'native' ? (provider.current?.toString() ?? 'none') : undefined,
    ],
    ['VMs', String(provider.vms)],
    ['backup', backup && BACKUPS[backup.state](provider.name, backup.at)],
    ...(keyServers ? keyServerFields(keyServers) : []),
    ['deliveries', counted.join(', ') || 'none'],
  ])
}

type BackupState = NonNullable<HostKeyProviderView['backup']>['state']

const BACKUPS: Readonly<Record<BackupState, (name: string, at?: string) => string>> = {
  none: (name) => `NONE: nothing can be wrapped before sigillo native backup ${name}`,
  'newest-missing': (name, at) =>
    `of ${at}; THE NEWEST VERSION IS IN NONE and is not used: sigillo native backup ${name}`,
  old: (name, at) => `OLD, of ${at}: sigillo native backup ${name}`,
  done: (_, at) => `of ${at}`,
}

function providerRow(provider: HostKeyProviderView): readonly string[] {
  const { deliveries } = provider
  return [
    provider.name,
    provider.state,
    provider.clusters.join(',') || '-',
    String(provider.keys),
    String(provider.vms),
    String(deliveries['confirmed'] ?? 0),
    String(deliveries['failed'] ?? 0),
    provider.backup?.state ?? '-',
  ]
}
