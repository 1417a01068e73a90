import { chmod, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { PlatformError } from '../../core/errors.js'
import type { StoredVm } from '../vm/vm-store.js'

const ENTER = 0o011

/**
 * Lets QEMU, which libvirt runs as a user of its own, pass through the directory of the VM to the disks, which libvirt
 * gives to that user while the VM runs. Names of files cannot be listed, and every other file is of mode 0600.
 *
 * @throws PlatformError `LIBVIRT_DIRECTORY` where a directory above cannot be passed through: that is not ours to change
 */
export async function letQemuThrough({ paths }: StoredVm): Promise<void> {
  const vms = dirname(paths.root)
  for (let above = dirname(vms); ; above = dirname(above)) {
    if (((await stat(above)).mode & 0o001) === 0) {
      throw new PlatformError(
        'LIBVIRT_DIRECTORY',
        `the QEMU of libvirt cannot pass through ${above} to ${paths.root}: set vm.directory to a place that it can reach`,
      )
    }
    if (above === '/') break
  }
  for (const directory of [vms, paths.root]) await chmod(directory, 0o700 | ENTER)
}

/** The directory of the VM is private again. */
export async function keepQemuOut({ paths }: StoredVm): Promise<void> {
  await chmod(paths.root, 0o700)
}
