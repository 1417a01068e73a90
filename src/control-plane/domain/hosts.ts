import type { EncryptionMode, InventoryHostView } from '../../api/inventory.js'
import type { Privilege } from '../../api/privileges.js'
import { isoTime } from '../../core/clock.js'
import { PlatformError } from '../../core/errors.js'
import { type Page, readVisiblePage, type StoredPage } from '../../core/page.js'
import { SITE } from '../../people/index.js'
import type { HostFilter, StoredEncryption, StoredHost, VmCount } from '../inventory-ports.js'
import type { ControlPlaneStore, ControlPlaneTransaction } from '../ports.js'
import { afterEncryptedVm, isOff, modeOf, setEncryption } from './encryption-mode.js'
import type { Act } from './inventory.js'

const NO_VMS: VmCount = { total: 0, running: 0, encrypted: 0 }
const WATCHED_AT_ONCE = 1000

/** Hosts as the control plane sees them, and their encryption modes. */
export function createHosts(
  store: ControlPlaneStore,
  /** Told after a change that hosts have to learn of. */
  changes: { raise(): void },
) {
  return {
    /** Those that the caller may see. */
    list: (
      act: Act,
      filter: HostFilter & { readonly mode?: EncryptionMode | undefined },
      page: StoredPage,
    ): Promise<Page<InventoryHostView>> =>
      store.transaction(async (tx) => {
        const rights = await tx.rightsOf(act)
        const { mode, ...stored } = filter
        const { items, ...next } = await readVisiblePage(
          page,
          (part) => tx.listHosts(stored, part),
          async (hosts) =>
            hosts.filter(
              (host) =>
                (mode === undefined || modeOf(host).mode === mode) &&
                rights.may('System.Read', { kind: 'cluster', name: host.cluster }),
            ),
          ({ hostId }) => hostId,
        )
        return { items: await viewsOf(tx, items), ...next }
      }),

    /** @throws PlatformError `FORBIDDEN`, `NOT_FOUND` */
    get: (act: Act, hostId: string): Promise<InventoryHostView> =>
      store.transaction(async (tx) =>
        viewOf(tx, await permittedHost(tx, act, hostId, 'System.Read')),
      ),

    /**
     * Turns encryption on a host on or off. Hosts where it is off get no keys, and erase those that they have.
     *
     * @throws PlatformError `FORBIDDEN`, `NOT_FOUND`, and as `setEncryption`
     */
    async setEncryption(
      act: Act,
      hostId: string,
      setting: StoredEncryption['setting'],
    ): Promise<InventoryHostView> {
      const view = await store.transaction(async (tx) => {
        const host = await permittedHost(tx, act, hostId, 'Cryptographer.RegisterHost')
        const { encrypted } = await countOf(tx, hostId)
        const encryption = setEncryption(host, setting, encrypted)
        const changed = await saveEncryption(tx, host, encryption, act.operator, act.nowMs)
        await tx.audit({
          ...{ atMs: act.nowMs, actor: act.actor, action: 'host.encryption-set' },
          ...{ subject: `host:${hostId}`, outcome: 'done' },
          detail: { setting, before: host.encryption.setting },
        })
        await tx.raiseHostKeyRevision()
        return viewOf(tx, changed)
      })
      changes.raise()
      return view
    },

    /** Tells of modes that changed by themselves: hosts that are trusted now, or not any longer, or were rebooted. */
    watch: (nowMs: number): Promise<void> =>
      store.transaction(async (tx) => {
        let after: string | undefined
        for (;;) {
          const hosts = await tx.listHosts({}, { after, limit: WATCHED_AT_ONCE })
          for (const host of hosts) await tellMode(tx, host, nowMs)
          after = hosts.at(-1)?.hostId
          if (hosts.length < WATCHED_AT_ONCE) return
        }
      }),
  }
}

export type HostActs = ReturnType<typeof createHosts>

/** A host reported an encrypted VM: its encryption is on from now on, unless it was turned off. */
export async function noteEncryptedVm(
  tx: ControlPlaneTransaction,
  hostId: string,
  nowMs: number,
): Promise<void> {
  const host = await tx.findHost(hostId)
  if (!host) return
  const encryption = afterEncryptedVm(host.encryption)
  if (encryption === host.encryption) return
  await saveEncryption(tx, host, encryption, `host:${hostId}`, nowMs)
}

/** Whether a host gets keys, as far as its encryption mode goes. */
export async function mayHaveKeys(tx: ControlPlaneTransaction, hostId: string): Promise<boolean> {
  const host = await tx.findHost(hostId)
  return !host || !isOff(host.encryption)
}

/**
 * Before a person has something encrypted on a host: encryption is on there, or is turned on by this, which needs a
 * privilege of its own. Whether the host is attested is seen when it gets its keys.
 *
 * @throws PlatformError `FORBIDDEN`, `HOST_ENCRYPTION_OFF`
 */
