import { equalBytes } from '../src/core/bytes.js'
import { DecodeError } from '../src/core/errors.js'
import { Memory } from './ffi.js'
import { tpmError } from './tpm-error.js'
import { Esys_Free } from './tss2/esys.js'
import { type MuType, muMarshal, muUnmarshal } from './tss2/mu.js'

/**
 * Room for one C structure. The largest of `MU_TYPES`, TPM2B_ATTEST, has 2306 octets in tpm2-tss 3.2 on 64-bit machines;
 * `test/integration/native/marshal.test.ts` asks the compiler for the size of each.
 */
export const STRUCT_OCTETS = 4096
/** Room for the wire form of one structure: it has no padding and no unused elements, so it is never larger. */
const WIRE_OCTETS = STRUCT_OCTETS

/** Memory of one pointer or integer that C writes. */
export function slot(): Memory {
  return new Memory(8)
}

export function addressIn(place: Memory): number {
  return Number(place.octets.readBigUInt64LE())
}

/** An ESYS_TR or another 32-bit integer. */
export function integerIn(place: Memory): number {
  return place.octets.readUInt32LE()
}

/** A C structure of ours that commands take as input; its memory is used again. */
export class InputStruct {
  readonly #struct = new Memory(STRUCT_OCTETS)
  readonly #type: MuType
  #wire: Uint8Array | undefined

  constructor(type: MuType) {
    this.#type = type
  }

  /** Reads wire octets, all of them, and gives the memory to pass to C. Throws `DECODE_VALUE`. */
  from(wire: Uint8Array): Memory {
    if (this.#wire && equalBytes(this.#wire, wire)) return this.#struct
    this.#wire = undefined
    this.#struct.octets.fill(0)
    unmarshal(this.#type, wire, this.#struct)
    this.#wire = Uint8Array.from(wire)
    return this.#struct
  }

  /** Fills what it holds with zeros: for a structure with a secret. */
  forget(): void {
    this.#struct.octets.fill(0)
    this.#wire?.fill(0)
    this.#wire = undefined
  }
}

/** The wire octets of a structure that C allocated and the slot points to; frees it. */
export function takeResult(type: MuType, place: Memory): Uint8Array {
  try {
    return marshal(type, addressIn(place))
  } finally {
    release(place)
  }
}

/** Frees what the slots point to, where they point to something. */
export function release(...places: readonly Memory[]): void {
  for (const place of places) {
    const address = addressIn(place)
    place.octets.fill(0)
    if (address !== 0) Esys_Free(address)
  }
}

/**
 * Wire octets through tpm2-tss and back: what the C library makes of them.
 *
 * @throws DecodeError `DECODE_VALUE` where the C library cannot read them, or not to their end
 */
export function muRoundTrip(type: MuType, wire: Uint8Array): Uint8Array {
  const struct = new Memory(STRUCT_OCTETS)
  try {
    unmarshal(type, wire, struct)
    return marshal(type, struct.address)
  } finally {
    // C reads from a bare address: without this use the memory could be collected before it has
    struct.octets.fill(0)
  }
}

const wirePlace = new Memory(WIRE_OCTETS)
const offset = slot()

function unmarshal(type: MuType, wire: Uint8Array, struct: Memory): void {
  if (wire.length > WIRE_OCTETS) {
    throw new DecodeError(
      'DECODE_TOO_LARGE',
      0,
      `expected a ${type} of at most ${WIRE_OCTETS} octets, found ${wire.length}`,
    )
  }
  wirePlace.octets.set(wire)
  offset.octets.fill(0)
  const code = muUnmarshal[type](wirePlace, wire.length, offset, struct)
  const read = addressIn(offset)
  wirePlace.octets.fill(0, 0, wire.length)
  if (code !== 0 || read !== wire.length) {
    throw new DecodeError('DECODE_VALUE', read, `expected a ${type}, found other octets`)
  }
}

function marshal(type: MuType, address: number): Uint8Array {
  offset.octets.fill(0)
  const code = muMarshal[type](address, wirePlace, WIRE_OCTETS, offset)
  if (code !== 0) throw tpmError(`marshal ${type}`, code)
  const written = wirePlace.octets.subarray(0, addressIn(offset))
  const octets = Uint8Array.from(written)
  written.fill(0)
  return octets
}
