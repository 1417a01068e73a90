import { utf8 } from '../core/bytes.js'
import { unreachable } from '../core/errors.js'
import { type Ttlv, TYPE_NUMBER } from './ttlv.js'

const HEADER_OCTETS = 8

/**
 * The octets of an item and all that it holds.
 *
 * Throws a `TypeError` on a value that its type cannot hold: such an item is a mistake of the caller.
 *
 * @see KMIP 2.1 Specification, clause 10.1
 */
export function encodeTtlv(item: Ttlv): Uint8Array {
  const measured = measure(item)
  const octets = new Uint8Array(HEADER_OCTETS + padded(measured.length))
  write(measured, octets, new DataView(octets.buffer), 0)
  return octets
}

/** An item with the length of its value; strings and big integers are converted once. */
interface Measured {
  readonly item: Ttlv
  readonly length: number
  readonly parts: readonly Measured[]
  readonly octets: Uint8Array | undefined
}

function measure(item: Ttlv): Measured {
  switch (item.type) {
    case 'Structure': {
      const parts = item.value.map(measure)
      const length = parts.reduce((sum, part) => sum + HEADER_OCTETS + padded(part.length), 0)
      return { item, length, parts, octets: undefined }
    }
    case 'Integer':
    case 'Enumeration':
    case 'Interval':
      return { item, length: 4, parts: [], octets: undefined }
    case 'LongInteger':
    case 'Boolean':
    case 'DateTime':
    case 'DateTimeExtended':
      return { item, length: 8, parts: [], octets: undefined }
    case 'BigInteger':
      return ofOctets(item, bigIntegerOctets(item.value))
    case 'TextString':
      return ofOctets(item, utf8(item.value))
    case 'ByteString':
      return ofOctets(item, item.value)
    default:
      return unreachable(item)
  }
}

function ofOctets(item: Ttlv, octets: Uint8Array): Measured {
  return { item, length: octets.length, parts: [], octets }
}

function padded(length: number): number {
  return Math.ceil(length / 8) * 8
}

/** Writes a measured item at an offset and returns the offset after its padding. */
function write(measured: Measured, octets: Uint8Array, data: DataView, offset: number): number {
  const { item, length } = measured
  if (!Number.isInteger(item.tag) || item.tag < 0 || item.tag > 0xffffff) {
    throw new TypeError(`a tag has 24 bits, found ${item.tag}`)
  }
  data.setUint32(offset, item.tag * 0x100 + TYPE_NUMBER[item.type])
  data.setUint32(offset + 4, length)
  const start = offset + HEADER_OCTETS
  if (item.type === 'Structure') {
    let next = start
    for (const part of measured.parts) next = write(part, octets, data, next)
    return next
  }
  if (measured.octets === undefined) writeScalar(item, data, start)
  else octets.set(measured.octets, start)
  return start + padded(length)
}

function writeScalar(item: Ttlv, data: DataView, offset: number): void {
  switch (item.type) {
    case 'Integer':
      checkRange(item.value, -0x80000000, 0x7fffffff)
      data.setInt32(offset, item.value)
      return
    case 'Enumeration':
    case 'Interval':
      checkRange(item.value, 0, 0xffffffff)
      data.setUint32(offset, item.value)
      return
    case 'Boolean':
      data.setBigUint64(offset, item.value ? 1n : 0n)
      return
    case 'LongInteger':
    case 'DateTime':
    case 'DateTimeExtended':
      if (BigInt.asIntN(64, item.value) !== item.value) {
        throw new TypeError(`${item.type} has 64 bits, found ${item.value}`)
      }
      data.setBigInt64(offset, item.value)
  }
}

function checkRange(value: number, min: number, max: number): void {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new TypeError(`expected an integer from ${min} to ${max}, found ${value}`)
  }
}

/** Two's complement in the fewest octets that are a multiple of eight. @see KMIP 2.1, clause 10.1.4 */
export function bigIntegerOctets(value: bigint): Uint8Array {
  const magnitude = value < 0n ? -value - 1n : value
  const signedBits = magnitude === 0n ? 1 : magnitude.toString(16).length * 4 + 1
  let length = padded(Math.ceil(signedBits / 8))
  // The first digit may leave bits free: one word less may do.
  if (length > 8 && BigInt.asIntN((length - 8) * 8, value) === value) length -= 8
  const unsigned = BigInt.asUintN(length * 8, value)
  return new Uint8Array(Buffer.from(unsigned.toString(16).padStart(length * 2, '0'), 'hex'))
}
