import type { OpenDisk } from './disk-copy.js'
import { diskFileOf, isEncrypted } from './disk-file.js'
import type { VmPaths } from './layout.js'
import type { Home } from './records.js'
import type { VmKeys } from './vm-keys.js'

/** A disk with its key out of these. */
export function openDisk(paths: VmPaths, disk: Home['disks'][number], keys: VmKeys): OpenDisk {
  const file = diskFileOf(paths, disk)
  return { file, key: isEncrypted(file) ? keys.of(`disk-${disk.name}`) : undefined }
}
