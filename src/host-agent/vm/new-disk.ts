import { PlatformError } from '../../core/errors.js'
import { newUuid } from '../../core/random.js'
import type { Secret } from '../../core/secret.js'
import { fillDisk, formatDisk, verifyDisk } from './disk.js'
import {
  checkDiskFile,
  createPlainDisk,
  type DiskFile,
  diskFileOf,
  isEncrypted,
} from './disk-file.js'
import { syncPath } from './files.js'
import { openImage, type SourceImage } from './image.js'
import type { VmPaths } from './layout.js'
import { LUKS_PAYLOAD_OCTETS } from './luks-header.js'
import type { Programs } from './programs.js'
import type { DiskSpec } from './vm-spec.js'

/** A disk that is to be made, with the image that it is filled from, open. */
export interface PlannedDisk {
  readonly name: string
  readonly file: DiskFile
  readonly image: SourceImage | undefined
}

/**
 * Opens the image of a disk and settles its size. The caller closes the image.
 *
 * @throws PlatformError `VM_IMAGE`
 */
export async function planDisk(paths: VmPaths, spec: DiskSpec): Promise<PlannedDisk> {
  const { name, from, passphrase } = spec
  const image = from === undefined ? undefined : await openImage(from, passphrase)
  const imageOctets = image?.virtualOctets ?? 0
  const sizeOctets = spec.sizeOctets ?? imageOctets
  if (imageOctets > sizeOctets) {
    await image?.[Symbol.asyncDispose]()
    throw new PlatformError(
      'VM_IMAGE',
      `expected an image of at most ${sizeOctets} octets for disk ${name}, found ${imageOctets}`,
    )
  }
  const disk = { name, sizeOctets, ...(spec.plain ? {} : { volumeId: newUuid() }) }
  return { name, file: diskFileOf(paths, disk), image }
}

/** An image is copied whole, with its zeros: encrypted they are no zeros. The rest of a disk takes room as it is used. */
export function roomForNew(disks: readonly PlannedDisk[]): number {
  return disks.reduce(
    (sum, { image }) => sum + LUKS_PAYLOAD_OCTETS + (image?.virtualOctets ?? 0),
    0,
  )
}

/**
 * Makes the file of a disk, filled, verified and on the disk.
 *
 * @param key of an encrypted disk
 * @param on.begin called before each of the steps `format`, `fill` if from an image, `verify`
 * @throws PlatformError `VM_IMAGE`, `VM_DISK_FULL`, `VM_KEY_WRONG`, `VM_PROCESS`
 */
export async function makeNewDisk(
  programs: Programs,
  { file, image }: PlannedDisk,
  key: Secret | undefined,
  on: {
    readonly begin: (step: string) => void
    readonly within: (percent: number) => void
    readonly signal?: AbortSignal | undefined
  },
): Promise<void> {
  on.begin('format')
  if (isEncrypted(file) && key) await formatDisk(programs, file, key)
  else if (!isEncrypted(file)) await createPlainDisk(file)
  if (image) {
    on.begin('fill')
    await fillDisk(programs, file, key, image, on.within, on.signal)
  }
  on.begin('verify')
  if (isEncrypted(file) && key) await verifyDisk(programs, file, key)
  await checkDiskFile(file)
  await syncPath(file.path)
}
