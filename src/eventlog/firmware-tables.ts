import { ByteReader } from '../core/reader.js'
import { guidName, readGuid } from './guid.js'
import { latinText, printable } from './printable.js'
import { must, takeShort } from './sized.js'

/** Code of the firmware by its place: what it is made of is in the digest alone. */
export interface FirmwareBlob {
  readonly description?: string
  readonly address: bigint
  readonly length: bigint
}

/** Tables that the firmware hands to the system, by place: what is in them is in the digest alone. */
export interface HandoffTables {
  readonly description?: string
  readonly tables: readonly {
    readonly guid: string
    readonly name?: string
    readonly address: bigint
  }[]
}

const TABLE_ENTRY_OCTETS = 24n
/** Firmware hands over fewer than twenty. */
const MAX_TABLES = 256

/** @throws DecodeError @see TCG PC Client Platform Firmware Profile, clause 10.2 (UEFI_PLATFORM_FIRMWARE_BLOB) */
export function parseFirmwareBlob(data: Uint8Array): FirmwareBlob {
  return readBlob(new ByteReader(data, 'little'))
}

/** @throws DecodeError @see TCG PC Client Platform Firmware Profile, clause 10.2 (UEFI_PLATFORM_FIRMWARE_BLOB2) */
export function parseFirmwareBlob2(data: Uint8Array): FirmwareBlob {
  const reader = new ByteReader(data, 'little')
  const description = printable(latinText(takeShort(reader)))
  return { description, ...readBlob(reader) }
}

function readBlob(reader: ByteReader): FirmwareBlob {
  const [address, length] = [reader.u64(), reader.u64()]
  reader.end('a firmware blob')
  return { address, length }
}

/** @throws DecodeError @see TCG PC Client Platform Firmware Profile, clause 10.2 (UEFI_HANDOFF_TABLE_POINTERS) */
export function parseHandoffTables(data: Uint8Array): HandoffTables {
  return readTables(new ByteReader(data, 'little'))
}

/** @throws DecodeError @see TCG PC Client Platform Firmware Profile, clause 10.2 (UEFI_HANDOFF_TABLE_POINTERS2) */
export function parseHandoffTables2(data: Uint8Array): HandoffTables {
  const reader = new ByteReader(data, 'little')
  const description = printable(latinText(takeShort(reader)))
  return { description, ...readTables(reader) }
}

function readTables(reader: ByteReader): HandoffTables {
  const count = reader.u64()
  const fits = count * TABLE_ENTRY_OCTETS === BigInt(reader.remaining)
  must(count <= MAX_TABLES, reader, `at most ${MAX_TABLES} tables`)
  must(fits, reader, `${count} tables and nothing else`)
  const tables: HandoffTables['tables'][number][] = []
  while (reader.remaining > 0) {
    const guid = readGuid(reader)
    const name = guidName(guid)
    tables.push({ guid, ...(name ? { name } : {}), address: reader.u64() })
  }
  return { tables }
}
