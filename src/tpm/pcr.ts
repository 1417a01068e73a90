import { concat } from '../core/bytes.js'
import { digestOf } from '../core/digest.js'
import { DecodeError } from '../core/errors.js'
import { ByteReader, ByteWriter } from '../core/reader.js'
import { HASH_ALGORITHMS, type HashName, hashById } from './algorithms.js'

/** PCRs of one bank. */
export interface PcrSelection {
  readonly bank: HashName
  /** Indexes from 0 to 23, ascending, each once. */
  readonly pcrs: readonly number[]
}

const PCR_COUNT = 24
const BITMAP_OCTETS = 3
const MAX_BANKS = 16

/**
 * Reads a TPML_PCR_SELECTION from where `reader` stands.
 *
 * A bitmap of other than 24 PCRs, which no TPM of the PC Client profile makes, a bank twice and an unknown bank are
 * refused. An empty selection is not: a verifier compares it with what was asked for.
 *
 * @see TPM 2.0 Library, Part 2, clauses 10.6.2 and 10.9.7
 */
export function readPcrSelections(reader: ByteReader): readonly PcrSelection[] {
  const count = reader.u32()
  if (count > MAX_BANKS) throw refuse(reader, `at most ${MAX_BANKS} banks`, String(count))
  const selections: PcrSelection[] = []
  for (let index = 0; index < count; index += 1) {
    const id = reader.u16()
    const bank = hashById(id)?.name
    if (!bank) throw refuse(reader, 'a known bank', `0x${id.toString(16)}`)
    if (selections.some((selection) => selection.bank === bank)) {
      throw refuse(reader, 'each bank once', `${bank} twice`)
    }
    const size = reader.u8()
    if (size !== BITMAP_OCTETS) throw refuse(reader, 'a bitmap of 3 octets', `${size} octets`)
    selections.push({ bank, pcrs: pcrsOf(reader.take(size)) })
  }
  return selections
}

/** Reads octets that are one TPML_PCR_SELECTION. */
export function parsePcrSelections(octets: Uint8Array): readonly PcrSelection[] {
  const reader = new ByteReader(octets, 'big')
  const selections = readPcrSelections(reader)
  reader.end('TPML_PCR_SELECTION')
  return selections
}

/** TPML_PCR_SELECTION with bitmaps of 3 octets. */
export function encodePcrSelections(selections: readonly PcrSelection[]): Uint8Array {
  const writer = new ByteWriter('big').u32(selections.length)
  for (const { bank, pcrs } of selections) {
    const bitmap = new Uint8Array(BITMAP_OCTETS)
    for (const pcr of pcrs) {
      if (!Number.isInteger(pcr) || pcr < 0 || pcr >= PCR_COUNT) {
        throw new TypeError(`no PCR ${pcr}`)
      }
      bitmap[pcr >> 3] = (bitmap[pcr >> 3] ?? 0) | (1 << (pcr & 7))
    }
    writer.u16(HASH_ALGORITHMS[bank].id).u8(BITMAP_OCTETS).put(bitmap)
  }
  return writer.finish()
}

/**
 * Digest over PCR values, in the order of the selection: banks as listed, indexes ascending.
 *
 * @see TPM 2.0 Library, Part 1, clause 17 (PCR Operations); Part 2, clause 10.12.4 (TPMS_QUOTE_INFO)
 */
export function pcrDigest(hash: HashName, values: readonly Uint8Array[]): Uint8Array {
  return digestOf(hash, concat(...values))
}

/** `sha256:0,4,7` */
export function describeSelection({ bank, pcrs }: PcrSelection): string {
  return `${bank}:${pcrs.join(',')}`
}

function pcrsOf(bitmap: Uint8Array): readonly number[] {
  const pcrs: number[] = []
  for (let pcr = 0; pcr < bitmap.length * 8; pcr += 1) {
    if ((((bitmap[pcr >> 3] ?? 0) >> (pcr & 7)) & 1) === 1) pcrs.push(pcr)
  }
  return pcrs
}

function refuse(reader: ByteReader, expected: string, found: string): DecodeError {
  return new DecodeError('DECODE_VALUE', reader.offset, `expected ${expected}, found ${found}`)
}
