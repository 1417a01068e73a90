import { forgetVm, reportVm, type VmReport } from '../../api/control-plane.js'
import { offerVm, takeVm, withdrawVm } from '../../api/vm-moves.js'
import { toBase64url } from '../../core/bytes.js'
import { isPlatformError, PlatformError } from '../../core/errors.js'
import { parseEnvelope } from '../../envelope/index.js'
import type { Inventory, InventoryVm } from '../vm/ports.js'
import type { Authority } from './authority.js'

/**
 * Reports of VMs to the control plane.
 *
 * @param place who this host is, once it is attested
 */
export function createInventory(authority: Authority, place: Inventory['place']): Inventory {
  return {
    place,
    async report({ vmId, ...vm }) {
      const call = authority.call(reportVm, { params: { vmId }, body: reportOf(vm) })
      await call.catch((cause: unknown) => {
        if (!isPlatformError(cause, 'FORBIDDEN')) throw cause
        throw new PlatformError('VM_HAND_OVER', `VM ${vmId} is of another host`, { cause })
      })
    },
    async forget(vmId) {
      await authority.call(forgetVm, { params: { vmId } })
    },
    async offer(vmId, { exportId, ticketDigest }) {
      const body = { exportId, ticketDigest: toBase64url(ticketDigest) }
      await authority.call(offerVm, { params: { vmId }, body })
    },
    async withdraw(vmId) {
      await authority.call(withdrawVm, { params: { vmId } })
    },
    async take({ vmId, ...vm }, { exportId, ticket }) {
      const body = { exportId, ticket: toBase64url(ticket), report: reportOf(vm) }
      await authority.call(takeVm, { params: { vmId }, body })
    },
  }
}

function reportOf({ keys, ...report }: Omit<InventoryVm, 'vmId'>): VmReport {
  const home = keys.find(({ object }) => object === 'home')
  return {
    ...report,
    ...(home ? { key: wrappingKeyOf(home.wrapped) } : {}),
    keys: keys.map(({ object, wrapped }) => ({ object, ...wrappingKeyOf(wrapped) })),
  }
}

function wrappingKeyOf(wrapped: string): NonNullable<VmReport['key']> {
  const { provider, version } = parseEnvelope(wrapped).header
  return { providerId: provider, version }
}
