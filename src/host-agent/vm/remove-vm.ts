import { readdir, rm } from 'node:fs/promises'
import { eraseDisk } from './disk.js'
import { isErrno } from './errno.js'
import { overwriteWithZeros } from './files.js'
import { pathsOf } from './layout.js'
import type { Programs } from './programs.js'
import { removeSnapshotDirectory } from './snapshot-files.js'

const ALL_OCTETS = 1024 * 1024

/**
 * Removes a directory of a VM that is no longer used, or never was: first the key slots of its disks, then the other
 * files that were made under its keys, then all of it. Can be called again after it was interrupted.
 *
 * What a copy-on-write file system or a drive keeps of overwritten octets is not reached; it is encrypted.
 */
export async function removeVmDirectory(programs: Programs, root: string): Promise<void> {
  let names: readonly string[]
  try {
    names = await readdir(root)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return
    throw error
  }
  for (const name of names.filter((candidate) => candidate.endsWith('.luks'))) {
    await eraseDisk(programs, `${root}/${name}`)
  }
  const paths = pathsOf(root)
  for (const name of await readdir(paths.snapshots).catch(() => [])) {
    await removeSnapshotDirectory(programs, `${paths.snapshots}/${name}`)
  }
  for (const file of [paths.keys, paths.home, paths.vtpmState, paths.vtpmBackup, paths.nvram]) {
    try {
      await overwriteWithZeros(file, ALL_OCTETS)
    } catch (error) {
      if (!isErrno(error, 'ENOENT', 'ENOTDIR')) throw error
    }
  }
  await rm(root, { recursive: true, force: true })
}
