import { view } from '../src/core/bytes.js'
import { DecodeError } from '../src/core/errors.js'
import type { CComputation } from './ffi.js'
import { tpmError } from './tpm-error.js'
import { Esys_Free } from './tss2/esys.js'
import { type MuType, muMarshal, muMarshalOwn, muUnmarshal } from './tss2/mu.js'

/**
 * Room for one C structure. The largest that is used, TPM2B_ATTEST, has 2306 octets in tpm2-tss 3.2 on 64-bit machines.
 */
export const STRUCT_OCTETS = 4096
/** Room for the wire form of one structure. */
const WIRE_OCTETS = 4096

/** A place for an address or an integer that C writes. */
export function slot(): Buffer {
  return Buffer.alloc(8)
}

export function addressIn(place: Buffer): number {
  return Number(place.readBigUInt64LE())
}

/** Memory that a structure is unmarshalled into; used again by the next call. */
export class StructBuffer {
  readonly #struct = Buffer.alloc(STRUCT_OCTETS)
  readonly #offset = slot()
  readonly #type: MuType

  constructor(type: MuType) {
    this.#type = type
  }

  /** Reads wire octets, all of them, and gives the memory to pass to C. Throws `DECODE_VALUE`. */
  from(wire: Uint8Array): Buffer {
    this.#struct.fill(0)
    this.#offset.writeBigUInt64LE(0n)
    const code = muUnmarshal[this.#type](view(wire), wire.length, this.#offset, this.#struct)
    const read = addressIn(this.#offset)
    if (code !== 0 || read !== wire.length) {
      throw new DecodeError('DECODE_VALUE', read, `expected a ${this.#type}, found other octets`)
    }
    return this.#struct
  }

  /** The wire octets of what is in it. */
  toWire(): Uint8Array {
    return marshalled(muMarshalOwn[this.#type], this.#struct)
  }
}

/** The wire octets of a structure that C allocated and the slot points to; frees it. */
export function takeResult(type: MuType, place: Buffer): Uint8Array {
  try {
    return marshalled(muMarshal[type], addressIn(place))
  } finally {
    release(place)
  }
}

/** Frees what the slots point to, where they point to something. */
export function release(...places: readonly Buffer[]): void {
  for (const place of places) {
    const address = addressIn(place)
    place.writeBigUInt64LE(0n)
    if (address !== 0) Esys_Free(address)
  }
}

const wireBuffer = Buffer.alloc(WIRE_OCTETS)
const wireOffset = slot()

function marshalled(marshal: CComputation, source: number | Buffer): Uint8Array {
  wireOffset.writeBigUInt64LE(0n)
  const code = marshal(source, wireBuffer, WIRE_OCTETS, wireOffset)
  if (code !== 0) throw tpmError('marshal', code)
  const length = addressIn(wireOffset)
  const octets = new Uint8Array(wireBuffer.subarray(0, length))
  wireBuffer.fill(0, 0, length)
  return octets
}

/**
 * Wire octets through tpm2-tss and back: what the C library makes of them.
 *
 * @throws DecodeError `DECODE_VALUE` where the C library cannot read them, or not to their end
 */
export function muRoundTrip(type: MuType, wire: Uint8Array): Uint8Array {
  const struct = new StructBuffer(type)
  struct.from(wire)
  return struct.toWire()
}
