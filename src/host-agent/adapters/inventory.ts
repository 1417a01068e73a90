import { forgetVm, reportVm, type VmReport } from '../../api/control-plane.js'
import { parseEnvelope } from '../../envelope/index.js'
import type { Inventory } from '../vm/ports.js'
import type { Authority } from './authority.js'

/** Reports of VMs to the control plane. */
export function createInventory(authority: Authority): Inventory {
  return {
    async report({ vmId, keys, ...report }) {
      const wrapping = keys.map(({ object, wrapped }) => ({ object, ...wrappingKeyOf(wrapped) }))
      const home = keys.find(({ object }) => object === 'home')
      const key = home ? { key: wrappingKeyOf(home.wrapped) } : {}
      await authority.call(reportVm, {
        params: { vmId },
        body: { ...report, ...key, keys: wrapping },
      })
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
