import type { EventView, LockReason, VmReport, VmView } from '../../api/control-plane.js'
import { PlatformError } from '../../core/errors.js'
import { type Page, pageOf, readPage, readVisiblePage, type StoredPage } from '../../core/page.js'
import type { Caller } from '../../http/index.js'
import { SITE } from '../../people/index.js'
import { diskPart } from '../../storage-policies/index.js'
import type { VmFilter } from '../inventory-ports.js'
import type { ControlPlaneStore, HostCaller, NewEvent, StoredCluster, StoredVm } from '../ports.js'
import { noteEncryptedVm } from './hosts.js'
import { readableEvents } from './readable-events.js'
import { requireVm, viewOf } from './tags.js'
import { takeOver } from './take-over.js'
import { protectionChanges } from './vm-changes.js'
import { vmViews } from './vm-views.js'
import type { VtpmRevocations } from './vtpm-revocations.js'

/** Who asks, and when. */
export interface Act {
  readonly caller: Caller
  readonly operator: string
  /** For audit records: `user:anna`. */
  readonly actor: string
  readonly nowMs: number
}

const EVENTS_AT_ONCE = 1000

/** Clusters, and the VMs that hosts report. */
export function createInventory(
  store: ControlPlaneStore,
  revocations: Pick<VtpmRevocations, 'ofReport' | 'ofDeleted'>,
) {
  return {
    createCluster: (act: Act, name: string) =>
      store.transaction(async (tx) => {
        const cluster = { name, createdAtMs: act.nowMs }
        await tx.insertCluster(cluster)
        await tx.addEvent(
          info(act.nowMs, 'cluster.created', `cluster:${name}`, `cluster ${name} made`),
        )
        await tx.audit({
          atMs: act.nowMs,
          actor: act.actor,
          action: 'cluster.create',
          subject: `cluster:${name}`,
          outcome: 'done',
          detail: {},
        })
        return cluster
      }),

    /** Those that the caller may see, as of all that follow. */
    listClusters: (act: Act, page: StoredPage): Promise<Page<StoredCluster>> =>
      store.transaction(async (tx) => {
        const rights = await tx.rightsOf(act)
        const clusters = (await tx.listClusters()).filter(({ name }) =>
          rights.may('System.Read', { kind: 'cluster', name }),
        )
        return pageOf(clusters, page, ({ name }) => name)
      }),

    listVms: (act: Act, filter: VmFilter, page: StoredPage): Promise<Page<VmView>> =>
      store.transaction(async (tx) => {
        const rights = await tx.rightsOf(act)
        const { items, ...next } = await readVisiblePage(
          page,
          (part) => tx.listVms(filter, part),
          async (vms) => {
            if (rights.may('System.Read', SITE)) return vms
            const places = await tx.placesOfVms(vms.map(({ vmId }) => vmId))
            return vms.filter(({ vmId }) => rights.may('System.Read', places.get(vmId) ?? SITE))
          },
          ({ vmId }) => vmId,
        )
        return { items: await vmViews(tx, items), ...next }
      }),

    /** @throws PlatformError `FORBIDDEN`, `VM_NOT_FOUND` */
    getVm: (act: Act, vmId: string): Promise<VmView> =>
      store.transaction(async (tx) => {
        const rights = await tx.rightsOf(act)
        rights.require(['System.Read'], await tx.placeOfVm(vmId))
        return viewOf(tx, await requireVm(tx, vmId))
      }),

    /** As many as `limit` of the events that the caller may see. */
    async listEvents(act: Act, page: StoredPage): Promise<Page<EventView>> {
      return readPage(
        page,
        async ({ after, limit = EVENTS_AT_ONCE }) => {
          const found: EventView[] = []
          let from = Number(after ?? 0)
          while (found.length < limit) {
            const { events, last } = await readableEvents(store, act, from, EVENTS_AT_ONCE)
            found.push(...events)
            if (last === undefined) break
            from = last
          }
          return found.slice(0, limit)
        },
        ({ seq }) => String(seq),
      )
    },

    /** Takes a host's word for its own VMs; a VM of another host is refused, unless that was revoked. */
    reportVm: (caller: HostCaller, vmId: string, report: VmReport, nowMs: number) =>
      store.transaction(async (tx) => {
        await tx.admit(caller, nowMs)
        const before = await tx.findVm(vmId)
        if (!(await takeOver(tx, before, caller, nowMs))) requireOwner(before, caller, vmId)
        // a host that says again that it has the VM did not give it away after all
        await tx.removeHandOver(vmId)
        await tx.saveVm({
          vmId,
          hostId: caller.hostId,
          cluster: caller.cluster,
          report,
          reportedAtMs: nowMs,
        })
        for (const event of eventsOf(before, { vmId, hostId: caller.hostId, report }, nowMs)) {
          await tx.addEvent(event)
        }
        for (const { message, ...one } of before ? protectionChanges(before.report, report) : []) {
          await tx.addEvent({ ...info(nowMs, one.type, `vm:${vmId}`, message), ...one })
        }
        const by = { actor: `host:${caller.hostId}`, nowMs }
        await revocations.ofReport(tx, before, { vmId, report }, by)
        await tx.keepGivenPolicies(vmId, ['home', ...report.disks.map(diskPart)])
        if (report.provider !== undefined) await noteEncryptedVm(tx, caller.hostId, nowMs)
      }),

    forgetVm: (caller: HostCaller, vmId: string, nowMs: number) =>
      store.transaction(async (tx) => {
        await tx.admit(caller, nowMs)
        const before = await tx.findVm(vmId)
        requireOwner(before, caller, vmId)
        if (!before) return
        await tx.removeHandOver(vmId)
        await tx.removeVm(vmId)
        await tx.removeVtpmStates(vmId)
        await revocations.ofDeleted(tx, vmId, { actor: `host:${caller.hostId}`, nowMs })
        await tx.removeGivenPolicies(vmId)
        await tx.removeTags(vmId)
        const message = `VM ${before.report.name} deleted on ${caller.hostId}`
        await tx.addEvent(info(nowMs, 'vm.deleted', `vm:${vmId}`, message))
      }),
  }
}

