import { parseUtf8, view } from '../core/bytes.js'
import { DecodeError, messageOf } from '../core/errors.js'
import { type Ttlv, type TtlvType, TYPE_NUMBER } from './ttlv.js'

const HEADER_OCTETS = 8

export interface TtlvLimits {
  /** Octets of one message, with its header. */
  readonly maxOctets: number
  /** Structures within one another. */
  readonly maxDepth: number
  /** Items of one message, at every depth. */
  readonly maxItems: number
}

/** No message of the operations that we use comes near these; a hostile one ends here. */
export const TTLV_LIMITS: TtlvLimits = { maxOctets: 1 << 20, maxDepth: 32, maxItems: 20_000 }

const TYPES: ReadonlyMap<number, TtlvType> = new Map(
  Object.entries(TYPE_NUMBER).map(([name, number]) => [number, name as TtlvType]),
)

/** What the length field must say for types of a fixed size. */
const FIXED_LENGTH: Partial<Record<TtlvType, number>> = {
  Integer: 4,
  LongInteger: 8,
  Enumeration: 4,
  Boolean: 8,
  DateTime: 8,
  Interval: 4,
  DateTimeExtended: 8,
}

/**
 * Octets of a whole message, by its first eight; for streams. Throws `DECODE_TRUNCATED` on fewer than eight,
 * `DECODE_VALUE` when they do not begin a structure with a tag of KMIP, `DECODE_TOO_LARGE` above the limit.
 */
export function frameLength(header: Uint8Array, maxOctets: number = TTLV_LIMITS.maxOctets): number {
  if (header.length < HEADER_OCTETS) throw truncated(0, HEADER_OCTETS, header.length)
  const data = view(header)
  checkTag(data.readUIntBE(0, 3), 0)
  if (data.readUInt8(3) !== TYPE_NUMBER.Structure) {
    throw new DecodeError('DECODE_VALUE', 3, 'expected a structure as the whole message')
  }
  const length = data.readUInt32BE(4)
  if (length % 8 !== 0) {
    throw new DecodeError('DECODE_VALUE', 4, `expected a multiple of eight, found ${length} octets`)
  }
  if (HEADER_OCTETS + length > maxOctets) throw tooLarge(HEADER_OCTETS + length, maxOctets)
  return HEADER_OCTETS + length
}

/**
 * The item that the octets are: all of them, and nothing after.
 *
 * Strict: every length is that of its type, padding is there and zero, a Boolean is 0 or 1, text is UTF-8, tags are
 * of the standard (0x42) or extensions (0x54). Throws `DecodeError` and nothing else, whatever the octets. Byte
 * strings are views of the input. Does not check that tags stand where the standard has them.
 *
 * @see KMIP 2.1 Specification, clause 10.1
 */
export function decodeTtlv(octets: Uint8Array, limits: TtlvLimits = TTLV_LIMITS): Ttlv {
  if (octets.length > limits.maxOctets) throw tooLarge(octets.length, limits.maxOctets)
  const decoder = new Decoder(octets, limits)
  const item = decoder.item(octets.length, 0)
  if (decoder.offset !== octets.length) {
    throw new DecodeError(
      'DECODE_TRAILING',
      decoder.offset,
      `expected the end of the item at octet ${decoder.offset}, found ${octets.length - decoder.offset} more octets`,
    )
  }
  return item
}

class Decoder {
  readonly #octets: Uint8Array
  readonly #data: Buffer
  readonly #limits: TtlvLimits
  #items = 0
  offset = 0

  constructor(octets: Uint8Array, limits: TtlvLimits) {
    this.#octets = octets
    this.#data = view(octets)
    this.#limits = limits
  }