export async function requireEncryptionHost(
  tx: ControlPlaneTransaction,
  act: Act,
  { hostId, cluster }: { readonly hostId: string; readonly cluster: string },
): Promise<void> {
  const setting = await settingOf(tx, hostId)
  if (setting === 'on') return
  if (setting === 'off') {
    const expected = `expected a host where encryption is not turned off, found ${hostId}`
    throw new PlatformError('HOST_ENCRYPTION_OFF', expected)
  }
  const rights = await tx.rightsOf(act)
  rights.require(['Cryptographer.RegisterHost'], { kind: 'cluster', name: cluster })
}

/** The first of these hosts where the caller may have something encrypted, as `requireEncryptionHost` says. */
export async function firstEncryptionHost<
  H extends { readonly hostId: string; readonly cluster: string },
>(tx: ControlPlaneTransaction, act: Act, hosts: readonly H[]): Promise<H | undefined> {
  const rights = await tx.rightsOf(act)
  for (const host of hosts) {
    const setting = await settingOf(tx, host.hostId)
    const mayPrepare = rights.may('Cryptographer.RegisterHost', {
      ...{ kind: 'cluster', name: host.cluster },
    })
    if (setting === 'on' || (setting === 'on-demand' && mayPrepare)) return host
  }
  return undefined
}

async function settingOf(
  tx: ControlPlaneTransaction,
  hostId: string,
): Promise<StoredEncryption['setting']> {
  return (await tx.findHost(hostId))?.encryption.setting ?? 'on-demand'
}

/** Lists that are not of one place are for whoever may see anything. @throws PlatformError `FORBIDDEN` */
export async function requireSomewhere(tx: ControlPlaneTransaction, act: Act): Promise<void> {
  if ((await tx.rightsOf(act)).mayAnywhere('System.Read')) return
  throw new PlatformError('FORBIDDEN', 'expected privilege System.Read, found it missing')
}

async function saveEncryption(
  tx: ControlPlaneTransaction,
  host: StoredHost,
  encryption: StoredEncryption,
  by: string,
  nowMs: number,
): Promise<StoredHost> {
  const set = { ...encryption, setBy: by, setAtMs: nowMs }
  await tx.saveHostEncryption(host.hostId, set)
  const changed = { ...host, encryption: set }
  await tellMode(tx, changed, nowMs)
  return changed
}

async function tellMode(
  tx: ControlPlaneTransaction,
  host: StoredHost,
  nowMs: number,
): Promise<void> {
  const { hostId, toldMode, encryption } = host
  const { mode, reason } = modeOf(host)
  if (mode === toldMode) return
  await tx.saveToldMode(hostId, mode)
  const detail = {
    ...{ mode, setting: encryption.setting },
    ...(toldMode === undefined ? {} : { before: toldMode }),
    ...(reason === undefined ? {} : { reason }),
  }
  const why = reason === undefined ? '' : ` (${reason})`
  await tx.addEvent({
    ...{ atMs: nowMs, severity: mode === 'incapable' && toldMode === 'safe' ? 'warning' : 'info' },
    ...{ type: 'host.encryption-mode', subject: `host:${hostId}`, detail },
    message: `encryption mode of host ${hostId} is ${mode}${why}`,
  })
}

/** A host on whose cluster the caller has a privilege: of others nobody says whether they exist. */
async function permittedHost(
  tx: ControlPlaneTransaction,
  act: Act,
  hostId: string,
  privilege: Privilege,
): Promise<StoredHost> {
  const host = await tx.findHost(hostId)
  const rights = await tx.rightsOf(act)
  const place = host ? ({ kind: 'cluster', name: host.cluster } as const) : SITE
  rights.require([privilege], place, `the cluster of host ${hostId}`)
  if (!host) throw new PlatformError('NOT_FOUND', `no host ${hostId}`)
  return host
}

async function countOf(tx: ControlPlaneTransaction, hostId: string): Promise<VmCount> {
  return (await tx.countVms([hostId])).get(hostId) ?? NO_VMS
}

async function viewOf(tx: ControlPlaneTransaction, host: StoredHost): Promise<InventoryHostView> {
  return hostView(host, await countOf(tx, host.hostId))
}

async function viewsOf(
  tx: ControlPlaneTransaction,
  hosts: readonly StoredHost[],
): Promise<readonly InventoryHostView[]> {
  const counts = await tx.countVms(hosts.map(({ hostId }) => hostId))
  return hosts.map((host) => hostView(host, counts.get(host.hostId) ?? NO_VMS))
}

function hostView(host: StoredHost, vms: VmCount): InventoryHostView {
  const { hostId, cluster, attestation, attestationChangedAtMs, lastSeenAtMs } = host
  const { setting, setBy, setAtMs } = host.encryption
  return {
    ...{ hostId, cluster, attestation, vms },
    attestationChangedAt: isoTime(attestationChangedAtMs),
    ...(lastSeenAtMs === undefined ? {} : { lastSeenAt: isoTime(lastSeenAtMs) }),
    encryption: {
      ...modeOf(host),
      setting,
      ...(setBy === undefined ? {} : { setBy }),
      ...(setAtMs === undefined ? {} : { setAt: isoTime(setAtMs) }),
    },
  }
}
