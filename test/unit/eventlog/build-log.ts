import { createHash } from 'node:crypto'
import { concat, utf8 } from '../../../src/core/bytes.js'
import { ByteWriter } from '../../../src/core/reader.js'
import {
  EVENT_TYPES,
  type EventLog,
  type EventTypeName,
  encodeEventLog,
  type LoggedEvent,
} from '../../../src/eventlog/index.js'
import { HASH_ALGORITHMS, type HashName } from '../../../src/tpm/index.js'

/** An event as its firmware measures it: the digest is that of the data, unless another is given. */
export interface EventPlan {
  readonly pcr: number
  readonly type: EventTypeName | number
  readonly data?: Uint8Array
  /** What was hashed into the PCR. */
  readonly measured?: Uint8Array
}

/** A log in the crypto-agile format, as a firmware writes it. */
export function buildLog(
  plans: readonly EventPlan[],
  banks: readonly HashName[] = ['sha256'],
): EventLog {
  const events = plans.map(({ pcr, type, data = new Uint8Array(), measured = data }, index) => ({
    index,
    pcr,
    type: typeof type === 'number' ? type : EVENT_TYPES[type],
    digests: digestsOf(measured, banks),
    data,
  }))
  const algorithms = banks.map((bank) => {
    const { id, digestOctets } = HASH_ALGORITHMS[bank]
    return { id, digestOctets }
  })
  return {
    format: 'crypto-agile',
    banks,
    algorithms,
    header: specIdEvent(algorithms),
    events,
    quirks: [],
  }
}

export function digestsOf(
  measured: Uint8Array,
  banks: readonly HashName[],
): ReadonlyMap<HashName, Uint8Array> {
  return new Map(
    banks.map((bank) => [bank, new Uint8Array(createHash(bank).update(measured).digest())]),
  )
}

/** @see TCG PC Client Platform Firmware Profile, clause 10.4.5.1 (TCG_EfiSpecIdEvent) */
export function specIdEvent(
  algorithms: EventLog['algorithms'],
  options: { readonly major?: number; readonly count?: number; readonly vendor?: string } = {},
): Uint8Array {
  const writer = new ByteWriter('little')
    .put(utf8('Spec ID Event03\0'))
    .u32(0)
    .u8(0)
    .u8(options.major ?? 2)
    .u8(0)
    .u8(2)
    .u32(options.count ?? algorithms.length)
  for (const { id, digestOctets } of algorithms) writer.u16(id).u16(digestOctets)
  const vendor = utf8(options.vendor ?? '')
  return writer.u8(vendor.length).put(vendor).finish()
}

/** The first event of a crypto-agile log, with this data. */
export function headerEvent(data: Uint8Array): Uint8Array {
  return new ByteWriter('little')
    .u32(0)
    .u32(EVENT_TYPES.EV_NO_ACTION)
    .put(new Uint8Array(20))
    .u32(data.length)
    .put(data)
    .finish()
}

/** @see TCG PC Client Platform Firmware Profile, clause 10.2.6 (UEFI_VARIABLE_DATA) */
export function variableData(
  name: string,
  value: Uint8Array,
  guid: Uint8Array = GLOBAL_VARIABLE,
): Uint8Array {
  const wide = new Uint8Array(Buffer.from(name, 'utf16le'))
  return new ByteWriter('little')
    .put(guid)
    .u64(BigInt(name.length))
    .u64(BigInt(value.length))
    .put(wide)
    .put(value)
    .finish()
}

const GLOBAL_VARIABLE = new Uint8Array(Buffer.from('61dfe48bca93d211aa0d00e098032b8c', 'hex'))

/** @see TCG PC Client Platform Firmware Profile, clause 10.2.3 (UEFI_IMAGE_LOAD_EVENT) */
export function imageData(fileName: string): Uint8Array {
  const text = new Uint8Array(Buffer.from(`\\EFI\\BOOT\\${fileName}\0`, 'utf16le'))
  const node = new ByteWriter('little')
    .u8(4)
    .u8(4)
    .u16(text.length + 4)
    .put(text)
    .finish()
  const path = concat(node, Uint8Array.of(0x7f, 0xff, 4, 0))
  return new ByteWriter('little')
    .put(new Uint8Array(24))
    .u64(BigInt(path.length))
    .put(path)
    .finish()
}

