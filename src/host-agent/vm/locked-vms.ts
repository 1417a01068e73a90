import type { VmDetails } from '../../api/host-agent.js'
import { messageOf } from '../../core/errors.js'
import { isRunning } from './running.js'
import { tryKeys, type UnlockLoop } from './unlock-loop.js'
import { detailsOf } from './vm-details.js'
import type { VmHost } from './vm-host.js'
import type { StoredVm } from './vm-store.js'

/**
 * VMs whose keys cannot be had: they are locked, and cannot be started. What opens the keys of a stopped VM and fails locks it;
 * what opens all of them unlocks it. These are the ways that are not part of another operation.
 */
export interface LockedVms {
  /**
   * Tries to have all keys of a VM now; locked VMs are tried by themselves, too.
   *
   * @throws PlatformError `VM_BUSY`, `VM_HOME_CORRUPT`, and of the key provider: it stays locked then
   */
  unlock(name: string): Promise<VmDetails>
  /** Keys may be here that were not before: tries all locked VMs now. Never throws. */
  unlockAll(): Promise<void>
  /** Keys of these providers are not here: finds stopped VMs that need them, and locks those. Never throws. */
  lockThoseWithoutKeys(providers: readonly string[]): Promise<void>
  /**
   * The host gets no keys any more, for this reason: locks all encrypted VMs that are stopped. Those that run go on, or are
   * stopped and locked, all at once: their guests are asked, then they are powered off. Never throws.
   */
  refuseHost(error: unknown, running: 'keep' | { readonly graceSeconds: number }): Promise<void>
}

export function createLockedVms(
  host: VmHost,
  unlocking: UnlockLoop,
  stop: (name: string, options: { readonly graceSeconds: number }) => Promise<unknown>,
): LockedVms {
  let stopping: Promise<void> | undefined

  /** One after another; what one VM comes to is logged and does not keep the others. */
  const onStopped = async (work: (vm: StoredVm) => Promise<unknown>): Promise<void> => {
    await host.store.prepare()
    for (const vm of await host.store.list()) {
      if (await isRunning(vm.paths)) continue
      await work(vm).catch((error: unknown) => {
        const { name } = vm.descriptor
        const reason = messageOf(error)
        host.logger.info({ event: 'vm.no-keys', name, reason }, 'keys of a VM cannot be had')
      })
    }
  }

  const stopEncrypted = async (options: { readonly graceSeconds: number }): Promise<void> => {
    const stops = (await host.store.list()).map(async ({ descriptor, paths }) => {
      const { vmId, name, provider } = descriptor
      if (provider === undefined || !(await isRunning(paths))) return
      host.logger.warn({ event: 'vm.stopped-for-host', vmId, name }, 'the host is refused')
      await stop(name, options).catch((error: unknown) => {
        // it ended by itself, or is tried again when the host is refused the next time
        const reason = messageOf(error)
        host.logger.warn({ event: 'vm.stop-failed', vmId, name, reason }, 'a VM was not stopped')
      })
    })
    await Promise.all(stops)
  }

  return {
    unlock: async (name) => detailsOf(await tryKeys(host, name)),

    unlockAll: () => unlocking.tryNow(),

    lockThoseWithoutKeys: (providers) =>
      onStopped(async ({ descriptor: { name, provider } }) => {
        if (provider !== undefined && providers.includes(provider)) await tryKeys(host, name)
      }),

    refuseHost: async (error, running) => {
      const lock = ({ descriptor }: StoredVm) =>
        host.onVm(descriptor.name, (vm) => host.lock(vm, error))
      await onStopped(lock)
      if (running === 'keep') return
      stopping ??= stopEncrypted(running).finally(() => {
        stopping = undefined
      })
      await stopping
      await onStopped(lock)
    },
  }
}
