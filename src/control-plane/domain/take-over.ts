import type { ControlPlaneTransaction, HostCaller, StoredVm } from '../ports.js'

/**
 * Gives a VM of a host that was revoked, or removed after that, to a host of the same cluster that says that it has the VM: it
 * has the files from shared storage or a backup, and whether it gets the keys is for the key provider.
 *
 * @returns whether the VM was given; false also for one that is not to be
 */
export async function takeOver(
  tx: ControlPlaneTransaction,
  vm: StoredVm | undefined,
  caller: HostCaller,
  nowMs: number,
): Promise<boolean> {
  if (!vm || vm.hostId === caller.hostId || vm.cluster !== caller.cluster) return false
  const owner = await tx.findHost(vm.hostId)
  if (owner && owner.attestation !== 'revoked') return false
  const subject = `vm:${vm.vmId}`
  const detail = { from: vm.hostId, to: caller.hostId }
  await tx.addEvent({
    ...{ atMs: nowMs, severity: 'warning', type: 'vm.taken-over', subject, detail },
    message: `VM ${vm.report.name} of ${vm.hostId}, which is revoked, taken over by ${caller.hostId}`,
  })
  await tx.audit({
    ...{ atMs: nowMs, actor: `host:${caller.hostId}`, action: 'vm.taken-over', subject },
    ...{ outcome: 'done', detail: { ...detail, token: caller.tokenId } },
  })
  return true
}
