import type { VmReport } from '../../api/control-plane.js'
import { PlatformError } from '../../core/errors.js'
import type { ControlPlaneStore, HostCaller, NewEvent, StoredVm } from '../ports.js'

/** Who asks, and when. */
export interface Act {
  readonly operator: string
  readonly nowMs: number
}

/** Clusters, and the VMs that hosts report. */
export function createInventory(store: ControlPlaneStore) {
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
          actor: `operator:${act.operator}`,
          action: 'cluster.create',
          subject: `cluster:${name}`,
          outcome: 'done',
          detail: {},
        })
        return cluster
      }),

    listClusters: () => store.transaction((tx) => tx.listClusters()),

    listVms: (filter: { readonly cluster?: string; readonly hostId?: string }) =>
      store.transaction((tx) => tx.listVms(filter)),

    listEvents: (afterSeq: number, limit: number) =>
      store.transaction((tx) => tx.listEvents(afterSeq, limit)),

    /** Takes a host's word for its own VMs; a VM of another host is refused. */
    reportVm: (caller: HostCaller, vmId: string, report: VmReport, nowMs: number) =>
      store.transaction(async (tx) => {
        await tx.admit(caller, nowMs)
        const before = await tx.findVm(vmId)
        requireOwner(before, caller, vmId)
        await tx.saveVm({
          vmId,
          hostId: caller.hostId,
          cluster: caller.cluster,
          report,
          reportedAtMs: nowMs,
        })
        const change = changeOf(before, report)
        if (change) await tx.addEvent(info(nowMs, change.type, `vm:${vmId}`, change.message))
      }),

    forgetVm: (caller: HostCaller, vmId: string, nowMs: number) =>
      store.transaction(async (tx) => {
        await tx.admit(caller, nowMs)
        const before = await tx.findVm(vmId)
        requireOwner(before, caller, vmId)
        if (!before) return
        await tx.removeVm(vmId)
        const message = `VM ${before.report.name} deleted on ${caller.hostId}`
        await tx.addEvent(info(nowMs, 'vm.deleted', `vm:${vmId}`, message))
      }),
  }
}

export type Inventory = ReturnType<typeof createInventory>

function requireOwner(vm: StoredVm | undefined, caller: HostCaller, vmId: string): void {
  if (vm && vm.hostId !== caller.hostId) {
    throw new PlatformError(
      'FORBIDDEN',
      `expected a VM of host ${caller.hostId}, found ${vmId} elsewhere`,
    )
  }
}

function changeOf(
  before: StoredVm | undefined,
  report: VmReport,
): { readonly type: string; readonly message: string } | undefined {
  if (!before) return { type: 'vm.created', message: `VM ${report.name} made` }
  if (before.report.state === report.state) return undefined
  return report.state === 'running'
    ? { type: 'vm.started', message: `VM ${report.name} started` }
    : { type: 'vm.stopped', message: `VM ${report.name} stopped` }
}

function info(atMs: number, type: string, subject: string, message: string): NewEvent {
  return { atMs, severity: 'info', type, subject, message }
}
