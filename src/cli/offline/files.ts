import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { DecodeError, messageOf, PlatformError } from '../../core/errors.js'

const CHUNK_OCTETS = 64 * 1024

const MAX_PEM_OCTETS = 32_768

/**
 * The octets of a file that a person named.
 *
 * @throws PlatformError `CONFIG_UNREADABLE`; DecodeError `DECODE_TOO_LARGE`, at the latest when one octet too many was read
 */
export function readOctets(file: string, maxOctets: number): Uint8Array {
  try {
    const descriptor = openSync(file, 'r')
    try {
      const { size } = fstatSync(descriptor)
      if (size > maxOctets) throw tooLarge(file, maxOctets, String(size))
      return readUntil(descriptor, maxOctets, file)
    } finally {
      closeSync(descriptor)
    }
  } catch (cause) {
    if (cause instanceof PlatformError) throw cause
    const message = `cannot read ${file}: ${messageOf(cause)}`
    throw new PlatformError('CONFIG_UNREADABLE', message, { cause })
  }
}

/** Certificates in PEM, within what an operation takes. @throws as `readOctets` */
export function readPem(file: string): string {
  return Buffer.from(readOctets(file, MAX_PEM_OCTETS)).toString()
}

/** Files of the kernel say that they have no octets, and some never end: the size is what was read. */
function readUntil(descriptor: number, maxOctets: number, file: string): Uint8Array {
  const chunks: Uint8Array[] = []
  for (let total = 0; ; ) {
    const chunk = new Uint8Array(Math.min(CHUNK_OCTETS, maxOctets + 1 - total))
    const read = readSync(descriptor, chunk)
    if (read === 0) return new Uint8Array(Buffer.concat(chunks))
    chunks.push(chunk.subarray(0, read))
    total += read
    if (total > maxOctets) throw tooLarge(file, maxOctets, 'more')
  }
}

function tooLarge(file: string, maxOctets: number, found: string): DecodeError {
  const message = `expected ${file} to have at most ${maxOctets} octets, found ${found}`
  return new DecodeError('DECODE_TOO_LARGE', 0, message)
}

/** Runs a reader of octets; what it cannot read is an error that names where the octets are from. */
export function naming<T>(source: string, read: () => T): T {
  try {
    return read()
  } catch (cause) {
    if (!(cause instanceof DecodeError)) throw cause
    throw new DecodeError(cause.code, cause.offset, `${source}: ${cause.message}`, { cause })
  }
}
