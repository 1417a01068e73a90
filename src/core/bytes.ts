import { timingSafeEqual as nodeTimingSafeEqual } from 'node:crypto'
import { DecodeError } from './errors.js'

const encoder = new TextEncoder()
const strictDecoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** One array with the octets of all parts, in order. */
export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  let length = 0
  for (const part of parts) length += part.length
  const all = new Uint8Array(length)
  let offset = 0
  for (const part of parts) {
    all.set(part, offset)
    offset += part.length
  }
  return all
}

export function utf8(text: string): Uint8Array {
  return encoder.encode(text)
}

/** Text of UTF-8 octets; throws `DECODE_ENCODING` on anything that is not UTF-8. */
export function parseUtf8(octets: Uint8Array): string {
  try {
    return strictDecoder.decode(octets)
  } catch (cause) {
    throw new DecodeError('DECODE_ENCODING', 0, 'expected UTF-8 text', { cause })
  }
}

/** Lower-case hexadecimal text. */
export function toHex(octets: Uint8Array): string {
  return view(octets).toString('hex')
}

/** Octets of hexadecimal text of either case; throws `DECODE_ENCODING` on odd length or other characters. */
export function fromHex(text: string): Uint8Array {
  if (text.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(text)) {
    throw new DecodeError('DECODE_ENCODING', 0, 'expected an even number of hexadecimal digits')
  }
  return new Uint8Array(Buffer.from(text, 'hex'))
}

export function toBase64url(octets: Uint8Array): string {
  return view(octets).toString('base64url')
}

/**
 * Octets of unpadded base64url text (RFC 4648, section 5).
 *
 * Only the one canonical text of some octets is accepted: no padding, no white space, no stray bits at the end.
 */
export function fromBase64url(text: string): Uint8Array {
  const octets = Buffer.from(text, 'base64url')
  if (octets.toString('base64url') !== text) {
    throw new DecodeError('DECODE_ENCODING', 0, 'expected canonical base64url without padding')
  }
  return new Uint8Array(octets)
}

/** Whether two public values are equal octet by octet. Not for secrets: see `timingSafeEqual`. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && view(a).equals(b)
}

/** Whether two values are equal, in time that depends on their lengths alone. */
export function timingSafeEqual(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && nodeTimingSafeEqual(a, b)
}

/** The octets as a Buffer over the same memory. */
export function view(octets: Uint8Array): Buffer {
  return Buffer.from(octets.buffer, octets.byteOffset, octets.byteLength)
}

/** Parts with a 32-bit length before each, so that no two lists of parts have the same octets. */
export function lengthPrefixed(...parts: readonly Uint8Array[]): Uint8Array {
  let length = 0
  for (const part of parts) length += 4 + part.length
  const all = new Uint8Array(length)
  const lengths = new DataView(all.buffer)
  let offset = 0
  for (const part of parts) {
    lengths.setUint32(offset, part.length)
    all.set(part, offset + 4)
    offset += 4 + part.length
  }
  return all
}
