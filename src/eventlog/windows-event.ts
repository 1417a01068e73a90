import { toHex } from '../core/bytes.js'
import { DecodeError } from '../core/errors.js'
import { ByteReader } from '../core/reader.js'
import { printable, utf16Text } from './printable.js'

/** One entry of what Windows measures: a container of others, or a value. */
export interface WindowsEntry {
  readonly id: number
  /** Name of the identifier in Microsoft's `wbcl.h`, without its prefix; nothing where it has none. */
  readonly name?: string
  readonly entries?: readonly WindowsEntry[]
  readonly text?: string
  readonly number?: bigint
  /** The first octets of any other value, as hexadecimal text. */
  readonly octets?: string
}

const MAX_DEPTH = 8
const MAX_ENTRIES = 2048
const MAX_OCTETS_SHOWN = 64

/** Flags of identifiers: an entry that is not measured, and one that holds others. */
const NOT_MEASURED = 0x8000_0000
const AGGREGATION = 0x4000_0000
const CONTAINER = AGGREGATION + 0x1_0000

const numbered = (base: number, names: readonly string[]): readonly (readonly [number, string])[] =>
  names.map((name, index) => [base + index + 1, name])

/** @see Windows SDK, wbcl.h (SIPAEVENT identifiers) */
const NAMES: ReadonlyMap<number, string> = new Map([
  ...numbered(CONTAINER, ['TRUSTBOUNDARY', 'ELAM_AGGREGATION', 'LOADEDMODULE_AGGREGATION']),
  [NOT_MEASURED + CONTAINER + 4, 'TRUSTPOINT_AGGREGATION'],
  [CONTAINER + 5, 'KSR_AGGREGATION'],
  [CONTAINER + 6, 'SIGNED_POLICY_AGGREGATION'],
  ...numbered(0x2_0000, [
    ...['INFORMATION', 'BOOTCOUNTER', 'TRANSFER_CONTROL', 'APPLICATION_RETURN'],
    ...['BITLOCKER_UNLOCK', 'EVENTCOUNTER', 'COUNTERID', 'MORBIT_NOT_CANCELABLE'],
    ...['APPLICATION_SVN', 'SVN_CHAIN_STATUS', 'MORBIT_API_STATUS'],
  ]),
  [0x3_0001, 'FIRMWAREFAILURE'],
  [NOT_MEASURED + 0x3_0002, 'TPMFAILURE'],
  [0x3_0003, 'INTERNALFAILURE'],
  ...numbered(0x4_0000, ['BOOTDEBUGGING', 'BOOT_REVOCATION_LIST']),
  ...numbered(0x5_0000, [
    ...['OSKERNELDEBUG', 'CODEINTEGRITY', 'TESTSIGNING', 'DATAEXECUTIONPREVENTION', 'SAFEMODE'],
    ...['WINPE', 'PHYSICALADDRESSEXTENSION', 'OSDEVICE', 'SYSTEMROOT', 'HYPERVISOR_LAUNCH_TYPE'],
    ...['HYPERVISOR_PATH', 'HYPERVISOR_IOMMU_POLICY', 'HYPERVISOR_DEBUG', 'DRIVER_LOAD_POLICY'],
    ...['SI_POLICY', 'HYPERVISOR_MMIO_NX_POLICY', 'HYPERVISOR_MSR_FILTER_POLICY'],
    ...['VSM_LAUNCH_TYPE', 'OS_REVOCATION_LIST'],
  ]),
  ...numbered(0x5_001f, [
    ...['VSM_IDK_INFO', 'FLIGHTSIGNING', 'PAGEFILE_ENCRYPTION_ENABLED', 'VSM_IDKS_INFO'],
    ...['HIBERNATION_DISABLED', 'DUMPS_DISABLED', 'DUMP_ENCRYPTION_ENABLED'],
    'DUMP_ENCRYPTION_KEY_DIGEST',
  ]),
  ...numbered(0x6_0000, ['NOAUTHORITY', 'AUTHORITYPUBKEY']),
  ...numbered(0x7_0000, [
    ...['FILEPATH', 'IMAGESIZE', 'HASHALGORITHMID', 'AUTHENTICODEHASH', 'AUTHORITYISSUER'],
    ...['AUTHORITYSERIAL', 'IMAGEBASE', 'AUTHORITYPUBLISHER', 'AUTHORITYSHA1THUMBPRINT'],
    ...['IMAGEVALIDATED', 'MODULE_SVN'],
  ]),
  ...numbered(NOT_MEASURED + 0x8_0000, ['QUOTE', 'QUOTESIGNATURE', 'AIKID', 'AIKPUBDIGEST']),
  ...numbered(0x9_0000, ['ELAM_KEYNAME', 'ELAM_CONFIGURATION', 'ELAM_POLICY', 'ELAM_MEASURED']),
  ...numbered(0xa_0000, [
    ...['VBS_VSM_REQUIRED', 'VBS_SECUREBOOT_REQUIRED', 'VBS_IOMMU_REQUIRED'],
    ...['VBS_MMIO_NX_REQUIRED', 'VBS_MSR_FILTERING_REQUIRED', 'VBS_MANDATORY_ENFORCEMENT'],
    ...['VBS_HVCI_POLICY', 'VBS_MICROSOFT_BOOT_CHAIN_REQUIRED', 'VBS_DUMP_USES_AMEROOT'],
    'VBS_VSM_NOSECRETS_ENFORCED',
  ]),
  [0xb_0001, 'KSR_SIGNATURE'],
  ...numbered(0xc_0000, [
    ...['DRTM_STATE_AUTH', 'DRTM_SMM_LEVEL', 'DRTM_AMD_SMM_HASH', 'DRTM_AMD_SMM_SIGNER_KEY'],
  ]),
])

