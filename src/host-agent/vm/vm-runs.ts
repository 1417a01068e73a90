import type { VmDetails } from '../../api/host-agent.js'
import { PlatformError } from '../../core/errors.js'
import { readLibvirtRecord } from '../libvirt/record.js'
import type { LibvirtInside } from '../libvirt/vm-libvirt.js'
import { encryptNvram } from './encrypt-nvram.js'
import type { Following } from './part-by-part.js'
import type { OnProgress } from './ports.js'
import { Progress } from './progress.js'
import { findRunning, startMachine, stopMachine } from './run.js'
import type { Starting } from './snapshot-memory.js'
import { detailsOf } from './vm-details.js'
import type { VmHost } from './vm-host.js'
import { allKeys } from './vm-parts.js'

const DEFAULT_GRACE_SECONDS = 30
const START_STEPS = 6
/** Of a start, when it comes to what an agent before left to be encrypted. */
const UPGRADE_PERCENT = 20
const STOP_STEPS = 3

/** VMs started and stopped, by the agent or by libvirt where that runs them. */
export interface VmRuns {
  /** @throws PlatformError `VM_RUNNING`, `VM_HAND_OVER`, `VM_KEY_WRONG`, `VM_DISK_CORRUPT`, `VM_NVRAM_CORRUPT`, `VTPM_STATE_…`, `VM_PROCESS` */
  start(name: string, onProgress?: OnProgress): Promise<VmDetails>
  /**
   * Asks the guest to power off, and powers off after the time that it has. While it has time the stop can be cancelled:
   * the VM runs on, unless its guest does what it was asked to.
   *
   * @throws PlatformError `VM_STOPPED`, `TASK_CANCELLED`
   */
  stop(
    name: string,
    options?: { readonly graceSeconds?: number | undefined },
    following?: Following,
  ): Promise<VmDetails>
}

export function createVmRuns(
  host: VmHost,
  deps: Starting & { readonly libvirt: Pick<LibvirtInside, 'startThere' | 'stopThere'> },
): VmRuns {
  const { programs, logger } = host
  const { firmware, chooseAccelerator, lockMemory, libvirt } = deps

  return {
    start: (name, onProgress = () => undefined) =>
      host.onFreeVm(name, async (found) => {
        const { descriptor, paths } = found
        const { vmId } = descriptor
        if (await readLibvirtRecord(paths)) return libvirt.startThere(found)
        await host.requireStopped(found)
        await host.requireOurs(found)
        const progress = new Progress(onProgress, START_STEPS)
        progress.begin('keys')
        return host.withKeys(found, allKeys(descriptor), async (foundHome, opened) => {
          progress.begin('accelerator')
          const accelerator = await chooseAccelerator()
          if (foundHome.vtpm) await host.vtpmStates.require(found, opened.of('vtpm'))
          const { vm, home } = await encryptNvram(host, found, {
            home: foundHome,
            keys: opened,
            onStep: (step) => onProgress(`home: ${step}`, UPGRADE_PERCENT),
          })
          const onStep = (step: string) => progress.begin(step)
          const record = await startMachine(
            { vmId, paths, home },
            { programs, firmware, accelerator, lockMemory, keys: opened, onStep },
          )
          host.watch(vm, record)
          logger.info({ event: 'vm.started', vmId, name }, 'a VM was started')
          await host.reports.tell(vm)
          progress.end()
          return detailsOf(vm, home)
        })
      }),

    stop: (
      name,
      { graceSeconds: seconds = DEFAULT_GRACE_SECONDS } = {},
      { onProgress = () => undefined, signal } = {},
    ) =>
      host
        .hold(
          name,
          'stop',
          async (vm) => {
            const { descriptor, paths } = vm
            signal?.throwIfAborted()
            if (await readLibvirtRecord(paths)) return libvirt.stopThere(vm, { seconds, signal })
            const record = await findRunning(paths)
            if (!record) {
              await host.requireStopped(vm)
              throw new PlatformError('VM_STOPPED', `VM ${name} does not run`)
            }
            const progress = new Progress(onProgress, STOP_STEPS)
            await stopMachine(paths, record, { seconds, signal }, (step) => progress.begin(step))
            progress.begin('settle')
            await host.settle(vm)
            const { vmId } = descriptor
            logger.info({ event: 'vm.stopped', vmId, name }, 'a VM was stopped')
            await host.reports.tell(vm)
            progress.end()
            return detailsOf(vm)
          },
          { evenExported: true },
        )
        .catch((error: unknown) => {
          if (!signal?.aborted || error !== signal.reason) throw error
          const message = `VM ${name} runs on; if its guest was asked to power off it may do so yet`
          throw new PlatformError('TASK_CANCELLED', message, { cause: error })
        }),
  }
}
