import type { VmDetails } from '../../api/host-agent.js'
import { PlatformError } from '../../core/errors.js'
import { exportVm, unlockVm } from './export-vm.js'
import { type FoundExport, importVm, readExport } from './import-vm.js'
import { resumeMachine } from './machine-state.js'
import { OctetProgress } from './octet-progress.js'
import type { Following } from './part-by-part.js'
import type { ExportedMark } from './records.js'
import { findRunning } from './run.js'
import { detailsOf } from './vm-details.js'
import type { VmHost } from './vm-host.js'
import { homeKey } from './vm-parts.js'
import type { VmStore } from './vm-store.js'

/** VMs that leave this host and come to it, encrypted as they are. */
export interface VmMoves {
  /**
   * Writes a stopped VM with its snapshots to a directory that does not exist yet. With `move` it is locked here and of the host that
   * imports it.
   *
   * @throws PlatformError `VM_EXPORT_TARGET`, `VM_HOME_PLAIN`, `VM_RUNNING`, `VM_BUSY`, `VM_DISK_FULL`; `VM_EXPORTED`, or
   *   `VM_HAND_OVER` for one that another host has taken
   */
  export(
    name: string,
    request: { readonly directory: string; readonly move?: boolean | undefined },
    following?: Following,
  ): Promise<VmDetails>
  /**
   * @param request.taskId remembered with the VM, for `factsOfBrought`
   * @throws PlatformError `VM_EXISTS`, `VM_EXPORT_CORRUPT`, `VM_HAND_OVER`, and what opening the VM throws
   */
  import(
    request: { readonly directory: string; readonly taskId?: string | undefined },
    following?: Following,
  ): Promise<VmDetails>
  /** Unlocks a VM that was handed over. @throws PlatformError `VM_HAND_OVER` when a host took it, or it was not */
  takeBack(name: string): Promise<VmDetails>
}

export function createVmMoves(host: VmHost): VmMoves {
  const { store, inventory, logger } = host

  return {
    export: (name, { directory, move = false }, { onProgress = () => undefined, signal } = {}) =>
      host.claim(
        name,
        'export',
        async (vm) => {
          const { descriptor } = vm
          const { vmId } = descriptor
          if (descriptor.provider === undefined) {
            throw new PlatformError('VM_HOME_PLAIN', `VM ${name} is plain: copy its files`)
          }
          if (vm.exported && !move) throw exported(name)
          // An agent that ended while it told of it: it was done
          if (vm.exported && (await isWritten(directory, vm.exported))) return detailsOf(vm)
          // The VM is this host's, and the control plane knows it: nobody can import a copy beside it
          if (vm.exported) await inventory.withdraw(vmId)
          else await inventory.report(await host.reports.describe(vm))
          const objects = [...homeKey(descriptor), ...(descriptor.vtpm ? (['vtpm'] as const) : [])]
          await host.withKeys(vm, objects, async (home, opened) => {
            await exportVm(host, vm, home, { directory, move, opened, onProgress, signal })
          })
          logger.info({ event: 'vm.exported', vmId, name, directory, move }, 'a VM was exported')
          return detailsOf(await store.find(name))
        },
        { evenExported: true, withSnapshots: true },
      ),

    import: async ({ directory, taskId }, { onProgress = () => undefined, signal } = {}) => {
      await store.prepare()
      const found = await readExport(directory)
      const { name, vmId } = found.descriptor
      return host.onName(name, async () => {
        await requirePlace(store, found)
        const total = found.sealed.manifest.parts.reduce((sum, { octets }) => sum + octets, 0)
        const progress = new OctetProgress(onProgress, total)
        await importVm(host, found, { progress, signal, taskId })
        logger.info({ event: 'vm.imported', vmId, name, directory }, 'a VM was imported')
        const vm = await store.find(name)
        // also where it was to be told that the VM is gone
        await host.reports.tell(vm)
        progress.end()
        return detailsOf(vm)
      })
    },

    takeBack: (name) =>
      host.onFreeVm(
        name,
        async (vm) => {
          const { vmId } = vm.descriptor
          if (!vm.exported) {
            throw new PlatformError('VM_HAND_OVER', `VM ${name} was not handed over`)
          }
          await inventory.withdraw(vmId)
          await unlockVm(vm)
          if (await findRunning(vm.paths)) await resumeMachine(vm.paths)
          logger.info({ event: 'vm.taken-back', vmId, name }, 'a VM was taken back')
          const unlocked = await store.find(name)
          await host.reports.tell(unlocked)
          return detailsOf(unlocked)
        },
        { evenExported: true },
      ),
  }
}

/** @throws PlatformError `VM_EXISTS`, with what is there and what can be done about it */
async function requirePlace(
  store: VmStore,
  { descriptor: { name, vmId }, sealed: { manifest } }: FoundExport,
): Promise<void> {
  const there = (await store.list()).find(
    ({ descriptor }) => descriptor.vmId === vmId || descriptor.name === name,
  )
  if (!there) return
  const { descriptor, exported } = there
  const say = (message: string) => new PlatformError('VM_EXISTS', message)
  if (descriptor.vmId !== vmId) throw say(`another VM has the name ${name}, ${descriptor.vmId}`)
  if (exported) {
    throw say(`VM ${name} was handed over from here: take it back, or delete what is left of it`)
  }
  const brought = await store.readBrought(there)
  const isSame = brought?.exportId === manifest.exportId
  throw say(`VM ${name} is here${isSame ? ': it was imported from this export' : ' already'}`)
}

/** Whether the directory has the export by which the VM was handed over. */
async function isWritten(directory: string, { exportId }: ExportedMark): Promise<boolean> {
  try {
    return (await readExport(directory)).sealed.manifest.exportId === exportId
  } catch {
    return false
  }
}

function exported(name: string): PlatformError {
  return new PlatformError('VM_EXPORTED', `VM ${name} was handed over to another host`)
}
