import { toHex } from '../core/bytes.js'
import { unreachable } from '../core/errors.js'
import type { HashName } from '../tpm/index.js'
import { type Coverage, coverageOf } from './coverage.js'
import { decodeEvent } from './decode-event.js'
import type { EventContent } from './event-content.js'
import { eventTypeName } from './event-types.js'
import { type JsonValue, jsonOf } from './json-of.js'
import type { LoggedEvent } from './parse-event-log.js'
import { summaryOfVariable } from './summary-of-variable.js'

/** One event as plain data, ready for JSON. All of its text is escaped and bounded. */
export interface DescribedEvent {
  readonly index: number
  readonly pcr: number
  /** Name of the type in the standard, or its number: `0x8401`. */
  readonly type: string
  /** By bank, as lower-case hexadecimal text. */
  readonly digests: Readonly<Record<string, string>>
  readonly octets: number
  readonly coverage: Coverage
  /** The tree of `decodeEvent`: numbers of 64 bits as hexadecimal text, octets as `jsonOf` writes them. */
  readonly content: JsonValue
}

/** Describes an event for `sigillo eventlog show --json`. Never throws. */
export function describeEvent(event: LoggedEvent, bank: HashName): DescribedEvent {
  const digests = [...event.digests].map(([name, digest]) => [name, toHex(digest)] as const)
  return {
    index: event.index,
    pcr: event.pcr,
    type: typeOf(event),
    digests: Object.fromEntries(digests),
    octets: event.data.length,
    coverage: coverageOf(event, bank),
    content: jsonOf(decodeEvent(event)),
  }
}

/**
 * An event in one line for people: `12  PCR 7  EV_EFI_VARIABLE_DRIVER_CONFIG  SecureBoot: on  [data]  sha256:115a…`
 *
 * What is in brackets says how far the digest proves what stands in front of it.
 */
export function eventLine(event: LoggedEvent, bank: HashName): string {
  const { kind, part } = coverageOf(event, bank)
  const digest = event.digests.get(bank)
  const fields = [
    `${event.index}`,
    event.pcr > 23 ? 'no PCR' : `PCR ${event.pcr}`,
    typeOf(event),
    cut(summaryOf(decodeEvent(event))),
    part ? `[${kind}: ${part}]` : `[${kind}]`,
    digest ? `${bank}:${toHex(digest)}` : `no ${bank} digest`,
  ]
  return fields.filter((field) => field !== '').join('  ')
}

const MAX_SUMMARY = 200

function cut(text: string): string {
  return text.length > MAX_SUMMARY ? `${text.slice(0, MAX_SUMMARY)}…` : text
}

function typeOf({ type }: LoggedEvent): string {
  return eventTypeName(type) ?? `0x${type.toString(16)}`
}

function summaryOf(content: EventContent): string {
  switch (content.kind) {
    case 'variable':
      return `${content.name}: ${summaryOfVariable(content.meaning, content.value)}`
    case 'image':
      return content.devicePath === '' ? 'an image from memory' : content.devicePath
    case 'text':
      return `"${content.text}"`
    case 'separator':
      return content.error ? 'error' : ''
    case 'windows-separator':
      return 'of Windows'
    case 'partitions':
      return `disk ${content.table.diskGuid}: ${content.table.partitions.map(({ name, typeName, type }) => name || typeName || type).join(', ')}`
    case 'firmware': {
      const { description, address, length } = content.blob
      return `${description ? `${description} ` : ''}${hex(length)} octets at ${hex(address)}`
    }
    case 'tables':
      return content.handoff.tables.map(({ name, guid }) => name ?? guid).join(', ')
    case 'microcode':
      return `revision ${hex(content.update.revision)} of ${content.update.date}`
    case 'certificate':
      return content.certificate.subject ?? content.certificate.fingerprint
    case 'no-action':
      return content.event.says
    case 'tag':
      return content.name ?? `tag ${hex(content.id)} "${content.text}"`
    case 'windows':
      return content.entries.map(({ name, id }) => name ?? hex(id)).join(', ')
    case 'spdm':
      return `SPDM ${content.event.holds} of a device`
    case 'octets':
      return content.label ?? `${content.data.length} octets`
    case 'opaque':
      return 'cannot be read'
    default:
      return unreachable(content)
  }
}

function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`
}
