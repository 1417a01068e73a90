import { ByteReader } from '../core/reader.js'
import { must } from './sized.js'

/** Header of an update for an Intel processor. */
export interface MicrocodeHeader {
  readonly revision: number
  /** `2023-08-31`, as the update says. */
  readonly date: string
  /** Processor that it is for: family, model and stepping as CPUID gives them. */
  readonly processorSignature: number
}

const HEADER_OCTETS = 48
const HEADER_VERSION = 1

/** @throws DecodeError where the data do not begin with such a header @see Intel SDM, volume 3A, clause 9.11.1 */
export function parseMicrocodeHeader(data: Uint8Array): MicrocodeHeader {
  const reader = new ByteReader(data.subarray(0, HEADER_OCTETS), 'little')
  must(reader.u32() === HEADER_VERSION, reader, 'the header of a microcode update')
  const revision = reader.u32()
  const date = reader.u32().toString(16).padStart(8, '0')
  const processorSignature = reader.u32()
  reader.take(32)
  const year = date.slice(4)
  return { revision, date: `${year}-${date.slice(0, 2)}-${date.slice(2, 4)}`, processorSignature }
}
