import { createHash } from 'node:crypto'
import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { toHex } from '../../core/bytes.js'
import { createPrivateFile } from './files.js'

const BLOCK_OCTETS = 1024 * 1024
const ZEROS = Buffer.alloc(BLOCK_OCTETS)

/** What a copy turned out to be. */
export interface Copied {
  /** Of the octets that were written, which need not be what is in the original by now. */
  readonly sha256: string
  /** How many are in blocks that are not all zeros: the room that a sparse copy takes. */
  readonly dataOctets: number
}

/**
 * Copies a regular file of exactly `octets` into a new private file and brings it to the disk. Blocks of zeros become
 * holes. Follows no link in the last part of the path, and never waits for a writer.
 *
 * @param options.onCopied called with how many octets are done so far
 * @throws RangeError for anything but such a file; the reason of the signal
 */
export async function copyFileSparse(
  from: string,
  to: string,
  octets: number,
  options: { readonly onCopied?: (octets: number) => void; readonly signal?: AbortSignal } = {},
): Promise<Copied> {
  await using source = await openRegular(from, octets)
  await using target = await createPrivateFile(to)
  const hash = createHash('sha256')
  const block = Buffer.allocUnsafe(BLOCK_OCTETS)
  let dataOctets = 0
  for (let offset = 0; offset < octets; ) {
    options.signal?.throwIfAborted()
    const length = Math.min(BLOCK_OCTETS, octets - offset)
    const part = block.subarray(0, length)
    await readWhole(source, part, offset, from)
    hash.update(part)
    if (!part.equals(ZEROS.subarray(0, length))) {
      await writeWhole(target, part, offset)
      dataOctets += length
    }
    offset += length
    options.onCopied?.(offset)
  }
  await target.truncate(octets)
  await target.sync()
  return { sha256: toHex(hash.digest()), dataOctets }
}

/** Opens a file to be read; its last part is no link. @throws RangeError for anything but a regular file of this size */
export async function openRegular(path: string, octets: number): Promise<FileHandle> {
  const { O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants
  const file = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
  try {
    const stat = await file.stat()
    if (stat.isFile() && stat.size === octets) return file
  } catch (error) {
    await file.close()
    throw error
  }
  await file.close()
  throw new RangeError(`expected ${path} to be a regular file of ${octets} octets`)
}

async function readWhole(
  file: FileHandle,
  into: Buffer,
  offset: number,
  path: string,
): Promise<void> {
  for (let done = 0; done < into.length; ) {
    const { bytesRead } = await file.read(into, done, into.length - done, offset + done)
    if (bytesRead === 0) throw new RangeError(`${path} became shorter while it was read`)
    done += bytesRead
  }
}

async function writeWhole(file: FileHandle, octets: Buffer, offset: number): Promise<void> {
  for (let done = 0; done < octets.length; ) {
    const { bytesWritten } = await file.write(octets, done, octets.length - done, offset + done)
    done += bytesWritten
  }
}
