import { DecodeError } from '../../core/errors.js'
import { ByteReader } from '../../core/reader.js'
import { HASH_ALGORITHMS, hashById, type PcrSelection } from '../../tpm/index.js'

/** PCRs with their values, of one bank or several. */
export interface PcrFile {
  readonly selections: readonly PcrSelection[]
  /** In the order of the selections, ascending in each. */
  readonly values: readonly Uint8Array[]
}

const MAX_SELECTIONS = 16
const MAX_DIGESTS = 8
const DIGEST_FIELD_OCTETS = 64
const SELECTION_OCTETS = 8
const BITMAP_OCTETS = 4

/**
 * The PCR file of `tpm2_quote -o`: structures of C as tpm2-tools lays them out, little-endian.
 *
 * TPML_PCR_SELECTION with room for 16 banks, a count, and so many TPML_DIGEST with room for 8 digests each.
 *
 * @throws DecodeError
 * @see tpm2-tools 5.4, `pcr.h` and `tpm2_quote(1)`, option --pcrs_format
 */
export function parsePcrFile(octets: Uint8Array): PcrFile {
  const reader = new ByteReader(octets, 'little')
  const count = bounded(reader, reader.u32(), MAX_SELECTIONS, 'banks')
  const slots = Array.from({ length: MAX_SELECTIONS }, () => reader.take(SELECTION_OCTETS))
  const selections = slots.slice(0, count).map(readSelection)
  const lists = bounded(reader, reader.u32(), MAX_SELECTIONS * 3, 'lists of digests')
  const values: Uint8Array[] = []
  for (let list = 0; list < lists; list += 1) {
    const digests = bounded(reader, reader.u32(), MAX_DIGESTS, 'digests')
    for (let index = 0; index < MAX_DIGESTS; index += 1) {
      const size = bounded(reader, reader.u16(), DIGEST_FIELD_OCTETS, 'octets')
      const field = reader.take(DIGEST_FIELD_OCTETS)
      if (index < digests) values.push(field.subarray(0, size))
    }
  }
  reader.end('the PCR file')
  return { selections, values }
}

function readSelection(slot: Uint8Array): PcrSelection {
  const reader = new ByteReader(slot, 'little')
  const hash = hashById(reader.u16())
  const size = reader.u8()
  const bitmap = reader.take(BITMAP_OCTETS)
  if (!hash || size > BITMAP_OCTETS) {
    throw new DecodeError('DECODE_VALUE', 0, 'expected a bank with at most 32 PCRs')
  }
  const pcrs = Array.from({ length: size * 8 }, (_, pcr) => pcr)
  return { bank: hash.name, pcrs: pcrs.filter((pcr) => ((bitmap[pcr >> 3] ?? 0) >> (pcr & 7)) & 1) }
}

function bounded(reader: ByteReader, value: number, max: number, what: string): number {
  if (value <= max) return value
  throw new DecodeError(
    'DECODE_VALUE',
    reader.offset,
    `expected at most ${max} ${what}, found ${value}`,
  )
}

/**
 * Values without any structure, one after the other as `tpm2_pcrread -o` and `tpm2_quote -F values -o` write them: of
 * the PCRs of `selection`, ascending.
 *
 * @throws DecodeError `DECODE_VALUE` where their number is another
 */
export function splitPcrValues(
  octets: Uint8Array,
  selection: PcrSelection,
): ReadonlyMap<number, Uint8Array> {
  const { digestOctets } = HASH_ALGORITHMS[selection.bank]
  if (octets.length !== selection.pcrs.length * digestOctets) {
    throw new DecodeError(
      'DECODE_VALUE',
      0,
      `expected ${selection.pcrs.length} values of ${digestOctets} octets, found ${octets.length} octets`,
    )
  }
  return new Map(
    selection.pcrs.map((pcr, index) => [
      pcr,
      octets.subarray(index * digestOctets, (index + 1) * digestOctets),
    ]),
  )
}
