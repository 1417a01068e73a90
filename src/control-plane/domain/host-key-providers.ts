import type {
  DeliveryState,
  HostKeyDeliveryView,
  HostKeyKind,
  HostKeyProviderView,
  HostKeyView,
} from '../../api/host-keys.js'
import type { ConnectionTest, KeyServersInput } from '../../api/key-servers.js'
import type { CanonicalValue } from '../../core/canonical-json.js'
import { isoTime } from '../../core/clock.js'
import { PlatformError } from '../../core/errors.js'
import { type Page, pageOf, readPage, type StoredPage } from '../../core/page.js'
import type {
  ChangeSignal,
  KdkSeal,
  KeyServers,
  StoredDelivery,
  StoredHostKey,
  StoredKeyProvider,
} from '../host-key-ports.js'
import type { ControlPlaneStore, ControlPlaneTransaction, StoredVm } from '../ports.js'
import { dropDefaults, requireDefaultsServed } from './default-in-force.js'
import { keyEvent } from './host-key-events.js'
import type { Act } from './inventory.js'

const KDK_OCTETS = 32
const BACKUP_MAX_AGE_DAYS = 90
const DAY_MS = 86_400_000
/** VMs that are named in a refusal. */
const NAMED_VMS = 5

export interface HostKeyProviderDeps {
  readonly store: ControlPlaneStore
  readonly kdks: KdkSeal
  readonly keyServers: KeyServers
  readonly changes: ChangeSignal
  /** The system's generator. */
  readonly random: (octets: number) => Uint8Array
  readonly newId: () => string
}

