import { forgetVm, reportVm, type VmReport } from '../../api/control-plane.js'
import { parseEnvelope } from '../../envelope/index.js'
import type { Inventory } from '../vm/ports.js'
import type { Authority } from './authority.js'

/** Reports of VMs to the control plane. */
export function createInventory(authority: Authority): Inventory {
  return {
    async report({ vmId, homeKey, ...report }) {
      const key = homeKey === undefined ? {} : { key: wrappingKeyOf(homeKey) }
      await authority.call(reportVm, { params: { vmId }, body: { ...report, ...key } })
    },
    async forget(vmId) {
      await authority.call(forgetVm, { params: { vmId } })
    },
  }
}

function wrappingKeyOf(wrapped: string): NonNullable<VmReport['key']> {
  const { provider, version } = parseEnvelope(wrapped).header
  return { providerId: provider, version }
}
