import { createHash } from 'node:crypto'
import type { VmReport } from '../../api/control-plane.js'
import { timingSafeEqual } from '../../core/bytes.js'
import { PlatformError } from '../../core/errors.js'
import { SITE } from '../../people/index.js'
import type {
  ControlPlaneStore,
  ControlPlaneTransaction,
  HostCaller,
  StoredHandOver,
} from '../ports.js'
import type { Act } from './inventory.js'
import type { VtpmRevocations } from './vtpm-revocations.js'

/**
 * VMs that go from one host to another of the same cluster. A VM is of one host at every moment: it is the new one's from
 * the transaction on in which that shows the ticket, which only a host can derive that has the home key.
 *
 * Every method throws `DPOP_REPLAYED`, `HOST_STATUS`.
 */
export function createHandOvers(
  store: ControlPlaneStore,
  revocations: Pick<VtpmRevocations, 'ofReport'>,
) {
  return {
    /** Of the VMs that the caller may see. */
    list: (act: Act) =>
      store.transaction(async (tx) => {
        const rights = await tx.rightsOf(act)
        const all = await tx.listHandOvers()
        const places = await tx.placesOfVms(all.map(({ vmId }) => vmId))
        return all.filter(({ vmId }) => rights.may('System.Read', places.get(vmId) ?? SITE))
      }),

    /** @throws PlatformError `VM_HAND_OVER` for a VM that the host does not have */
    offer: (
      caller: HostCaller,
      offered: Pick<StoredHandOver, 'vmId' | 'exportId' | 'ticketDigest'>,
      nowMs: number,
    ) =>
      store.transaction(async (tx) => {
        await tx.admit(caller, nowMs)
        const { vmId, exportId } = offered
        const vm = await tx.findVm(vmId)
        if (vm?.hostId !== caller.hostId) throw ofAnother(vmId, vm?.hostId)
        const { hostId, cluster } = caller
        await tx.saveHandOver({ ...offered, hostId, cluster, offeredAtMs: nowMs })
        await record(tx, caller, nowMs, {
          type: 'vm.handed-over',
          vmId,
          message: `VM ${vm.report.name} handed over by ${hostId}`,
          detail: { exportId, from: hostId },
        })
      }),

    /** What no host took is as if it was never handed over. @throws PlatformError `VM_HAND_OVER` */
    withdraw: (caller: HostCaller, vmId: string, nowMs: number) =>
      store.transaction(async (tx) => {
        await tx.admit(caller, nowMs)
        const vm = await tx.findVm(vmId)
        if (vm && vm.hostId !== caller.hostId) throw ofAnother(vmId, vm.hostId)
        const handOver = await tx.findHandOver(vmId)
        if (!handOver) return
        await tx.removeHandOver(vmId)
        await record(tx, caller, nowMs, {
          type: 'vm.taken-back',
          vmId,
          message: `VM ${vm?.report.name ?? vmId} taken back by ${caller.hostId}`,
          detail: { exportId: handOver.exportId, from: caller.hostId },
        })
      }),

    /**
     * Can be asked again by the host that took the VM. A VM that no host has is anybody's who has its home key: it was
     * deleted, and is put back from a copy.
     *
     * @throws PlatformError `VM_HAND_OVER`, also for a host of another cluster
     */
    take: (
      caller: HostCaller,
      shown: {
        readonly vmId: string
        readonly exportId: string
        readonly ticket: Uint8Array
        readonly report: VmReport
      },
      nowMs: number,
    ) =>
      store.transaction(async (tx) => {
        await tx.admit(caller, nowMs)
        const { vmId, exportId, ticket, report } = shown
        const { hostId, cluster } = caller
        const vm = await tx.findVm(vmId)
        const isMove = vm !== undefined && vm.hostId !== hostId
        if (isMove) {
          const handOver = await tx.findHandOver(vmId)
          const digest = createHash('sha256').update(ticket).digest()
          if (
            handOver?.exportId !== exportId ||
            handOver.hostId !== vm.hostId ||
            !timingSafeEqual(digest, handOver.ticketDigest)
          ) {
            throw ofAnother(vmId, vm.hostId)
          }
          if (vm.cluster !== cluster) {
            throw new PlatformError(
              'VM_HAND_OVER',
              `expected a host of cluster ${vm.cluster}, found ${hostId} of ${cluster}`,
            )
          }
        }
        await tx.removeHandOver(vmId)
        await tx.saveVm({ vmId, hostId, cluster, report, reportedAtMs: nowMs })
        await revocations.ofReport(tx, vm, { vmId, report }, { actor: `host:${hostId}`, nowMs })
        await record(tx, caller, nowMs, {
          type: isMove ? 'vm.moved' : 'vm.imported',
          vmId,
          message: isMove
            ? `VM ${report.name} moved from ${vm.hostId} to ${hostId}`
            : `VM ${report.name} imported by ${hostId}`,
          detail: { exportId, to: hostId, ...(isMove ? { from: vm.hostId } : {}) },
        })
      }),
  }
}

export type HandOvers = ReturnType<typeof createHandOvers>

async function record(
  tx: ControlPlaneTransaction,
  caller: HostCaller,
  atMs: number,
  what: {
    readonly type: string
    readonly vmId: string
    readonly message: string
    readonly detail: { readonly [name: string]: string }
  },
): Promise<void> {
  const { type, message, detail } = what
  const subject = `vm:${what.vmId}`
  await tx.addEvent({ atMs, severity: 'info', type, subject, message, detail })
  await tx.audit({
    ...{ atMs, actor: `host:${caller.hostId}`, action: type, subject, outcome: 'done' },
    detail: { ...detail, token: caller.tokenId },
  })
}

function ofAnother(vmId: string, hostId: string | undefined): PlatformError {
  return new PlatformError(
    'VM_HAND_OVER',
    `expected a VM of this host, or one that was handed over to it, found ${vmId} with ${hostId ?? 'no host'}`,
  )
}
