import { changeVm } from './change-vm.js'
import { copyNvram, newNvram, openNvram } from './nvram.js'
import { descriptorOf, type Home } from './records.js'
import { nvramName } from './vm-files.js'
import type { VmHost } from './vm-host.js'
import type { VmKeys } from './vm-keys.js'
import type { StoredVm } from './vm-store.js'

/**
 * Encrypts the variables of the firmware of a stopped VM whose home is encrypted, in one moment: agents before left them plain.
 * Nothing is done for any other VM. The operation has the turn on it.
 *
 * @param options.keys that of the home
 * @returns the VM and its home as they are then
 * @throws PlatformError `VM_NVRAM_CORRUPT`, `VM_COPY_DIFFERS`, `VM_DISK_FULL`, `VM_PROCESS`; the VM is as before then
 */
export async function encryptNvram(
  host: VmHost,
  vm: StoredVm,
  options: {
    readonly home: Home
    readonly keys: VmKeys
    readonly onStep?: (step: string) => void
  },
): Promise<{ readonly vm: StoredVm; readonly home: Home }> {
  const { home, keys, onStep = () => undefined } = options
  if (home.provider === undefined || home.nvram) return { vm, home }
  const { vmId, name } = vm.descriptor
  const homeKey = keys.of('home')
  let changed = home
  await changeVm(host, vm, { onStep, hasTurn: true }, async (staged) => {
    onStep('nvram')
    using from = await openNvram({ vmId, paths: vm.paths, home }, keys)
    using target = newNvram({ vmId, paths: staged }, from.file.sizeOctets, homeKey)
    await copyNvram(host.programs, from, target, undefined)
    changed = { ...home, ...target.home }
    return {
      ...{ home: changed, homeKey, newKeys: [], goneKeys: [] },
      files: { put: [nvramName(changed.nvram)], drop: [nvramName(home.nvram)] },
    }
  })
  host.logger.info({ event: 'vm.nvram-encrypted', vmId, name }, 'firmware variables were encrypted')
  return { vm: { ...vm, descriptor: descriptorOf(changed, vm.descriptor) }, home: changed }
}
