import type { PartPolicy, VmReport, VmView } from '../../api/control-plane.js'
import { isoTime } from '../../core/clock.js'
import {
  complianceOf,
  diskPart,
  type PolicyPart,
  type VmProtection,
  type Wanted,
} from '../../storage-policies/index.js'
import type { GivenPolicy } from '../inventory-ports.js'
import type { ControlPlaneTransaction, StoredVm } from '../ports.js'
import { impliedPolicy, policyByName } from './storage-policies.js'

/** VMs with their tags, and with how their parts are beside their storage policies. */
export async function vmViews(
  tx: ControlPlaneTransaction,
  vms: readonly StoredVm[],
): Promise<readonly VmView[]> {
  const vmIds = vms.map(({ vmId }) => vmId)
  const tags = await tx.listTags(vmIds)
  const given = await tx.listGivenPolicies(vmIds)
  const now = new Map<string, Wanted>()
  for (const name of new Set(given.map(({ policy }) => policy))) {
    now.set(name, await policyByName(tx, name))
  }
  return vms.map(({ reportedAtMs, ...vm }) => {
    const own = new Map(
      given.filter(({ vmId }) => vmId === vm.vmId).map((policy) => [policy.part, policy]),
    )
    return {
      ...vm,
      reportedAt: isoTime(reportedAtMs),
      tags: [...(tags.get(vm.vmId) ?? [])],
      policies: policiesOf(vm.report, own, now),
    }
  })
}

/** How a VM is encrypted, as its host said. */
export function protectionOf({ name, provider, vtpm, disks }: VmReport): VmProtection {
  return {
    ...{ name, vtpm },
    ...(provider === undefined ? {} : { provider }),
    disks: disks.map(({ name, encrypted }) => ({ name, encrypted })),
  }
}

function policiesOf(
  report: VmReport,
  given: ReadonlyMap<PolicyPart, GivenPolicy>,
  policies: ReadonlyMap<string, Wanted>,
): VmView['policies'] {
  const vm = protectionOf(report)
  const viewOf = (part: PolicyPart, disk: string | undefined, encrypted: boolean): PartPolicy => {
    const own = given.get(part)
    const now = own && policies.get(own.policy)
    if (!own || !now) {
      return { policy: impliedPolicy(encrypted), given: false, compliance: 'compliant' }
    }
    const { state, ...reason } = complianceOf(vm, disk, { ...own, now })
    return { policy: own.policy, given: true, compliance: state, ...reason }
  }
  return {
    home: viewOf('home', undefined, vm.provider !== undefined),
    disks: vm.disks.map((disk) => ({
      name: disk.name,
      ...viewOf(diskPart(disk), disk.name, disk.encrypted),
    })),
  }
}
