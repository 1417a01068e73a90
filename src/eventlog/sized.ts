import { DecodeError } from '../core/errors.js'
import type { ByteReader } from '../core/reader.js'

/**
 * Octets whose length an untrusted 64-bit number gives.
 *
 * @throws DecodeError where fewer octets are left; nothing is allocated for the number
 */
export function takeSized(reader: ByteReader, length: bigint): Uint8Array {
  const { remaining } = reader
  return reader.take(length > BigInt(remaining) ? remaining + 1 : Number(length))
}

/** Octets with their count in one octet before them: descriptions and names of the firmware profile. */
export function takeShort(reader: ByteReader): Uint8Array {
  return reader.take(reader.u8())
}

/** Throws `DECODE_VALUE`, unless a claim of the standard holds. */
export function must(holds: boolean, reader: ByteReader, expected: string): void {
  if (!holds) throw new DecodeError('DECODE_VALUE', reader.offset, `expected ${expected}`)
}
