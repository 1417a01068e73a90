import { eraseDisk } from './disk.js'
import { isErrno } from './errno.js'
import { overwriteWithZeros } from './files.js'
import { inDirectory, removeTree } from './own-directory.js'
import type { Programs } from './programs.js'
import { removeSnapshotDirectory } from './snapshot-files.js'

const ALL_OCTETS = 1024 * 1024
/** Files that were made under keys of the VM, and what is secret without. */
const ERASED = ['keys.json', 'home.enc', 'vtpm-backup.permall', 'nvram.fd']

/**
 * Removes a directory of a VM that is no longer used, or never was: first the key slots of its disks, then the other
 * files that were made under its keys, then all of it. Can be called again after it was interrupted.
 *
 * What a copy-on-write file system or a drive keeps of overwritten octets is not reached; it is encrypted. What links in
 * it lead to stays as it is.
 */
export async function removeVmDirectory(programs: Programs, root: string): Promise<void> {
  await inDirectory(root, async (directory) => {
    for (const name of await directory.names()) {
      if (name.endsWith('.luks')) await eraseDisk(programs, directory.path(name))
    }
    await inDirectory(directory.path('snapshots'), async (snapshots) => {
      for (const name of await snapshots.names()) {
        await removeSnapshotDirectory(programs, snapshots.path(name))
      }
    })
    for (const file of ERASED) await erase(directory.path(file))
    await inDirectory(directory.path('vtpm'), (vtpm) => erase(vtpm.path('tpm2-00.permall')))
  })
  await removeTree(root)
}

async function erase(path: string): Promise<void> {
  await overwriteWithZeros(path, ALL_OCTETS).catch((error: unknown) => {
    if (!isErrno(error, 'ENOENT')) throw error
  })
}
