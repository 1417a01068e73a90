import { utf8 } from '../core/bytes.js'
import { ByteReader } from '../core/reader.js'
import { guidName, readGuid } from './guid.js'
import { printable, utf16Text } from './printable.js'
import { must } from './sized.js'

/** A partition table as it was measured: used entries alone. */
export interface PartitionTable {
  readonly diskGuid: string
  readonly firstUsableLba: bigint
  readonly lastUsableLba: bigint
  readonly partitions: readonly Partition[]
}

export interface Partition {
  readonly type: string
  readonly typeName?: string
  readonly guid: string
  readonly firstLba: bigint
  readonly lastLba: bigint
  readonly name: string
}

const SIGNATURE = utf8('EFI PART')
const MIN_ENTRY_OCTETS = 128
const NAME_OCTETS = 72
/** Partition tables have place for 128 as a rule. */
const MAX_PARTITIONS = 256

/**
 * Reads UEFI_GPT_DATA to the last octet. The checksums in it are not computed.
 *
 * @throws DecodeError
 * @see TCG PC Client Platform Firmware Profile, clause 10.2.6 (UEFI_GPT_DATA)
 * @see UEFI Specification, clauses 5.3.2 and 5.3.3 (header and entries)
 */
export function parsePartitionTable(data: Uint8Array): PartitionTable {
  const reader = new ByteReader(data, 'little')
  const signature = reader.take(SIGNATURE.length)
  must(
    SIGNATURE.every((octet, index) => signature[index] === octet),
    reader,
    'a partition table header',
  )
  // Revision, header size, checksum, reserved, and where this header and the other one are.
  reader.take(32)
  const [firstUsableLba, lastUsableLba] = [reader.u64(), reader.u64()]
  const diskGuid = readGuid(reader)
  // Where the entries are, and how many there is place for.
  reader.take(12)
  const entryOctets = reader.u32()
  reader.take(4)
  const count = reader.u64()
  must(entryOctets >= MIN_ENTRY_OCTETS, reader, `entries of at least ${MIN_ENTRY_OCTETS} octets`)
  const fits = count * BigInt(entryOctets) === BigInt(reader.remaining)
  must(count <= MAX_PARTITIONS, reader, `at most ${MAX_PARTITIONS} partitions`)
  must(fits, reader, `${count} entries of ${entryOctets} octets and nothing else`)
  const partitions: Partition[] = []
  while (reader.remaining > 0) partitions.push(readEntry(reader.take(entryOctets)))
  return { diskGuid, firstUsableLba, lastUsableLba, partitions }
}

function readEntry(octets: Uint8Array): Partition {
  const reader = new ByteReader(octets, 'little')
  const type = readGuid(reader)
  const guid = readGuid(reader)
  const [firstLba, lastLba] = [reader.u64(), reader.u64()]
  reader.u64()
  const name = printable(utf16Text(reader.take(NAME_OCTETS)))
  const typeName = guidName(type)
  return { type, ...(typeName ? { typeName } : {}), guid, firstLba, lastLba, name }
}