export const SEPARATOR = new Uint8Array(4)
export const separator = (pcr: number): EventPlan => ({
  pcr,
  type: 'EV_SEPARATOR',
  data: SEPARATOR,
})
export const action = (pcr: number, text: string): EventPlan => ({
  pcr,
  type: 'EV_EFI_ACTION',
  data: utf8(text),
})
export const application = (fileName: string): EventPlan => ({
  pcr: 4,
  type: 'EV_EFI_BOOT_SERVICES_APPLICATION',
  data: imageData(fileName),
  measured: utf8(`the code of ${fileName}`),
})
export const secureBoot = (value: readonly number[]): EventPlan => ({
  pcr: 7,
  type: 'EV_EFI_VARIABLE_DRIVER_CONFIG',
  data: variableData('SecureBoot', Uint8Array.from(value)),
})

export const setting = (name: string, value: Uint8Array, guid?: Uint8Array): EventPlan => ({
  pcr: 7,
  type: 'EV_EFI_VARIABLE_DRIVER_CONFIG',
  data: variableData(name, value, guid),
})

export const IMAGE_SECURITY = new Uint8Array(Buffer.from('cbb219d73a3d9645a3bcdad00e67656f', 'hex'))

/** @see UEFI Specification, clause 32.4.1 (EFI_SIGNATURE_LIST of EFI_CERT_SHA256) */
export function hashList(hashes: readonly Uint8Array[]): Uint8Array {
  const writer = new ByteWriter('little')
    .put(new Uint8Array(Buffer.from('2616c4c14c509240aca941f936934328', 'hex')))
    .u32(28 + hashes.length * 48)
    .u32(0)
    .u32(48)
  for (const hash of hashes) writer.put(new Uint8Array(16)).put(hash)
  return writer.finish()
}

const KEYS = hashList([new Uint8Array(32).fill(1)])

export const authority = (value = new Uint8Array(48).fill(1)): EventPlan => ({
  pcr: 7,
  type: 'EV_EFI_VARIABLE_AUTHORITY',
  data: variableData('db', value, IMAGE_SECURITY),
})

/** A boot with Secure Boot, one boot loader, and the end of boot services: events 0 to 19. */
export const PLAIN_BOOT: readonly EventPlan[] = [
  { pcr: 0, type: 'EV_S_CRTM_VERSION', data: new Uint8Array(Buffer.from('1.0\0', 'utf16le')) },
  { pcr: 0, type: 'EV_EFI_PLATFORM_FIRMWARE_BLOB', data: new Uint8Array(16), measured: utf8('fw') },
  secureBoot([1]),
  setting('PK', KEYS),
  setting('KEK', KEYS),
  setting('db', KEYS, IMAGE_SECURITY),
  setting('dbx', KEYS, IMAGE_SECURITY),
  action(4, 'Calling EFI Application from Boot Option'),
  ...[0, 1, 2, 3, 4, 5, 6, 7].map(separator),
  authority(),
  application('grubx64.efi'),
  action(5, 'Exit Boot Services Invocation'),
  action(5, 'Exit Boot Services Returned with Success'),
]

/** Index of the separator of a PCR in `PLAIN_BOOT`. */
export const separatorOf = (pcr: number): number => 8 + pcr
export const LOADER = 17
/** Index of the first of the two actions that end boot services. */
export const EXIT = LOADER + 1
/** Index of the revocation list. */
export const DBX = 6

/** The log with one event changed, its digests kept unless they are given too. */
export function withEvent(log: EventLog, index: number, change: Partial<LoggedEvent>): EventLog {
  const event = log.events[index]
  if (!event) throw new TypeError(`no event ${index}`)
  return { ...log, events: log.events.with(index, { ...event, ...change }) }
}

/** The log with events behind it, or at `index`. */
export function withMore(log: EventLog, more: readonly EventPlan[], index?: number): EventLog {
  const added = buildLog(more, log.banks).events
  const at = index ?? log.events.length
  const events = [...log.events.slice(0, at), ...added, ...log.events.slice(at)]
  return { ...log, events: events.map((event, position) => ({ ...event, index: position })) }
}

/** Octets of a log, with a 32-bit number written somewhere. */
export function patched(log: EventLog, offset: number, value: number): Uint8Array {
  const octets = encodeEventLog(log)
  new DataView(octets.buffer).setUint32(offset, value, true)
  return octets
}
