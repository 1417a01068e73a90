import { toHex } from '../core/bytes.js'
import { isPlatformError } from '../core/errors.js'
import { ByteReader } from '../core/reader.js'
import { describeCertificate } from './certificate.js'
import { parseDevicePath } from './device-path.js'
import { parseVariable } from './efi-variable.js'
import type { EventContent } from './event-content.js'
import { type EventTypeName, eventTypeName } from './event-types.js'
import {
  parseFirmwareBlob,
  parseFirmwareBlob2,
  parseHandoffTables,
  parseHandoffTables2,
} from './firmware-tables.js'
import { parsePartitionTable } from './gpt.js'
import { guidName, readGuid } from './guid.js'
import { readLoaderEvent } from './loader-event.js'
import { parseMicrocodeHeader } from './microcode.js'
import { parseNoAction } from './no-action-event.js'
import type { LoggedEvent } from './parse-event-log.js'
import { latinText, printable, utf16Text, wholeText, wholeWideText } from './printable.js'
import { takeSized } from './sized.js'
import { parseSpdmEvent } from './spdm-event.js'
import { parseTaggedEvent } from './tagged-event.js'
import { variableMeaning } from './variable-meaning.js'
import { isWindowsId, parseWindowsEvent } from './windows-event.js'

const OPAQUE: EventContent = { kind: 'opaque' }

type Decoding = (data: Uint8Array, type: EventTypeName) => EventContent

/**
 * Reads the data of an event by its type. Both come from the host: see `coverageOf` before believing them.
 *
 * Never throws; linear in the length of the data. What a type cannot have is `opaque`, a variable with such a value has the
 * meaning `unreadable`.
 *
 * @see TCG PC Client Platform Firmware Profile, clause 10.4.1 (event types)
 */
export function decodeEvent(event: LoggedEvent): EventContent {
  const known = contents.get(event)
  if (known) return known
  const content = decode(event)
  contents.set(event, content)
  return content
}

/** Several checks ask for the same event. */
const contents = new WeakMap<LoggedEvent, EventContent>()

function decode({ type, data }: LoggedEvent): EventContent {
  const name = eventTypeName(type)
  if (!name) return OPAQUE
  try {
    return DECODINGS[name](data, name)
  } catch (error) {
    if (isPlatformError(error)) return OPAQUE
    throw error
  }
}

const action: Decoding = (data) => ({ kind: 'text', text: printable(latinText(data)) })

const variable: Decoding = (data, type) => {
  const read = parseVariable(data)
  const { guid, name, value, trailingOctets } = read
  const vendor = guidName(guid)
  return {
    ...{ kind: 'variable', guid, ...(vendor ? { vendor } : {}), name, value },
    meaning: variableMeaning(read, type),
    ...(trailingOctets > 0 ? { trailingOctets } : {}),
  }
}

/** @see TCG PC Client Platform Firmware Profile, clause 10.2.3 (UEFI_IMAGE_LOAD_EVENT) */
const image: Decoding = (data) => {
  const reader = new ByteReader(data, 'little')
  const [address, length] = [reader.u64(), reader.u64()]
  reader.u64()
  const { text, fileName } = parseDevicePath(takeSized(reader, reader.u64()))
  return { kind: 'image', devicePath: text, fileName, address, length }
}

const separator: Decoding = (data) => {
  const text = toHex(data)
  if (text === '00000000' || text === 'ffffffff') return { kind: 'separator', error: false }
  if (text === '01000000') return { kind: 'separator', error: true }
  // "WBCL"
  return text === '5742434c' ? { kind: 'windows-separator' } : OPAQUE
}

const noAction: Decoding = (data, type) => {
  const event = parseNoAction(data)
  if (event) return { kind: 'no-action', event }
  return startsWindowsEvent(data) ? windows(data, type) : free(data, type)
}

const tag: Decoding = (data, type) => {
  if (startsWindowsEvent(data)) return windows(data, type)
  // The kernel of some distributions logged the text without the header of a tag.
  const text = wholeText(data)
  if (text !== undefined && text.length > 8) return { kind: 'text', text: printable(text) }
  const { id, name, text: said } = parseTaggedEvent(data)
  return { kind: 'tag', id, ...(name ? { name } : {}), text: said }
}

const windows: Decoding = (data) => ({ kind: 'windows', entries: parseWindowsEvent(data) })

function startsWindowsEvent(data: Uint8Array): boolean {
  return data.length >= 8 && isWindowsId(new ByteReader(data, 'little').u32())
}

const loader: Decoding = (data) => {
  const { by, what, text } = readLoaderEvent(data)
  return { kind: 'text', text, loader: { by, what } }
}