export type Inventory = ReturnType<typeof createInventory>

/** @throws PlatformError `FORBIDDEN` for a VM that another host reported */
export function requireOwner(
  vm: Pick<StoredVm, 'hostId'> | undefined,
  caller: HostCaller,
  vmId: string,
): void {
  if (vm && vm.hostId !== caller.hostId) {
    throw new PlatformError(
      'FORBIDDEN',
      `expected a VM of host ${caller.hostId}, found ${vmId} elsewhere`,
    )
  }
}

function eventsOf(
  before: StoredVm | undefined,
  { vmId, hostId, report }: Pick<StoredVm, 'vmId' | 'hostId' | 'report'>,
  nowMs: number,
): readonly NewEvent[] {
  const { name, state, lock } = report
  const tell = (type: string, message: string) => info(nowMs, type, `vm:${vmId}`, message)
  const events: NewEvent[] = []
  if (!before) events.push(tell('vm.created', `VM ${name} made`))
  const was = before?.report.state ?? 'stopped'
  if (was === 'locked' && state !== 'locked') {
    const detail = { host: hostId, vm: name }
    events.push({ ...tell('vm.unlocked', `VM ${name} unlocked`), detail })
  }
  if (state === 'locked' && (was !== 'locked' || lock?.reason !== before?.report.lock?.reason)) {
    events.push(lockedEvent(tell('vm.locked', `VM ${name} is locked`), hostId, report))
  }
  if (state === 'running' && was !== 'running')
    events.push(tell('vm.started', `VM ${name} started`))
  if (state !== 'running' && was === 'running')
    events.push(tell('vm.stopped', `VM ${name} stopped`))
  return events
}

const LOCKED_SINCE: Readonly<Record<LockReason, string>> = {
  missing: 'its key is missing',
  unreachable: 'its key cannot be reached now',
  refused: 'its host does not get its key',
}

/** An alarm: somebody has to bring the key back where it is missing. */
function lockedEvent(event: NewEvent, host: string, { name, provider, lock }: VmReport): NewEvent {
  const { reason = 'missing', code = 'INTERNAL' } = lock ?? {}
  return {
    ...event,
    severity: reason === 'missing' ? 'error' : 'warning',
    message: `${event.message} on ${host}: ${LOCKED_SINCE[reason]} (${code})`,
    detail: { host, vm: name, ...(provider === undefined ? {} : { provider }), reason, code },
  }
}

function info(atMs: number, type: string, subject: string, message: string): NewEvent {
  return { atMs, severity: 'info', type, subject, message }
}