/** What administrators do with native and standard key providers. Each act is one transaction with its audit record. */
export function createHostKeyProviders(deps: HostKeyProviderDeps) {
  const { store, changes } = deps

  const newVersion = (providerId: string, version: number, nowMs: number): StoredHostKey => {
    const octets = deps.random(KDK_OCTETS)
    try {
      const sealed = deps.kdks.seal({ providerId, version }, octets)
      return { providerId, version, createdAtMs: nowMs, sealed }
    } finally {
      octets.fill(0)
    }
  }

  const view = async (
    tx: ControlPlaneTransaction,
    provider: StoredKeyProvider,
    nowMs: number,
  ): Promise<HostKeyProviderView> => ({
    ...(await viewOf(tx, provider, nowMs)),
    ...(provider.kind === 'standard' ? { keyServers: deps.keyServers.view(provider) } : {}),
  })

  /** A change that hosts learn of at once. */
  const change = async <R>(work: (tx: ControlPlaneTransaction) => Promise<R>): Promise<R> => {
    const result = await store.transaction(async (tx) => {
      const value = await work(tx)
      await tx.raiseHostKeyRevision()
      return value
    })
    changes.raise()
    return result
  }

  return {
    createNative: (
      act: Act,
      wanted: {
        readonly name: string
        readonly clusters: readonly string[]
        readonly tpmRequired: boolean
        readonly backupMaxAgeDays?: number | undefined
      },
    ): Promise<HostKeyProviderView> =>
      change(async (tx) => {
        await requireClusters(tx, wanted.clusters)
        const provider: StoredKeyProvider = {
          ...wanted,
          providerId: deps.newId(),
          kind: 'native',
          state: 'active',
          createdAtMs: act.nowMs,
          backupMaxAgeDays: wanted.backupMaxAgeDays ?? BACKUP_MAX_AGE_DAYS,
        }
        await tx.insertKeyProvider(provider)
        await tx.insertHostKey(newVersion(provider.providerId, 1, act.nowMs))
        const message = `native key provider ${provider.name} made: to be backed up before it is used`
        await recordChange(tx, act, provider, 'created', message, {
          clusters: provider.clusters,
          tpmRequired: provider.tpmRequired,
        })
        return viewOf(tx, provider, act.nowMs)
      }),

    /** @throws PlatformError `KEY_SERVERS`, `KEY_SERVERS_TEST`, `CONFLICT`, `NOT_FOUND` */
    createStandard: async (
      act: Act,
      wanted: {
        readonly name: string
        readonly clusters: readonly string[]
        readonly tpmRequired: boolean
        readonly keyServers: KeyServersInput
        readonly force: boolean
      },
    ): Promise<HostKeyProviderView> => {
      const { name, clusters, tpmRequired, force } = wanted
      const providerId = deps.newId()
      const options = { before: undefined, nowMs: act.nowMs, force }
      const keyServers = await deps.keyServers.accept(providerId, wanted.keyServers, options)
      return change(async (tx) => {
        await requireClusters(tx, clusters)
        const provider: StoredKeyProvider = {
          ...{ providerId, name, clusters, tpmRequired, keyServers },
          kind: 'standard',
          state: 'active',
          createdAtMs: act.nowMs,
        }
        await tx.insertKeyProvider(provider)
        const detail = { clusters, tpmRequired, keyServers: keyServers.settings }
        await recordChange(
          tx,
          act,
          provider,
          'created',
          `standard key provider ${name} made`,
          detail,
        )
        return view(tx, provider, act.nowMs)
      })
    },

    setKeyServers: async (
      act: Act,
      name: string,
      wanted: { readonly keyServers: KeyServersInput; readonly force: boolean },
    ): Promise<HostKeyProviderView> => {
      const before = await store.transaction((tx) => activeStandard(tx, name))
      const { providerId } = before
      const options = { before: before.keyServers, nowMs: act.nowMs, force: wanted.force }
      const keyServers = await deps.keyServers.accept(providerId, wanted.keyServers, options)
      return change(async (tx) => {
        const provider = await activeStandard(tx, name)
        await tx.updateKeyProvider(providerId, { keyServers })
        const detail = { keyServers: keyServers.settings }
        await recordChange(tx, act, provider, 'changed', `key servers of ${name} changed`, detail)
        return view(tx, { ...provider, keyServers }, act.nowMs)
      })
    },

    test: async (name: string, nowMs: number): Promise<ConnectionTest> =>
      deps.keyServers.test(await store.transaction((tx) => activeStandard(tx, name)), nowMs),

    /** @param kind of one kind alone */
    list: (
      kind: HostKeyKind | undefined,
      page: StoredPage,
      nowMs: number,
    ): Promise<Page<HostKeyProviderView>> =>
      store.transaction(async (tx) => {
        const all = (await tx.listKeyProviders()).filter(
          (provider) => kind === undefined || provider.kind === kind,
        )
        const { items, ...next } = await pageOf(all, page, ({ name }) => name)
        const views: HostKeyProviderView[] = []
        for (const provider of items) views.push(await view(tx, provider, nowMs))
        return { items: views, ...next }
      }),

    get: (name: string, nowMs: number): Promise<HostKeyProviderView> =>
      store.transaction(async (tx) => view(tx, await known(tx, name), nowMs)),

    listKeys: (name: string, page: StoredPage): Promise<Page<HostKeyView>> =>
      store.transaction(async (tx) => {
        const { providerId } = await known(tx, name)
        const read = async ({ after, limit }: StoredPage) =>
          (await tx.listHostKeys(providerId, { after: Number(after ?? 0), limit })).map(keyView)
        return readPage(page, read, ({ version }) => String(version))
      }),

    /** By version and host: `3:host-a`. */
    listDeliveries: (name: string, page: StoredPage): Promise<Page<HostKeyDeliveryView>> =>
      store.transaction(async (tx) => {
        const { providerId } = await known(tx, name)
        const read = async ({ after, limit }: StoredPage) => {
          const [version = '0', hostId = ''] = after?.split(':') ?? []
          const behind = { version: Number(version), hostId }
          return (await tx.listDeliveries(providerId, { behind, limit })).map(deliveryView)
        }
        return readPage(page, read, ({ version, hostId }) => `${version}:${hostId}`)
      }),

    setClusters: (
      act: Act,
      name: string,
      clusters: readonly string[],
    ): Promise<HostKeyProviderView> =>
      change(async (tx) => {
        await requireClusters(tx, clusters)
        const provider = await active(tx, name)
        await requireDefaultsServed(tx, provider, clusters)
        await tx.updateKeyProvider(provider.providerId, { clusters })
        const message = `key provider ${name} serves ${clusters.join(', ') || 'no cluster'} now`
        await recordChange(tx, act, provider, 'changed', message, { clusters })
        return view(tx, await known(tx, name), act.nowMs)
      }),

    /** Makes a version that waits for its backup; the one before wraps until then. */
    rotate: (act: Act, name: string): Promise<HostKeyProviderView> =>
      store.transaction(async (tx) => {
        const provider = await active(tx, name)
        requireNative(provider)
        const version = (await tx.newestVersion(provider.providerId)) + 1
        await tx.insertHostKey(newVersion(provider.providerId, version, act.nowMs))
        await tx.updateKeyProvider(provider.providerId, { warnedAtMs: 0 })
        const message = `version ${version} of ${name} made: to be backed up before it is used`
        await recordChange(tx, act, provider, 'rotated', message, { version })
        return viewOf(tx, provider, act.nowMs)
      }),

    /**
     * Begins the deletion, or goes on with it: keys are erased here at once, and hosts are told to erase theirs. Ends
     * when every host that had a key said that it erased it, or with `force` the second time.
     *
     * @throws PlatformError `HOST_KEY_IN_USE`
     */
    remove: (
      act: Act,
      name: string,
      options: { readonly reason: string; readonly force: boolean },
    ): Promise<{ readonly deleted: boolean; readonly awaits: string[] }> =>
      change(async (tx) => {
        const provider = await known(tx, name)
        const isBegun = provider.state === 'deleting'
        if (!isBegun) await beginDeletion(tx, act, provider, options)
        const awaits = await awaitedHosts(tx, provider)
        const ends = awaits.length === 0 || (isBegun && options.force)
        if (ends) await endDeletion(tx, provider, act.actor, awaits, act.nowMs)
        return { deleted: ends, awaits: ends ? [] : awaits }
      }),
  }
}

