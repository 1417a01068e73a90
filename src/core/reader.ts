import { DecodeError } from './errors.js'

type ByteOrder = 'big' | 'little'

/**
 * Reads integers and octets from a buffer and never past its end.
 *
 * Results of `take` and `sized` are views of the input, not copies. Every failure is a `DecodeError` with the
 * offset at which reading stopped.
 */
export class ByteReader {
  readonly #octets: Uint8Array
  readonly #data: DataView
  readonly #little: boolean
  #offset = 0

  /** @param order order of octets in integers: TPM structures are big-endian, event logs little-endian */
  constructor(octets: Uint8Array, order: ByteOrder) {
    this.#octets = octets
    this.#data = new DataView(octets.buffer, octets.byteOffset, octets.byteLength)
    this.#little = order === 'little'
  }

  get offset(): number {
    return this.#offset
  }

  get remaining(): number {
    return this.#octets.length - this.#offset
  }

  u8(): number {
    return this.#data.getUint8(this.#advance(1))
  }

  u16(): number {
    return this.#data.getUint16(this.#advance(2), this.#little)
  }

  u32(): number {
    return this.#data.getUint32(this.#advance(4), this.#little)
  }

  u64(): bigint {
    return this.#data.getBigUint64(this.#advance(8), this.#little)
  }

  /** The next `length` octets, as a view. */
  take(length: number): Uint8Array {
    const start = this.#advance(length)
    return this.#octets.subarray(start, start + length)
  }

  /** The next `length` octets, as a view, without going past them. */
  peek(length: number): Uint8Array {
    const octets = this.take(length)
    this.#offset -= length
    return octets
  }

  /** All octets that are left, as a view. */
  rest(): Uint8Array {
    return this.take(this.remaining)
  }

  /** Throws `DECODE_TRAILING` unless all octets were read. */
  end(what: string): void {
    if (this.remaining > 0) {
      throw new DecodeError(
        'DECODE_TRAILING',
        this.#offset,
        `expected the end of ${what} at octet ${this.#offset}, found ${this.remaining} more octets`,
      )
    }
  }

  #advance(length: number): number {
    const start = this.#offset
    if (length > this.remaining) {
      throw new DecodeError(
        'DECODE_TRUNCATED',
        start,
        `expected ${length} octets at ${start}, found ${this.remaining}`,
      )
    }
    this.#offset = start + length
    return start
  }
}

/** Builds octets piece by piece, in one byte order. */
export class ByteWriter {
  readonly #parts: Uint8Array[] = []
  readonly #little: boolean
  #length = 0

  constructor(order: ByteOrder) {
    this.#little = order === 'little'
  }

  u8(value: number): this {
    return this.#integer(1, value)
  }

  u16(value: number): this {
    return this.#integer(2, value)
  }

  u32(value: number): this {
    return this.#integer(4, value)
  }

  u64(value: bigint): this {
    const octets = new Uint8Array(8)
    new DataView(octets.buffer).setBigUint64(0, value, this.#little)
    return this.put(octets)
  }

  put(octets: Uint8Array): this {
    this.#parts.push(octets)
    this.#length += octets.length
    return this
  }

  finish(): Uint8Array {
    const all = new Uint8Array(this.#length)
    let offset = 0
    for (const part of this.#parts) {
      all.set(part, offset)
      offset += part.length
    }
    return all
  }

  #integer(length: 1 | 2 | 4, value: number): this {
    const octets = new Uint8Array(length)
    for (let place = 0; place < length; place += 1) {
      octets[this.#little ? place : length - 1 - place] = value >>> (8 * place)
    }
    return this.put(octets)
  }
}