const BLOB_OCTETS = 16
const GUID_OCTETS = 16
const MIN_LABEL = 4

/** Text, the place of firmware, or octets that begin with a label: as vendors write what the standard leaves to them. */
const free: Decoding = (data) => {
  const text = wholeText(data) ?? wholeWideText(data)
  if (text !== undefined) return { kind: 'text', text: printable(text) }
  const label = latinText(data)
  return label.length >= MIN_LABEL && label.length < data.length && !/[^\x20-\x7e]/.test(label)
    ? { kind: 'octets', label: printable(label), data }
    : { kind: 'octets', data }
}

const firmware: Decoding = (data, type) =>
  wholeText(data) === undefined && data.length === BLOB_OCTETS
    ? { kind: 'firmware', blob: parseFirmwareBlob(data) }
    : free(data, type)

/** UTF-16 text that ends with a zero, as a rule; some makers measure a GUID, or a structure of their own. */
const version: Decoding = (data, type) => {
  const text = utf16Text(data)
  if (text.length * 2 + 2 === data.length) return { kind: 'text', text: printable(text) }
  if (data.length !== GUID_OCTETS) return free(data, type)
  return { kind: 'text', text: readGuid(new ByteReader(data, 'little')) }
}

const microcode: Decoding = (data, type) =>
  data.length > 48 && data[0] === 1 && wholeText(data) === undefined
    ? { kind: 'microcode', update: parseMicrocodeHeader(data) }
    : free(data, type)

const tables: Decoding = (data) => ({ kind: 'tables', handoff: parseHandoffTables(data) })

const devices: Decoding = (data, type) =>
  data.length > 8 && (data.length - 8) % 24 === 0 ? tables(data, type) : free(data, type)

const spdm: Decoding = (data) => ({ kind: 'spdm', event: parseSpdmEvent(data) })
const partitions: Decoding = (data) => ({ kind: 'partitions', table: parsePartitionTable(data) })

const DECODINGS: Readonly<Record<EventTypeName, Decoding>> = {
  EV_PREBOOT_CERT: (data) => ({ kind: 'certificate', certificate: describeCertificate(data) }),
  EV_POST_CODE: firmware,
  EV_NO_ACTION: noAction,
  EV_SEPARATOR: separator,
  EV_ACTION: action,
  EV_EVENT_TAG: tag,
  EV_S_CRTM_CONTENTS: firmware,
  EV_S_CRTM_VERSION: version,
  EV_CPU_MICROCODE: microcode,
  EV_PLATFORM_CONFIG_FLAGS: free,
  EV_TABLE_OF_DEVICES: devices,
  EV_COMPACT_HASH: free,
  EV_IPL: loader,
  EV_IPL_PARTITION_DATA: free,
  EV_NONHOST_CODE: firmware,
  EV_NONHOST_CONFIG: free,
  EV_NONHOST_INFO: free,
  EV_OMIT_BOOT_DEVICE_EVENTS: free,
  EV_POST_CODE2: (data) => ({ kind: 'firmware', blob: parseFirmwareBlob2(data) }),
  EV_EFI_VARIABLE_DRIVER_CONFIG: variable,
  EV_EFI_VARIABLE_BOOT: variable,
  EV_EFI_BOOT_SERVICES_APPLICATION: image,
  EV_EFI_BOOT_SERVICES_DRIVER: image,
  EV_EFI_RUNTIME_SERVICES_DRIVER: image,
  EV_EFI_GPT_EVENT: partitions,
  EV_EFI_ACTION: action,
  EV_EFI_PLATFORM_FIRMWARE_BLOB: (data) => ({ kind: 'firmware', blob: parseFirmwareBlob(data) }),
  EV_EFI_HANDOFF_TABLES: tables,
  EV_EFI_PLATFORM_FIRMWARE_BLOB2: (data) => ({ kind: 'firmware', blob: parseFirmwareBlob2(data) }),
  EV_EFI_HANDOFF_TABLES2: (data) => ({ kind: 'tables', handoff: parseHandoffTables2(data) }),
  EV_EFI_VARIABLE_BOOT2: variable,
  EV_EFI_GPT_EVENT2: partitions,
  EV_EFI_HCRTM_EVENT: free,
  EV_EFI_VARIABLE_AUTHORITY: variable,
  EV_EFI_SPDM_FIRMWARE_BLOB: spdm,
  EV_EFI_SPDM_FIRMWARE_CONFIG: spdm,
  EV_EFI_SPDM_DEVICE_POLICY: variable,
  EV_EFI_SPDM_DEVICE_AUTHORITY: variable,
}
