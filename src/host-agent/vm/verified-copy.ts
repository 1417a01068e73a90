import { formatDisk, verifyDisk } from './disk.js'
import { compareDisks, type OpenDisk } from './disk-copy.js'
import { checkDiskFile, createPlainDisk, isEncrypted } from './disk-file.js'
import { syncPath } from './files.js'
import type { Programs } from './programs.js'

/** Makes the file of a disk, empty. */
export async function makeDisk(programs: Programs, { file, key }: OpenDisk): Promise<void> {
  if (isEncrypted(file) && key) await formatDisk(programs, file, key)
  else if (!isEncrypted(file)) await createPlainDisk(file)
}

/** Brings a copy to the disk, opens it with its key, and compares it with the original. */
export async function verifyCopy(
  programs: Programs,
  from: OpenDisk,
  target: OpenDisk,
  extent: 'samples' | 'all',
  signal: AbortSignal | undefined,
): Promise<void> {
  const { file, key } = target
  if (isEncrypted(file) && key) await verifyDisk(programs, file, key)
  await syncPath(file.path)
  await checkDiskFile(file)
  await compareDisks(programs, from, target, { extent, ...(signal ? { signal } : {}) })
}