export type HostKeyProviders = ReturnType<typeof createHostKeyProviders>

async function beginDeletion(
  tx: ControlPlaneTransaction,
  act: Act,
  provider: StoredKeyProvider,
  options: { readonly reason: string; readonly force: boolean },
): Promise<void> {
  const { providerId, name } = provider
  const vms = (await tx.listVms({})).filter((vm) => usesProvider(vm, provider))
  if (vms.length > 0 && !options.force) {
    const named = vms.slice(0, NAMED_VMS).map(({ report }) => report.name)
    const rest = vms.length > NAMED_VMS ? ` and ${vms.length - NAMED_VMS} more` : ''
    const expected = `expected no VM with keys of ${name}, found ${named.join(', ')}${rest}`
    throw new PlatformError('HOST_KEY_IN_USE', expected)
  }
  await dropDefaults(tx, act, provider, options)
  await tx.updateKeyProvider(providerId, { state: 'deleting' })
  await tx.eraseSealedKeys(providerId)
  for (const delivery of await tx.listDeliveries(providerId)) {
    if (delivery.state === 'pending') await tx.removeDelivery(delivery)
    else if (delivery.state !== 'erased') {
      const { version, hostId } = delivery
      await tx.saveDelivery({ providerId, version, hostId, state: 'erasing', atMs: act.nowMs })
    }
  }
  const message = `key provider ${name} is being deleted: ${options.reason}`
  await recordChange(tx, act, provider, 'deleting', message, {
    reason: options.reason,
    force: options.force,
    vms: vms.map(({ vmId }) => vmId),
  })
}

/** Hosts that had a key of a provider that is being deleted, and have not said that they erased it. */
export async function awaitedHosts(
  tx: ControlPlaneTransaction,
  { providerId }: StoredKeyProvider,
): Promise<string[]> {
  const hosts = new Set<string>()
  for (const { state, hostId } of await tx.listDeliveries(providerId)) {
    if (state !== 'erased' && (await tx.isHostKnown(hostId))) hosts.add(hostId)
  }
  return [...hosts].sort()
}

/** @param unconfirmed hosts that are not awaited any longer */
export async function endDeletion(
  tx: ControlPlaneTransaction,
  provider: StoredKeyProvider,
  actor: string,
  unconfirmed: readonly string[],
  nowMs: number,
): Promise<void> {
  const gone = new Set(unconfirmed)
  for (const { state, hostId } of await tx.listDeliveries(provider.providerId)) {
    if (state !== 'erased') gone.add(hostId)
  }
  const hosts = [...gone].sort()
  await tx.removeKeyProvider(provider.providerId)
  const without = hosts.length > 0 ? `, without the word of ${hosts.join(', ')}` : ''
  await tx.addEvent(
    keyEvent({
      atMs: nowMs,
      severity: hosts.length > 0 ? 'warning' : 'info',
      type: 'key-provider.deleted',
      provider,
      message: `key provider ${provider.name} deleted${without}`,
      detail: { unconfirmed: hosts },
    }),
  )
  await tx.audit({
    atMs: nowMs,
    actor,
    action: 'key-provider.deleted',
    subject: `provider:${provider.name}`,
    outcome: 'done',
    detail: { providerId: provider.providerId, unconfirmed: hosts },
  })
}

/** An event and an audit record of one act on a provider. */
export async function recordChange(
  tx: ControlPlaneTransaction,
  act: Act,
  provider: Pick<StoredKeyProvider, 'providerId' | 'name' | 'kind'>,
  what: string,
  message: string,
  detail: { readonly [name: string]: CanonicalValue },
): Promise<void> {
  const type = `key-provider.${what}`
  await tx.addEvent(
    keyEvent({ atMs: act.nowMs, severity: 'info', type, provider, message, detail }),
  )
  await tx.audit({
    atMs: act.nowMs,
    actor: act.actor,
    action: type,
    subject: `provider:${provider.name}`,
    outcome: 'done',
    detail: { providerId: provider.providerId, ...detail },
  })
}

