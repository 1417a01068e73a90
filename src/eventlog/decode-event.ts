import { createHash } from 'node:crypto'
import { equalBytes, toHex } from '../core/bytes.js'
import { isPlatformError } from '../core/errors.js'
import { ByteReader } from '../core/reader.js'
import type { HashName } from '../tpm/index.js'
import { EVENT_TYPES, type EventTypeName, eventTypeName } from './event-types.js'
import type { LoggedEvent } from './parse-event-log.js'
import { latinText, printable, utf16Text } from './printable.js'

/** What the data of an event say. Text is escaped and bounded; what cannot be read is `opaque`. */
export type EventContent =
  | {
      readonly kind: 'variable'
      readonly guid: string
      readonly name: string
      readonly value: Uint8Array
    }
  | { readonly kind: 'image'; readonly devicePath: string; readonly fileName: string | undefined }
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'separator'; readonly error: boolean }
  | { readonly kind: 'opaque' }

const OPAQUE: EventContent = { kind: 'opaque' }

const VARIABLE_TYPES: readonly (EventTypeName | undefined)[] = [
  'EV_EFI_VARIABLE_DRIVER_CONFIG',
  'EV_EFI_VARIABLE_BOOT',
  'EV_EFI_VARIABLE_BOOT2',
  'EV_EFI_VARIABLE_AUTHORITY',
]
const IMAGE_TYPES: readonly (EventTypeName | undefined)[] = [
  'EV_EFI_BOOT_SERVICES_APPLICATION',
  'EV_EFI_BOOT_SERVICES_DRIVER',
  'EV_EFI_RUNTIME_SERVICES_DRIVER',
]

/** Reads the data of an event by its type. Both come from the host: see `isDataCovered` before believing them. */
export function decodeEvent(event: LoggedEvent): EventContent {
  try {
    return decode(event)
  } catch (error) {
    if (isPlatformError(error)) return OPAQUE
    throw error
  }
}

function decode({ type, data }: LoggedEvent): EventContent {
  const name = eventTypeName(type)
  if (VARIABLE_TYPES.includes(name)) return decodeVariable(data)
  if (IMAGE_TYPES.includes(name)) return decodeImage(data)
  switch (name) {
    case 'EV_SEPARATOR':
      return decodeSeparator(data)
    case 'EV_ACTION':
    case 'EV_EFI_ACTION':
    case 'EV_POST_CODE':
      return { kind: 'text', text: printable(latinText(data)) }
    case 'EV_S_CRTM_VERSION':
      return { kind: 'text', text: printable(utf16Text(data)) }
    case 'EV_IPL':
      return { kind: 'text', text: printable(iplText(data)) }
    case 'EV_EVENT_TAG':
      return decodeTag(data)
    default:
      return OPAQUE
  }
}

/** @see TCG PC Client Platform Firmware Profile, clause 10.2.6 (UEFI_VARIABLE_DATA) */
function decodeVariable(data: Uint8Array): EventContent {
  const reader = new ByteReader(data, 'little')
  const guid = guidText(reader.take(16))
  const nameLength = lengthOf(reader.u64(), reader.remaining)
  const valueLength = lengthOf(reader.u64(), reader.remaining)
  const name = printable(utf16Text(reader.take(nameLength * 2)))
  return { kind: 'variable', guid, name, value: reader.take(valueLength) }
}

/** @see TCG PC Client Platform Firmware Profile, clause 10.2.3 (UEFI_IMAGE_LOAD_EVENT) */
function decodeImage(data: Uint8Array): EventContent {
  const reader = new ByteReader(data, 'little')
  reader.take(24)
  const length = lengthOf(reader.u64(), reader.remaining)
  const nodes = devicePathNodes(reader.take(length))
  const devicePath = nodes.join('')
  const file = nodes.findLast((node) => node.startsWith('\\') || node.startsWith('/\\'))
  return { kind: 'image', devicePath, fileName: file?.split('\\').at(-1) }
}

const END_OF_PATH = 0x7f
const MEDIA = 4
const MEDIA_FILE_PATH = 4
const MEDIA_HARD_DRIVE = 1
const MEDIA_VENDOR = 3