const TEXTS: ReadonlySet<string> = new Set([
  ...['FILEPATH', 'SYSTEMROOT', 'HYPERVISOR_PATH', 'AUTHORITYISSUER', 'AUTHORITYPUBLISHER'],
  ...['ELAM_KEYNAME', 'AIKID'],
])

/** Identifiers of Windows: one octet of flags, one of a category up to 12, two of a number. */
export function isWindowsId(id: number): boolean {
  const category = (id >>> 16) & 0xff
  return (id & 0x3f00_0000) === 0 && category >= 1 && category <= 0x0c
}

/**
 * Reads the nested entries of a tagged event of Windows. Unknown identifiers are kept as numbers.
 *
 * @throws DecodeError: `DECODE_TRUNCATED`, and `DECODE_TOO_LARGE` above 8 levels or 2048 entries
 */
export function parseWindowsEvent(data: Uint8Array): readonly WindowsEntry[] {
  return readEntries(data, { depth: 1, count: 0 })
}

interface Progress {
  readonly depth: number
  /** Entries so far, on all levels. */
  count: number
}

function readEntries(data: Uint8Array, progress: Progress): readonly WindowsEntry[] {
  const reader = new ByteReader(data, 'little')
  const entries: WindowsEntry[] = []
  while (reader.remaining > 0) {
    progress.count += 1
    if (progress.count > MAX_ENTRIES || progress.depth > MAX_DEPTH) {
      const expected = `expected at most ${MAX_ENTRIES} entries on ${MAX_DEPTH} levels`
      throw new DecodeError('DECODE_TOO_LARGE', reader.offset, expected)
    }
    const id = reader.u32()
    const value = reader.take(reader.u32())
    const name = NAMES.get(id)
    const entry = name ? { id, name } : { id }
    if ((id & AGGREGATION) === 0) {
      entries.push({ ...entry, ...readValue(name, value) })
      continue
    }
    const inner = { depth: progress.depth + 1, count: progress.count }
    entries.push({ ...entry, entries: readEntries(value, inner) })
    progress.count = inner.count
  }
  return entries
}

function readValue(
  name: string | undefined,
  value: Uint8Array,
): Pick<WindowsEntry, 'text' | 'number' | 'octets'> {
  if (name !== undefined && TEXTS.has(name)) return { text: printable(utf16Text(value)) }
  const reader = new ByteReader(value, 'little')
  switch (value.length) {
    case 1:
      return { number: BigInt(reader.u8()) }
    case 4:
      return { number: BigInt(reader.u32()) }
    case 8:
      return { number: reader.u64() }
    default: {
      const cut = value.length > MAX_OCTETS_SHOWN ? '…' : ''
      return { octets: `${toHex(value.subarray(0, MAX_OCTETS_SHOWN))}${cut}` }
    }
  }
}
