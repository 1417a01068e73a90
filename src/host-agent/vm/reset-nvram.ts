import type { VmDetails } from '../../api/host-agent.js'
import type { Firmware } from './accelerator.js'
import { changeVm } from './change-vm.js'
import { newNvram, nvramOctets, writeNvram } from './nvram.js'
import { detailsOf } from './vm-details.js'
import { nvramName } from './vm-files.js'
import type { VmHost } from './vm-host.js'
import { homeKey } from './vm-parts.js'

export interface VmNvram {
  /**
   * Gives a stopped VM the variables of a new machine, encrypted if its home is: the way on where its own are damaged. What the
   * guest and the firmware had in them is lost: boot entries, Secure Boot keys, passwords. The VM may have snapshots.
   *
   * @throws PlatformError `VM_RUNNING`, `VM_BUSY`, `VM_DISK_FULL`, `VM_PROCESS`; the VM is as before then
   */
  resetNvram(name: string): Promise<VmDetails>
}

export function createVmNvram(host: VmHost, { variables }: Firmware): VmNvram {
  const { programs, store, logger } = host
  return {
    resetNvram: (name) =>
      host.claim(
        name,
        'reset-nvram',
        async (vm) => {
          const { vmId, provider } = vm.descriptor
          await host.withKeys(vm, homeKey(vm.descriptor), (home, opened) =>
            changeVm(host, vm, {}, async (staged) => {
              const key = provider === undefined ? undefined : opened.of('home')
              using fresh = newNvram({ vmId, paths: staged }, await nvramOctets(variables), key)
              await writeNvram(programs, variables, fresh)
              const { nvram: old, ...rest } = home
              const [oldName, newName] = [nvramName(old), nvramName(fresh.home.nvram)]
              return {
                ...{ home: { ...rest, ...fresh.home }, homeKey: key, newKeys: [], goneKeys: [] },
                files: { put: [newName], drop: oldName === newName ? [] : [oldName] },
              }
            }),
          )
          logger.warn({ event: 'vm.nvram-reset', vmId, name }, 'a VM has new firmware variables')
          return detailsOf(await store.find(name))
        },
        { withSnapshots: true },
      ),
  }
}