export async function known(tx: ControlPlaneTransaction, name: string): Promise<StoredKeyProvider> {
  const provider = await tx.findKeyProvider(name)
  if (!provider) throw new PlatformError('NOT_FOUND', `no native or standard key provider ${name}`)
  return provider
}

/** @throws PlatformError `NOT_FOUND`, `CONFLICT` where it is being deleted */
export async function active(
  tx: ControlPlaneTransaction,
  name: string,
): Promise<StoredKeyProvider> {
  const provider = await known(tx, name)
  if (provider.state === 'active') return provider
  throw new PlatformError('CONFLICT', `expected a key provider in use, found ${name} being deleted`)
}

async function activeStandard(
  tx: ControlPlaneTransaction,
  name: string,
): Promise<StoredKeyProvider> {
  const provider = await active(tx, name)
  if (provider.kind === 'standard') return provider
  const expected = `expected a standard key provider, found ${name}: ${provider.kind}`
  throw new PlatformError('CONFLICT', expected)
}

export function requireNative({ name, kind }: StoredKeyProvider): void {
  if (kind === 'native') return
  throw new PlatformError('CONFLICT', `expected a native key provider, found ${name}: ${kind}`)
}

export async function requireClusters(
  tx: ControlPlaneTransaction,
  clusters: readonly string[],
): Promise<void> {
  const names = new Set((await tx.listClusters()).map(({ name }) => name))
  const unknown = clusters.find((cluster) => !names.has(cluster))
  if (unknown !== undefined) throw new PlatformError('NOT_FOUND', `no cluster ${unknown}`)
}

/** Whether a host said that the VM has keys of this provider. */
function usesProvider({ report }: StoredVm, { providerId, name }: StoredKeyProvider): boolean {
  return report.key ? report.key.providerId === providerId : report.provider === name
}

export async function viewOf(
  tx: ControlPlaneTransaction,
  provider: StoredKeyProvider,
  nowMs: number,
): Promise<HostKeyProviderView> {
  const { providerId, name, kind, state, clusters, tpmRequired, createdAtMs } = provider
  const native = kind === 'native' ? await nativeState(tx, provider, nowMs) : {}
  return {
    ...{ name, providerId, kind, state, tpmRequired },
    clusters: [...clusters],
    createdAt: isoTime(createdAtMs),
    keys: await tx.countHostKeys(providerId),
    vms: (await tx.listVms({})).filter((vm) => usesProvider(vm, provider)).length,
    ...native,
    deliveries: { ...(await tx.countDeliveries(providerId)) },
  }
}

async function nativeState(
  tx: ControlPlaneTransaction,
  provider: StoredKeyProvider,
  nowMs: number,
): Promise<Pick<HostKeyProviderView, 'current' | 'backup'>> {
  const keys = await tx.listHostKeys(provider.providerId)
  const current = keys.findLast(({ usableAtMs }) => usableAtMs !== undefined)?.version
  const { backedUpAtMs, backupMaxAgeDays = BACKUP_MAX_AGE_DAYS } = provider
  return {
    ...(current === undefined ? {} : { current }),
    backup: {
      state: backupState(provider, keys, nowMs),
      maxAgeDays: backupMaxAgeDays,
      ...(backedUpAtMs === undefined ? {} : { at: isoTime(backedUpAtMs) }),
    },
  }
}

/** How well the keys of a native provider are backed up. */
export function backupState(
  { backedUpAtMs, backupMaxAgeDays = BACKUP_MAX_AGE_DAYS }: StoredKeyProvider,
  keys: readonly StoredHostKey[],
  nowMs: number,
): NonNullable<HostKeyProviderView['backup']>['state'] {
  if (backedUpAtMs === undefined) return 'none'
  if (keys.some(({ usableAtMs }) => usableAtMs === undefined)) return 'newest-missing'
  return nowMs - backedUpAtMs >= backupMaxAgeDays * DAY_MS ? 'old' : 'done'
}

function keyView(key: StoredHostKey): HostKeyView {
  const { version, createdAtMs, usableAtMs, keyId, cluster, use } = key
  return {
    version,
    createdAt: isoTime(createdAtMs),
    state: usableAtMs === undefined ? 'not-backed-up' : 'usable',
    ...(keyId === undefined ? {} : { keyId }),
    ...(cluster === undefined ? {} : { cluster }),
    ...(use === undefined ? {} : { use: { ...use } }),
  }
}

function deliveryView(delivery: StoredDelivery): HostKeyDeliveryView {
  const { version, hostId, code, atMs } = delivery
  const state: DeliveryState = delivery.state
  return { version, hostId, state, ...(code === undefined ? {} : { code }), at: isoTime(atMs) }
}
