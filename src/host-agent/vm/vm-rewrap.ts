import type { VmDetails } from '../../api/host-agent.js'
import { messageOf, PlatformError } from '../../core/errors.js'
import { changeProvider } from './change-part.js'
import { OctetProgress } from './octet-progress.js'
import type { Following } from './part-by-part.js'
import type { OnProgress } from './ports.js'
import { Progress } from './progress.js'
import { rewrapVm } from './rewrap.js'
import { detailsOf } from './vm-details.js'
import type { VmHost } from './vm-host.js'

/** The same data keys, wrapped anew (a shallow recrypt). VMs may run. */
export interface VmRewrap {
  /**
   * Has all keys of a VM wrapped anew, by its provider or by another: its data keys stay what they are, and so do its disks.
   * Wrapped keys that are not needed any more are released.
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
  /**
   * Has the keys of all VMs wrapped anew, or of those of one provider, one VM after the other. Ended anywhere, it can be
   * called again and goes on. What a VM keeps from it does not keep it from the others.
   *
   * @throws PlatformError the first of the key provider, or `VM_BUSY`, when all were tried
   */
  rewrapKeys(provider: string | undefined, onProgress?: OnProgress): Promise<void>
}

export function createVmRewrap(host: VmHost): VmRewrap {
  const { store, logger, releases } = host

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
            await rewrapVm(host, vm, await store.readKeys(vm))
          } else {
            const work = { progress, signal, compare: 'samples' as const }
            await changeProvider(host, vm, provider, work)
          }
          const event = { event: 'vm.rewrapped', vmId, name, provider: provider ?? current }
          logger.info(event, 'keys of a VM were wrapped anew')
          const now = await store.find(name)
          await host.reports.tell(now)
          progress.end()
          return detailsOf(now)
        },
        { mayRun: true },
      ),

    rewrapKeys: async (provider, onProgress = () => undefined) => {
      await store.prepare()
      const vms = (await store.list()).filter(
        ({ descriptor, exported }) =>
          !exported &&
          descriptor.provider !== undefined &&
          (provider === undefined || descriptor.provider === provider),
      )
      const progress = new Progress(onProgress, vms.length + 1)
      const failed: unknown[] = []
      for (const { descriptor } of vms) {
        const { vmId, name } = descriptor
        progress.begin(name)
        try {
          const count = await host.onFreeVm(name, async (vm) => {
            await host.requireOurs(vm)
            const renewed = await rewrapVm(host, vm, await store.readKeys(vm))
            if (renewed > 0) await host.reports.tell(vm)
            return renewed
          })
          logger.info({ event: 'vm.keys-rewrapped', vmId, name, count }, 'keys were wrapped anew')
        } catch (error) {
          // The others go on; the first failure is what the whole comes to.
          failed.push(error)
          const reason = messageOf(error)
          logger.warn({ event: 'vm.rewrap-failed', vmId, name, reason }, 'keys are as they were')
        }
      }
      progress.begin('release')
      await releases.flush()
      if (failed.length > 0) throw failed[0]
      progress.end()
    },
  }
}