/** @see UEFI Specification, clause 10.3 (device path nodes) */
function devicePathNodes(path: Uint8Array): readonly string[] {
  const reader = new ByteReader(path, 'little')
  const nodes: string[] = []
  while (reader.remaining >= 4) {
    const type = reader.u8()
    const subtype = reader.u8()
    const length = reader.u16()
    if (length < 4) break
    const body = reader.take(length - 4)
    if (type === END_OF_PATH) break
    nodes.push(nodeText(type, subtype, body))
  }
  return nodes
}

function nodeText(type: number, subtype: number, body: Uint8Array): string {
  if (type === MEDIA && subtype === MEDIA_FILE_PATH) return printable(utf16Text(body))
  if (type === MEDIA && subtype === MEDIA_HARD_DRIVE && body.length >= 36) {
    return `/partition ${guidText(body.subarray(20, 36))}`
  }
  if (type === MEDIA && subtype === MEDIA_VENDOR && body.length >= 16) {
    return `/vendor ${guidText(body.subarray(0, 16))}`
  }
  return `/node ${type}.${subtype}`
}

/** @see TCG PC Client Platform Firmware Profile, clause 10.4.1 (EV_SEPARATOR) */
function decodeSeparator(data: Uint8Array): EventContent {
  const text = toHex(data)
  if (text === '00000000' || text === 'ffffffff') return { kind: 'separator', error: false }
  return text === '01000000' ? { kind: 'separator', error: true } : OPAQUE
}

/** GRUB and shim write Latin text, systemd's stub UTF-16. */
function iplText(data: Uint8Array): string {
  const looksWide = data.length >= 4 && data[1] === 0 && data[3] === 0
  return looksWide ? utf16Text(data) : latinText(data)
}

/** @see TCG PC Client Platform Firmware Profile, clause 10.4.2 (TCG_PCClientTaggedEvent) */
function decodeTag(data: Uint8Array): EventContent {
  const reader = new ByteReader(data, 'little')
  reader.u32()
  const length = lengthOf(BigInt(reader.u32()), reader.remaining)
  return { kind: 'text', text: printable(latinText(reader.take(length))) }
}

function lengthOf(value: bigint, remaining: number): number {
  return value > BigInt(remaining) ? remaining + 1 : Number(value)
}

function guidText(octets: Uint8Array): string {
  const reader = new ByteReader(octets, 'little')
  const head = [reader.u32().toString(16).padStart(8, '0')]
  head.push(reader.u16().toString(16).padStart(4, '0'), reader.u16().toString(16).padStart(4, '0'))
  return [...head, toHex(reader.take(2)), toHex(reader.take(6))].join('-')
}

/** Types whose digest is, by the standard, the digest of their data. */
const COVERED_TYPES: ReadonlySet<number> = new Set([
  EVENT_TYPES.EV_SEPARATOR,
  EVENT_TYPES.EV_ACTION,
  EVENT_TYPES.EV_EFI_ACTION,
  EVENT_TYPES.EV_S_CRTM_VERSION,
  EVENT_TYPES.EV_EFI_VARIABLE_DRIVER_CONFIG,
  EVENT_TYPES.EV_EFI_VARIABLE_AUTHORITY,
  EVENT_TYPES.EV_EFI_VARIABLE_BOOT2,
  EVENT_TYPES.EV_EFI_GPT_EVENT,
])

/**
 * Whether the digest of an event proves its data: for types where the standard says so, and where it really is the
 * digest of the data. Images, firmware blobs and most EV_IPL events are described by their data, never proved.
 *
 * @see TCG PC Client Platform Firmware Profile, clause 10.4.1, table of event types
 */
export function isDataCovered(event: LoggedEvent, bank: HashName): boolean {
  if (!COVERED_TYPES.has(event.type)) return false
  const digest = event.digests.get(bank)
  return digest !== undefined && equalBytes(digest, createHash(bank).update(event.data).digest())
}

/** Whether an EV_IPL text of GRUB was measured as it is shown: GRUB hashes what follows its prefix. */
export function isTextCovered(event: LoggedEvent, bank: HashName, prefix: string): boolean {
  const digest = event.digests.get(bank)
  const text = latinText(event.data)
  if (!digest || !text.startsWith(prefix)) return false
  const measured = Buffer.from(text.slice(prefix.length), 'latin1')
  return equalBytes(digest, createHash(bank).update(measured).digest())
}
