import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { isAbsolute } from 'node:path'
import { equalBytes, utf8 } from '../../core/bytes.js'
import { messageOf, PlatformError } from '../../core/errors.js'
import { ByteReader } from '../../core/reader.js'
import type { Secret } from '../../core/secret.js'
import { LUKS_HEADER_OCTETS, parseLuksHeader } from './luks-header.js'

const SECTOR_OCTETS = 512
const HEAD_OCTETS = LUKS_HEADER_OCTETS
const QCOW2_V2_OCTETS = 72

const QCOW2_MAGIC = Uint8Array.of(0x51, 0x46, 0x49, 0xfb)
/** Dirty reference counts, another compression, extended L2 entries: the rest changes what is read, or from where. */
const QCOW2_ALLOWED_FEATURES = 0b11001n

/** Formats that would be copied as they lie there if they were taken for raw images. */
const OTHER_FORMATS: readonly (readonly [string, Uint8Array])[] = [
  ['VMDK', utf8('KDMV')],
  ['VMDK descriptor', utf8('# Disk DescriptorFile')],
  ['VHD', utf8('conectix')],
  ['VHDX', utf8('vhdxfile')],
  ['QED', utf8('QED\0')],
  ['VirtualBox', utf8('<<< ')],
  ['LUKS', Uint8Array.of(0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe)],
]

export type ImageFormat = 'raw' | 'qcow2' | 'luks'

/** An image to fill a disk from, open. Its content is untrusted. */
export interface SourceImage extends AsyncDisposable {
  readonly descriptor: number
  readonly format: ImageFormat
  /** What a guest sees, rounded up to whole sectors of 512 octets. */
  readonly virtualOctets: number
  /** Of a LUKS volume. Lent. */
  readonly passphrase?: Secret | undefined
}

/**
 * Opens an image and tells its format by its own octets, so that no program guesses.
 *
 * Refuses what makes a program read other files (backing file, external data), what is encrypted, and formats other
 * than raw and qcow2. The path must be absolute and its last part no link. Does not check the rest of a qcow2 image.
 *
 * @param passphrase the image is a LUKS1 volume; that it opens is seen when it is read
 * @throws PlatformError `VM_IMAGE`
 * @see QEMU, docs/interop/qcow2.txt, "Header"
 */
export async function openImage(path: string, passphrase?: Secret): Promise<SourceImage> {
  if (!isAbsolute(path) || path.includes('\0')) {
    throw new PlatformError('VM_IMAGE', `expected an absolute path of an image, found ${path}`)
  }
  let file: FileHandle
  try {
    const { O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants
    file = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
  } catch (cause) {
    throw new PlatformError('VM_IMAGE', `cannot open ${path}: ${messageOf(cause)}`, { cause })
  }
  try {
    const stat = await file.stat()
    if (!stat.isFile()) throw new PlatformError('VM_IMAGE', `${path} is not a regular file`)
    const head = new Uint8Array(Math.min(HEAD_OCTETS, stat.size))
    await file.read(head, 0, head.length, 0)
    return {
      ...(passphrase
        ? { ...identifyVolume(head, stat.size), passphrase }
        : identifyImage(head, stat.size)),
      descriptor: file.fd,
      [Symbol.asyncDispose]: () => file.close(),
    }
  } catch (error) {
    await file.close()
    throw error
  }
}

/**
 * Format and virtual size of an image.
 *
 * @param head its first 592 octets, or all of it
 * @throws PlatformError `VM_IMAGE`
 */
export function identifyImage(
  head: Uint8Array,
  sizeOctets: number,
): { readonly format: ImageFormat; readonly virtualOctets: number } {
  if (sizeOctets === 0) throw new PlatformError('VM_IMAGE', 'the image is empty')
  if (startsWith(head, QCOW2_MAGIC)) return { format: 'qcow2', virtualOctets: qcow2Octets(head) }
  for (const [name, magic] of OTHER_FORMATS) {
    if (startsWith(head, magic)) {
      throw new PlatformError('VM_IMAGE', `expected a raw or qcow2 image, found ${name}`)
    }
  }
  return { format: 'raw', virtualOctets: wholeSectors(sizeOctets) }
}

function identifyVolume(
  head: Uint8Array,
  sizeOctets: number,
): { readonly format: 'luks'; readonly virtualOctets: number } {
  let payloadOctets: number
  try {
    payloadOctets = parseLuksHeader(head).payloadOctets
  } catch (cause) {
    throw new PlatformError('VM_IMAGE', `expected a LUKS1 volume: ${messageOf(cause)}`, { cause })
  }
  const virtualOctets = sizeOctets - payloadOctets
  if (virtualOctets <= 0 || virtualOctets % SECTOR_OCTETS !== 0) {
    throw new PlatformError('VM_IMAGE', `the LUKS volume ends after ${sizeOctets} octets`)
  }
  return { format: 'luks', virtualOctets }
}

function qcow2Octets(head: Uint8Array): number {
  if (head.length < QCOW2_V2_OCTETS) {
    throw new PlatformError('VM_IMAGE', 'the header of the qcow2 image is cut short')
  }
  const reader = new ByteReader(head, 'big')
  reader.take(QCOW2_MAGIC.length)
  const version = reader.u32()
  const backingFileOffset = reader.u64()
  reader.take(8)
  const virtualOctets = reader.u64()
  const encryption = reader.u32()
  reader.take(QCOW2_V2_OCTETS - reader.offset)
  if (version !== 2 && version !== 3) {
    throw new PlatformError('VM_IMAGE', `expected version 2 or 3 of qcow2, found ${version}`)
  }
  if (backingFileOffset !== 0n) {
    throw new PlatformError('VM_IMAGE', 'a qcow2 image with a backing file is not taken')
  }
  if (encryption !== 0) throw new PlatformError('VM_IMAGE', 'an encrypted image is not taken')
  if (version === 3) {
    if (reader.remaining < 8) {
      throw new PlatformError('VM_IMAGE', 'the header of the qcow2 image is cut short')
    }
    const features = reader.u64()
    if ((features & ~QCOW2_ALLOWED_FEATURES) !== 0n) {
      throw new PlatformError(
        'VM_IMAGE',
        `the qcow2 image is corrupt, keeps its data in another file, or is newer than known (features 0x${features.toString(16)})`,
      )
    }
  }
  if (virtualOctets === 0n || virtualOctets > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new PlatformError('VM_IMAGE', `the qcow2 image has ${virtualOctets} octets`)
  }
  return wholeSectors(Number(virtualOctets))
}

function startsWith(head: Uint8Array, magic: Uint8Array): boolean {
  return equalBytes(head.subarray(0, magic.length), magic)
}

function wholeSectors(octets: number): number {
  return Math.ceil(octets / SECTOR_OCTETS) * SECTOR_OCTETS
}
