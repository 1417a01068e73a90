import { DecodeError } from '../core/errors.js'
import { ByteReader, ByteWriter } from '../core/reader.js'

/**
 * The octets of a TPM2B: a 16-bit size, then that many octets. A view, not a copy.
 *
 * @see TPM 2.0 Library, Part 2, clause 10.4
 */
export function readSized(reader: ByteReader, what: string, maxOctets: number): Uint8Array {
  const size = reader.u16()
  if (size > maxOctets) {
    throw new DecodeError(
      'DECODE_TOO_LARGE',
      reader.offset,
      `expected ${what} of at most ${maxOctets} octets, found ${size}`,
    )
  }
  return reader.take(size)
}

/** A TPM2B around these octets. */
export function encodeSized(octets: Uint8Array): Uint8Array {
  return new ByteWriter('big').u16(octets.length).put(octets).finish()
}

/** The octets of a structure that is one TPM2B and nothing else. */
export function parseSized(octets: Uint8Array, what: string, maxOctets: number): Uint8Array {
  const reader = new ByteReader(octets, 'big')
  const content = readSized(reader, what, maxOctets)
  reader.end(what)
  return content
}