  /** The item at the offset, which must be over, with its padding, at `end`. */
  item(end: number, depth: number): Ttlv {
    const start = this.offset
    if (end - start < HEADER_OCTETS) throw truncated(start, HEADER_OCTETS, end - start)
    this.#items += 1
    if (this.#items > this.#limits.maxItems) {
      throw new DecodeError('DECODE_TOO_LARGE', start, `more than ${this.#limits.maxItems} items`)
    }
    const tag = this.#data.readUIntBE(start, 3)
    checkTag(tag, start)
    const type = TYPES.get(this.#data.readUInt8(start + 3))
    if (type === undefined) {
      throw new DecodeError('DECODE_VALUE', start + 3, 'expected a type of KMIP, found another')
    }
    const length = this.#data.readUInt32BE(start + 4)
    checkLength(type, length, start + 4)
    this.offset = start + HEADER_OCTETS
    const paddedLength = Math.ceil(length / 8) * 8
    if (paddedLength > end - this.offset)
      throw truncated(this.offset, paddedLength, end - this.offset)
    if (type === 'Structure') {
      return { tag, type, value: this.#children(this.offset + length, depth + 1) }
    }
    const item = this.#value(tag, type, this.offset, length)
    for (let index = this.offset + length; index < this.offset + paddedLength; index += 1) {
      if (this.#octets[index] !== 0) {
        throw new DecodeError('DECODE_VALUE', index, 'expected padding of zeros')
      }
    }
    this.offset += paddedLength
    return item
  }

  #children(end: number, depth: number): Ttlv[] {
    if (depth > this.#limits.maxDepth) {
      throw new DecodeError(
        'DECODE_TOO_LARGE',
        this.offset,
        `more than ${this.#limits.maxDepth} structures within one another`,
      )
    }
    const items: Ttlv[] = []
    while (this.offset < end) items.push(this.item(end, depth))
    return items
  }

  #value(tag: number, type: Exclude<TtlvType, 'Structure'>, start: number, length: number): Ttlv {
    switch (type) {
      case 'Integer':
        return { tag, type, value: this.#data.readInt32BE(start) }
      case 'Enumeration':
      case 'Interval':
        return { tag, type, value: this.#data.readUInt32BE(start) }
      case 'LongInteger':
      case 'DateTime':
      case 'DateTimeExtended':
        return { tag, type, value: this.#data.readBigInt64BE(start) }
      case 'Boolean':
        return { tag, type, value: this.#boolean(start) }
      case 'BigInteger': {
        const hex = this.#data.toString('hex', start, start + length)
        return { tag, type, value: BigInt.asIntN(length * 8, BigInt(`0x${hex}`)) }
      }
      case 'TextString':
        return { tag, type, value: this.#text(start, length) }
      case 'ByteString':
        return { tag, type, value: this.#octets.subarray(start, start + length) }
    }
  }

  #boolean(start: number): boolean {
    const value = this.#data.readBigUInt64BE(start)
    if (value > 1n) throw new DecodeError('DECODE_VALUE', start, 'expected 0 or 1 as a Boolean')
    return value === 1n
  }

  #text(start: number, length: number): string {
    try {
      return parseUtf8(this.#octets.subarray(start, start + length))
    } catch (cause) {
      throw new DecodeError('DECODE_ENCODING', start, messageOf(cause), { cause })
    }
  }
}

function checkTag(tag: number, offset: number): void {
  const space = tag >>> 16
  if (space !== 0x42 && space !== 0x54) {
    throw new DecodeError(
      'DECODE_VALUE',
      offset,
      `expected a tag 0x42xxxx or 0x54xxxx, found 0x${tag.toString(16).padStart(6, '0')}`,
    )
  }
}

function checkLength(type: TtlvType, length: number, offset: number): void {
  const fixed = FIXED_LENGTH[type]
  if (fixed !== undefined && length !== fixed) {
    throw new DecodeError('DECODE_VALUE', offset, `${type} has ${fixed} octets, found ${length}`)
  }
  const inEights = type === 'Structure' || type === 'BigInteger'
  if (inEights && (length % 8 !== 0 || (type === 'BigInteger' && length === 0))) {
    throw new DecodeError(
      'DECODE_VALUE',
      offset,
      `${type} has a multiple of eight octets, found ${length}`,
    )
  }
}

function truncated(offset: number, wanted: number, found: number): DecodeError {
  return new DecodeError(
    'DECODE_TRUNCATED',
    offset,
    `expected ${wanted} octets at ${offset}, found ${found}`,
  )
}

function tooLarge(found: number, limit: number): DecodeError {
  return new DecodeError('DECODE_TOO_LARGE', 0, `expected at most ${limit} octets, found ${found}`)
}
