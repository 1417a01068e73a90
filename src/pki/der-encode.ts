import { concat, utf8 } from '../core/bytes.js'
import { TAG } from './der.js'

/** One element of DER: tag, shortest definite length, content. @see ITU-T X.690, clause 10.1 */
export function encodeDer(tag: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const content = concat(...parts)
  return concat(Uint8Array.of(tag, ...lengthOctets(content.length)), content)
}

export function encodeSequence(...parts: readonly Uint8Array[]): Uint8Array {
  return encodeDer(TAG.sequence, ...parts)
}

/** A safe integer that is not negative. */
export function encodeInteger(value: number): Uint8Array {
  const octets = base256(value)
  return encodeDer(TAG.integer, Uint8Array.from((octets[0] ?? 0) > 127 ? [0, ...octets] : octets))
}

export function encodeOctetString(octets: Uint8Array): Uint8Array {
  return encodeDer(TAG.octetString, octets)
}

export function encodeUtf8String(text: string): Uint8Array {
  return encodeDer(TAG.utf8String, utf8(text))
}

export function encodeNull(): Uint8Array {
  return encodeDer(TAG.null)
}

/**
 * A moment, to the second: UTCTime until 2049, GeneralizedTime from 2050 on.
 *
 * @see RFC 5280, section 4.1.2.5
 */
export function encodeTime(atMs: number): Uint8Array {
  const digits = `${new Date(atMs).toISOString().slice(0, 19).replace(/[-T:]/g, '')}Z`
  const isShort = digits < '2050'
  return encodeDer(
    isShort ? TAG.utcTime : TAG.generalizedTime,
    utf8(isShort ? digits.slice(2) : digits),
  )
}

/** @param text `1.2.840.113549.1.7.1`, with arcs below 2^32 */
export function encodeObjectIdentifier(text: string): Uint8Array {
  const [top = 0, second = 0, ...rest] = text.split('.').map(Number)
  const octets = [top * 40 + second, ...rest].flatMap(base128)
  return encodeDer(TAG.objectIdentifier, Uint8Array.from(octets))
}

function lengthOctets(length: number): readonly number[] {
  if (length < 0x80) return [length]
  const octets = base256(length)
  return [0x80 | octets.length, ...octets]
}

function base256(value: number): number[] {
  return value < 256 ? [value] : [...base256(Math.floor(value / 256)), value % 256]
}

function base128(arc: number): number[] {
  const high = (value: number): number[] =>
    value === 0 ? [] : [...high(Math.floor(value / 128)), 0x80 | (value % 128)]
  return [...high(Math.floor(arc / 128)), arc % 128]
}
