import type { VmDetails } from '../../api/host-agent.js'
import { PlatformError } from '../../core/errors.js'
import { changeProvider } from './change-part.js'
import { OctetProgress } from './octet-progress.js'
import type { Following } from './part-by-part.js'
import { rewrapVm } from './rewrap.js'
import type { VmHost } from './vm-host.js'

export interface VmRewrap {
  /**
   * Has all keys of a VM wrapped anew, by its provider or by another: its data keys stay what they are, and so do its disks
   * (a shallow recrypt). The VM may run. Wrapped keys that are not needed any more are released.
   *
   * Another provider: every key is unwrapped by the one, wrapped by the other, and unwrapped by that for comparison, before
   * all of them change in one moment.
   *
   * @throws PlatformError `VM_NOT_FOUND`, `VM_BUSY`, `VM_PLAIN`, `VM_KEY_WRONG`, or of the key providers
   */
  rewrap(
    name: string,
    request: { readonly provider?: string | undefined },
    following?: Following,
  ): Promise<VmDetails>
}

export function createVmRewrap(host: VmHost): VmRewrap {
  return {
    rewrap: (name, { provider }, { onProgress = () => undefined, signal } = {}) =>
      host.claim(
        name,
        'rewrap',
        async (vm) => {
          const { vmId, provider: current } = vm.descriptor
          if (current === undefined) {
            throw new PlatformError('VM_PLAIN', `all of VM ${name} is not encrypted`)
          }
          const progress = new OctetProgress(onProgress, 0)
          progress.begin('keys')
          if (provider === undefined || provider === current) {
            await rewrapVm(host, vm, await host.store.readKeys(vm))
          } else {
            const work = { progress, signal, compare: 'samples' as const }
            await changeProvider(host, vm, provider, work)
          }
          const event = { event: 'vm.rewrapped', vmId, name, provider: provider ?? current }
          host.logger.info(event, 'keys of a VM were wrapped anew')
          const now = await host.store.find(name)
          await host.report(now)
          progress.end()
          return host.details(now)
        },
        { mayRun: true },
      ),
  }
}
