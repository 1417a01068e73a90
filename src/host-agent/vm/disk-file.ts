import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { PlatformError } from '../../core/errors.js'
import type { Secret } from '../../core/secret.js'
import { checkVolume, type Disk, readDisk } from './disk.js'
import { createPrivateFile } from './files.js'
import type { VmPaths } from './layout.js'
import type { Programs } from './programs.js'
import type { Home } from './records.js'

/** A disk of a VM that is not encrypted: its octets in a sparse file. */
export interface PlainDisk {
  readonly path: string
  readonly sizeOctets: number
  readonly volumeId?: undefined
}

/** Where a disk of a VM lies, and how. */
export type DiskFile = Disk | PlainDisk

export function diskFileOf(paths: VmPaths, disk: Home['disks'][number]): DiskFile {
  const { name, sizeOctets, volumeId } = disk
  return volumeId === undefined
    ? { path: paths.plainDisk(name), sizeOctets }
    : { path: paths.disk(name), sizeOctets, volumeId }
}

export function isEncrypted(file: DiskFile): file is Disk {
  return file.volumeId !== undefined
}

/** Makes the file of a plain disk, empty; it reads as zeros. */
export async function createPlainDisk({ path, sizeOctets }: PlainDisk): Promise<void> {
  const file = await createPrivateFile(path)
  try {
    await file.truncate(sizeOctets)
  } finally {
    await file.close()
  }
}

/**
 * Refuses a file that cannot be this disk, before any program sees it. Of a plain disk only kind and size can be told.
 *
 * @throws PlatformError `VM_DISK_CORRUPT`
 */
export async function checkDiskFile(disk: DiskFile): Promise<void> {
  if (isEncrypted(disk)) return checkVolume(disk)
  const { path, sizeOctets } = disk
  await using file = await openPlain(path)
  const stat = await file.stat()
  if (!stat.isFile() || stat.size !== sizeOctets) {
    throw new PlatformError(
      'VM_DISK_CORRUPT',
      `disk ${path}: expected a file of ${sizeOctets} octets, found ${stat.size}`,
    )
  }
}

/**
 * Octets of a disk as a guest sees them.
 *
 * @param key of an encrypted disk
 * @throws PlatformError `VM_DISK_CORRUPT`, `VM_KEY_WRONG`, `VM_PROCESS`
 */
export async function readDiskFile(
  programs: Programs,
  disk: DiskFile,
  key: Secret | undefined,
  offset: number,
  length: number,
): Promise<Uint8Array> {
  await checkDiskFile(disk)
  if (isEncrypted(disk)) {
    if (!key) throw new TypeError('an encrypted disk is read with its key')
    return readDisk(programs, disk, key, offset, length)
  }
  await using file = await openPlain(disk.path)
  const octets = new Uint8Array(length)
  const { bytesRead } = await file.read(octets, 0, length, offset)
  return octets.subarray(0, bytesRead)
}

async function openPlain(path: string) {
  const { O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants
  return open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK).catch((cause) => {
    throw new PlatformError('VM_DISK_CORRUPT', `disk ${path}: it cannot be opened`, { cause })
  })
}
