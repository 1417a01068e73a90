import { forgetVm, reportVm } from '../../api/control-plane.js'
import type { Inventory } from '../vm/ports.js'
import type { Authority } from './authority.js'

/** Reports of VMs to the control plane. */
export function createInventory(authority: Authority): Inventory {
  return {
    async report({ vmId, ...report }) {
      await authority.call(reportVm, { params: { vmId }, body: report })
    },
    async forget(vmId) {
      await authority.call(forgetVm, { params: { vmId } })
    },
  }
}
