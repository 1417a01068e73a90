import { parseUtf8 } from '../core/bytes.js'
import { DecodeError, isPlatformError } from '../core/errors.js'

/**
 * A data item. Integers are numbers while these are exact and else bigints, never floats: a float is a `CborFloat`.
 *
 * Octet strings are views of the input, not copies.
 */
export type CborItem =
  | number
  | bigint
  | string
  | boolean
  | null
  | Uint8Array
  | CborFloat
  | CborArray
  | CborMap
  | CborTag

export type CborArray = readonly CborItem[]

/** Keys are integers or text, as in every map of COSE and CoRIM; 1 and "1" are two keys. */
export type CborMap = ReadonlyMap<number | bigint | string, CborItem>

export class CborFloat {
  readonly value: number

  constructor(value: number) {
    this.value = value
  }
}

export class CborTag {
  readonly tag: number
  readonly item: CborItem

  constructor(tag: number, item: CborItem) {
    this.tag = tag
    this.item = item
  }
}

export interface CborLimits {
  readonly maxOctets: number
  /** Arrays, maps and tags inside one another; a bare number has depth 0. */
  readonly maxDepth: number
  /** Data items, each key and value counted. */
  readonly maxItems: number
}

const MAJOR = {
  unsigned: 0,
  negative: 1,
  octets: 2,
  text: 3,
  array: 4,
  map: 5,
  tag: 6,
} as const
const FOLLOWS_1 = 24
const FOLLOWS_8 = 27
const HALF_FLOAT = 25
const SINGLE_FLOAT = 26
const DOUBLE_FLOAT = 27
const SIMPLE: Readonly<Record<number, boolean | null>> = { 20: false, 21: true, 22: null }

/** The smallest argument that needs 1, 2, 4 and 8 octets. */
const SMALLEST = [24n, 0x100n, 0x10000n, 0x100000000n] as const

/**
 * Reads octets that are one data item, where the octets have one meaning for every reader.
 *
 * Refuses, beyond what is not CBOR: more than the limits, indefinite lengths, numbers and lengths that are not in
 * their shortest form, two equal keys in a map, keys other than integers and text, `undefined`, unknown simple values,
 * NaN and infinities, text that is not UTF-8, and octets after the item. Takes linear time, and allocates nothing for
 * a length before so many octets are there. The order of keys is not looked at, nor what tags mean.
 *
 * @throws DecodeError `CORIM_CBOR`, or `CORIM_TOO_LARGE` above a limit
 * @see RFC 8949, sections 3 and 4.1
 */
export function parseCbor(octets: Uint8Array, limits: CborLimits): CborItem {
  if (octets.length > limits.maxOctets) {
    throw tooLarge(0, `${limits.maxOctets} octets`, octets.length)
  }
  const decoder = new Decoder(octets, limits)
  const item = decoder.item(0)
  decoder.end()
  return item
}

class Decoder {
  readonly #octets: Uint8Array
  readonly #data: DataView
  readonly #limits: CborLimits
  #offset = 0
  #items = 0

  constructor(octets: Uint8Array, limits: CborLimits) {
    this.#octets = octets
    this.#data = new DataView(octets.buffer, octets.byteOffset, octets.byteLength)
    this.#limits = limits
  }

  end(): void {
    const more = this.#octets.length - this.#offset
    if (more > 0) throw refuse(this.#offset, 'the end of the data', `${more} more octets`)
  }

  item(depth: number): CborItem {
    const at = this.#offset
    this.#items += 1
    if (this.#items > this.#limits.maxItems) {
      throw tooLarge(at, `${this.#limits.maxItems} data items`, this.#items)
    }
    if (depth > this.#limits.maxDepth) {
      throw tooLarge(at, `a depth of ${this.#limits.maxDepth}`, depth)
    }
    const initial = this.#octets[this.#advance(1)] ?? 0
    const major = initial >> 5
    const info = initial & 0x1f
    switch (major) {
      case MAJOR.unsigned:
        return this.#argument(info, at)
      case MAJOR.negative:
        return negative(this.#argument(info, at))
      case MAJOR.octets:
        return this.#string(info, at)
      case MAJOR.text:
        return text(this.#string(info, at), at)
      case MAJOR.array:
        return this.#array(this.#count(info, at, 1), depth)
      case MAJOR.map:
        return this.#map(this.#count(info, at, 2), depth)
      case MAJOR.tag:
        return this.#tag(info, at, depth)
      default:
        return this.#simple(info, at)
    }
  }

  #array(count: number, depth: number): CborArray {
    const items: CborItem[] = []
    while (items.length < count) items.push(this.item(depth + 1))
    return items
  }

  #map(count: number, depth: number): CborMap {
    const map = new Map<number | bigint | string, CborItem>()
    for (let pair = 0; pair < count; pair += 1) {
      const at = this.#offset
      const key = this.item(depth + 1)
      if (typeof key !== 'number' && typeof key !== 'string' && typeof key !== 'bigint') {
        throw refuse(at, 'an integer or text as key', 'another kind of item')
      }
      if (map.has(key)) throw refuse(at, 'each key of a map once', 'a key twice')
      map.set(key, this.item(depth + 1))
    }
    return map
  }

  #tag(info: number, at: number, depth: number): CborTag {
    const tag = this.#argument(info, at)
    if (typeof tag === 'bigint') throw refuse(at, 'a tag below 2^53', String(tag))
    return new CborTag(tag, this.item(depth + 1))
  }

  #string(info: number, at: number): Uint8Array {
    const start = this.#advance(this.#count(info, at, 1))
    return this.#octets.subarray(start, this.#offset)
  }

