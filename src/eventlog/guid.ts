import { toHex } from '../core/bytes.js'
import type { ByteReader } from '../core/reader.js'

const GUID_OCTETS = 16

export const GLOBAL_VARIABLE_GUID = '8be4df61-93ca-11d2-aa0d-00e098032b8c'
export const IMAGE_SECURITY_GUID = 'd719b2cb-3d3a-4596-a3bc-dad00e67656f'
export const SHIM_GUID = '605dab50-e046-4300-abb6-3dd810dd8b23'

/** Owners, vendors, tables and partition types that logs name by GUID. */
const NAMES: ReadonlyMap<string, string> = new Map([
  [GLOBAL_VARIABLE_GUID, 'EFI global variable'],
  [IMAGE_SECURITY_GUID, 'EFI image security database'],
  ['b9c2b4f4-bf5f-462d-8adf-c5c70ac35dad', 'EFI device security database'],
  [SHIM_GUID, 'shim'],
  ['4a67b082-0a4c-41cf-b6c7-440b29bb8c4f', 'systemd boot loader'],
  ['77fa9abd-0359-4d32-bd60-28f4e78f784b', 'Microsoft'],
  ['a0baa8a3-041d-48a8-bc87-c36d121b5e3d', 'OVMF default keys'],
  ['6dc40ae4-2ee8-9c4c-a314-0fc7b2008710', 'Canonical'],
  ['eb9d2d30-2d88-11d3-9a16-0090273fc14d', 'ACPI 1.0 table'],
  ['8868e871-e4f1-11d3-bc22-0080c73c8881', 'ACPI 2.0 table'],
  ['eb9d2d31-2d88-11d3-9a16-0090273fc14d', 'SMBIOS table'],
  ['f2fd1544-9794-4a2c-992e-e5bbcf20e394', 'SMBIOS 3 table'],
  ['eb9d2d32-2d88-11d3-9a16-0090273fc14d', 'SAL system table'],
  ['eb9d2d2f-2d88-11d3-9a16-0090273fc14d', 'MPS table'],
  ['c12a7328-f81f-11d2-ba4b-00a0c93ec93b', 'EFI system partition'],
  ['bc13c2ff-59e6-4262-a352-b275fd6f7172', 'extended boot loader partition'],
  ['21686148-6449-6e6f-744e-656564454649', 'BIOS boot partition'],
  ['0fc63daf-8483-4772-8e79-3d69d8477de4', 'Linux file system'],
  ['4f68bce3-e8cd-4db1-96e7-fbcaf984b709', 'Linux root, x86-64'],
  ['0657fd6d-a4ab-43c4-84e5-0933c84b4f4f', 'Linux swap'],
  ['e6d6d379-f507-44c2-a23c-238f2a3df928', 'Linux LVM'],
  ['a19d880f-05fc-4d3b-a006-743f0f84911e', 'Linux RAID'],
  ['ca7d7ccb-63ed-4c53-861c-1742536059cc', 'LUKS'],
  ['e3c9e316-0b5c-4db8-817d-f92df00215ae', 'Microsoft reserved'],
  ['ebd0a0a2-b9e5-4433-87c0-68b6b72699c7', 'Microsoft basic data'],
  ['de94bba4-06d1-4d40-a16a-bfd50179d6ac', 'Windows recovery'],
])

/** What a GUID stands for, where it is one of those that boot logs have as a rule. */
export function guidName(guid: string): string | undefined {
  return NAMES.get(guid)
}

/**
 * The text of a GUID: the first three fields are little-endian.
 *
 * @param octets 16 of them
 * @see UEFI Specification, appendix A
 */
export function guidText(octets: Uint8Array): string {
  const hex = toHex(octets)
  const at = (index: number) => hex.slice(index * 2, index * 2 + 2)
  const time = `${at(3)}${at(2)}${at(1)}${at(0)}-${at(5)}${at(4)}-${at(7)}${at(6)}`
  return `${time}-${hex.slice(16, 20)}-${hex.slice(20)}`
}

/** @throws DecodeError where fewer than 16 octets are left */
export function readGuid(reader: ByteReader): string {
  return guidText(reader.take(GUID_OCTETS))
}