  /** A length or count, each unit of which takes at least `minOctets` of what is left. */
  #count(info: number, at: number, minOctets: number): number {
    const count = this.#argument(info, at)
    const left = this.#octets.length - this.#offset
    if (typeof count === 'bigint' || count * minOctets > left) {
      throw refuse(at, `a length that ends within the data`, `${count} with ${left} octets left`)
    }
    return count
  }

  #argument(info: number, at: number): number | bigint {
    if (info < FOLLOWS_1) return info
    if (info > FOLLOWS_8) throw refuse(at, 'a definite length', `additional information ${info}`)
    const octets = 1 << (info - FOLLOWS_1)
    const value = this.#unsigned(octets)
    if (value < (SMALLEST[info - FOLLOWS_1] ?? 0n)) {
      throw refuse(at, 'the shortest form', `${value} in ${octets} octets`)
    }
    return value
  }

  #unsigned(octets: number): number | bigint {
    const start = this.#advance(octets)
    if (octets === 1) return this.#data.getUint8(start)
    if (octets === 2) return this.#data.getUint16(start)
    if (octets === 4) return this.#data.getUint32(start)
    return exact(this.#data.getBigUint64(start))
  }

  #simple(info: number, at: number): CborItem {
    const simple = SIMPLE[info]
    if (simple !== undefined) return simple
    const value = this.#float(info)
    if (value === undefined) throw refuse(at, 'false, true, null or a float', `simple ${info}`)
    if (!Number.isFinite(value)) throw refuse(at, 'a finite number', String(value))
    return new CborFloat(value)
  }

  #float(info: number): number | undefined {
    if (info === HALF_FLOAT) return halfFloat(this.#data.getUint16(this.#advance(2)))
    if (info === SINGLE_FLOAT) return this.#data.getFloat32(this.#advance(4))
    if (info === DOUBLE_FLOAT) return this.#data.getFloat64(this.#advance(8))
    return undefined
  }

  #advance(length: number): number {
    const start = this.#offset
    const left = this.#octets.length - start
    if (length > left) throw refuse(start, `${length} octets`, `${left}`)
    this.#offset = start + length
    return start
  }
}

function exact(value: bigint): number | bigint {
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value
}

function negative(argument: number | bigint): number | bigint {
  if (typeof argument === 'number' && argument < Number.MAX_SAFE_INTEGER) return -1 - argument
  return -1n - BigInt(argument)
}

function text(octets: Uint8Array, at: number): string {
  try {
    return parseUtf8(octets)
  } catch (cause) {
    if (!isPlatformError(cause)) throw cause
    throw new DecodeError('CORIM_CBOR', at, `expected UTF-8 text at octet ${at}`, { cause })
  }
}

/** @see RFC 8949, appendix D */
function halfFloat(half: number): number {
  const exponent = (half >> 10) & 0x1f
  const fraction = half & 0x3ff
  const sign = half & 0x8000 ? -1 : 1
  if (exponent === 0) return sign * fraction * 2 ** -24
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN
  return sign * (fraction + 1024) * 2 ** (exponent - 25)
}

function refuse(at: number, expected: string, found: string): DecodeError {
  return new DecodeError('CORIM_CBOR', at, `expected ${expected} at octet ${at}, found ${found}`)
}

function tooLarge(at: number, expected: string, found: number): DecodeError {
  return new DecodeError('CORIM_TOO_LARGE', at, `expected at most ${expected}, found ${found}`)
}
