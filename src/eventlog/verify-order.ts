import { createHash } from 'node:crypto'
import { equalBytes } from '../core/bytes.js'
import { type FailedFinding, type Finding, failed, passed } from '../core/finding.js'
import type { HashName } from '../tpm/index.js'
import { decodeEvent, isDataCovered } from './decode-event.js'
import { type EventTypeName, eventTypeName } from './event-types.js'
import type { EventLog, LoggedEvent } from './parse-event-log.js'
import { isExtending } from './replay.js'

/** PCRs that the firmware ends with a separator each. */
const LAST_FIRMWARE_PCR = 7
const EXIT_BOOT_SERVICES = [
  'Exit Boot Services Invocation',
  'Exit Boot Services Returned with Success',
  'Exit Boot Services Returned with Failure',
]
const DEBUG_MODE = 'UEFI Debug Mode'

const ANYWHERE: readonly EventTypeName[] = ['EV_NO_ACTION', 'EV_SEPARATOR', 'EV_EVENT_TAG']
const FIRMWARE: readonly EventTypeName[] = [
  ...(['EV_POST_CODE', 'EV_POST_CODE2', 'EV_S_CRTM_CONTENTS', 'EV_S_CRTM_VERSION'] as const),
  ...(['EV_CPU_MICROCODE', 'EV_NONHOST_CODE', 'EV_NONHOST_INFO', 'EV_EFI_HCRTM_EVENT'] as const),
  ...(['EV_EFI_PLATFORM_FIRMWARE_BLOB', 'EV_EFI_PLATFORM_FIRMWARE_BLOB2'] as const),
  ...(['EV_EFI_SPDM_FIRMWARE_BLOB', 'EV_EFI_SPDM_FIRMWARE_CONFIG'] as const),
]
const DRIVERS: readonly EventTypeName[] = [
  ...(['EV_EFI_BOOT_SERVICES_DRIVER', 'EV_EFI_RUNTIME_SERVICES_DRIVER'] as const),
  'EV_EFI_BOOT_SERVICES_APPLICATION',
]
const SETTINGS: readonly EventTypeName[] = [
  ...(['EV_CPU_MICROCODE', 'EV_PLATFORM_CONFIG_FLAGS', 'EV_TABLE_OF_DEVICES'] as const),
  ...(['EV_NONHOST_CONFIG', 'EV_EFI_HANDOFF_TABLES', 'EV_EFI_HANDOFF_TABLES2'] as const),
  ...(['EV_EFI_VARIABLE_DRIVER_CONFIG', 'EV_EFI_VARIABLE_BOOT', 'EV_EFI_VARIABLE_BOOT2'] as const),
  ...(['EV_EFI_SPDM_FIRMWARE_CONFIG', 'EV_EFI_ACTION', 'EV_ACTION', 'EV_POST_CODE'] as const),
]

/**
 * Types that have a place in each PCR of the firmware.
 *
 * @see TCG PC Client Platform Firmware Profile, clause 3.3.4 (PCR usage)
 */
const ALLOWED: readonly (readonly EventTypeName[])[] = [
  [...FIRMWARE, 'EV_EFI_HANDOFF_TABLES', 'EV_EFI_HANDOFF_TABLES2', 'EV_ACTION', 'EV_EFI_ACTION'],
  [...SETTINGS, 'EV_IPL'],
  [...FIRMWARE, ...DRIVERS, 'EV_ACTION', 'EV_EFI_ACTION'],
  [...SETTINGS, ...FIRMWARE],
  [...DRIVERS, 'EV_EFI_ACTION', 'EV_ACTION', 'EV_IPL', 'EV_COMPACT_HASH', 'EV_EFI_VARIABLE_BOOT'],
  [
    ...(['EV_EFI_GPT_EVENT', 'EV_EFI_GPT_EVENT2', 'EV_EFI_ACTION', 'EV_ACTION'] as const),
    ...(['EV_IPL', 'EV_IPL_PARTITION_DATA', 'EV_EFI_VARIABLE_BOOT'] as const),
    ...(['EV_EFI_VARIABLE_DRIVER_CONFIG', 'EV_EFI_HANDOFF_TABLES'] as const),
  ],
  ['EV_COMPACT_HASH', 'EV_ACTION', 'EV_EFI_ACTION', 'EV_NONHOST_INFO', 'EV_EFI_VARIABLE_BOOT'],
  [
    ...(['EV_EFI_VARIABLE_DRIVER_CONFIG', 'EV_EFI_VARIABLE_AUTHORITY'] as const),
    ...(['EV_EFI_ACTION', 'EV_ACTION', 'EV_IPL'] as const),
  ],
]

/** Types whose data the standard measures whole, in the PCRs of the firmware: others there are the host's word. */
const MEASURED_WHOLE: ReadonlySet<EventTypeName | undefined> = new Set([
  'EV_SEPARATOR',
  'EV_EFI_ACTION',
  'EV_EFI_VARIABLE_DRIVER_CONFIG',
] as const)

/**
 * Checks that the events of PCR 0 to 7 could have happened as they are written.
 *
 * Types are not measured: whoever controls the running host may relabel events and append others, and the log still
 * replays. So each event must have a known type with a place in its PCR; each of these PCRs has one separator, whose
 * digest is that of a separator and of nothing else; Secure Boot settings come before it, boot applications not after
 * boot services ended. Applications before the separator are those that firmware prepares the system with: nobody can
 * put an event in front of a separator that was measured.
 *
 * **Does not see** an event that was appended to a PCR and is written in the log before boot services ended: the order of
 * events of different PCRs is not measured. Comparing PCR values with those of a base image does.
 *
 * @see TCG PC Client Platform Firmware Profile, clauses 3.3.4 and 10.4; attestation of CVE-2022-0317's class
 */
export function verifyEventOrder(log: EventLog, bank: HashName): readonly Finding[] {
  const wrong: FailedFinding[] = []
  const separators = new Map<number, number>()
  let bootServicesEnded = false
  for (const event of log.events) {
    if (event.pcr > LAST_FIRMWARE_PCR || !isExtending(event)) continue
    const separated = separators.has(event.pcr)
    const problem =
      unknownType(event) ??
      badSeparator(event, bank, separated) ??
      wrongData(event, bank) ??
      wrongPlace(event, separated, bootServicesEnded)
    if (problem) wrong.push(problem)
    if (eventTypeName(event.type) === 'EV_SEPARATOR') separators.set(event.pcr, event.index)
    bootServicesEnded ||= event.pcr === 5 && EXIT_BOOT_SERVICES.includes(actionOf(event))
  }
  for (let pcr = 0; pcr <= LAST_FIRMWARE_PCR; pcr += 1) {
    if (!separators.has(pcr)) {
      wrong.push(failed('event-log.order', 'EVENTLOG_SEPARATOR', 'a separator', 'none', { pcr }))
    }
  }
  return wrong.length > 0 ? wrong : [passed('event-log.order')]
}

function unknownType(event: LoggedEvent): FailedFinding | undefined {
  const name = eventTypeName(event.type)
  const allowed = ALLOWED[event.pcr] ?? []
  if (name && (ANYWHERE.includes(name) || allowed.includes(name))) return undefined
  const found = name ?? `type 0x${event.type.toString(16)}`
  const expected = `an event type of PCR ${event.pcr}`
  return failed('event-log.order', 'EVENTLOG_EVENT_TYPE', expected, found, where(event))
}

/** The digest of a separator may stand under no other type, and a separator has no other digest. */
function badSeparator(
  event: LoggedEvent,
  bank: HashName,
  separated: boolean,
): FailedFinding | undefined {
  const isSeparator = eventTypeName(event.type) === 'EV_SEPARATOR'
  const digest = event.digests.get(bank)
  const looksSo = digest !== undefined && separatorDigests(bank).some((d) => equalBytes(d, digest))
  if (looksSo && !separated && isUnmeasuredCrtm(event)) return undefined
  if (isSeparator === looksSo && !(isSeparator && separated)) return undefined
  const found = !isSeparator
    ? 'the digest of a separator under another type'
    : separated
      ? 'a second separator'
      : 'a separator with another digest'
  return failed('event-log.order', 'EVENTLOG_SEPARATOR', 'one separator', found, where(event))
}

/** Intel's start-up code measures four zeros for a part of the firmware that is not there, before anything else. */
function isUnmeasuredCrtm({ pcr, type }: LoggedEvent): boolean {
  return pcr === 0 && eventTypeName(type) === 'EV_S_CRTM_CONTENTS'
}

const digestsByBank = new Map<HashName, readonly Uint8Array[]>()

function separatorDigests(bank: HashName): readonly Uint8Array[] {
  const known = digestsByBank.get(bank)
  if (known) return known
  const digests = [0x00, 0xff].map(
    (octet) => new Uint8Array(createHash(bank).update(new Uint8Array(4).fill(octet)).digest()),
  )
  digestsByBank.set(bank, digests)
  return digests
}

function wrongData(event: LoggedEvent, bank: HashName): FailedFinding | undefined {
  if (!MEASURED_WHOLE.has(eventTypeName(event.type)) || isDataCovered(event, bank)) return undefined
  const found = 'data with another digest'
  return failed(
    'event-log.order',
    'EVENTLOG_DATA',
    'the data that were measured',
    found,
    where(event),
  )
}

function wrongPlace(
  event: LoggedEvent,
  separated: boolean,
  bootServicesEnded: boolean,
): FailedFinding | undefined {
  const misplaced = (expected: string, found: string) =>
    failed('event-log.order', 'EVENTLOG_ORDER', expected, found, where(event))
  const name = eventTypeName(event.type)
  if (actionOf(event) === DEBUG_MODE) {
    return failed(
      'event-log.order',
      'EVENTLOG_DEBUG_MODE',
      'no debug mode',
      DEBUG_MODE,
      where(event),
    )
  }
  if (event.pcr === 7 && name === 'EV_EFI_VARIABLE_DRIVER_CONFIG' && separated) {
    return misplaced('Secure Boot settings before the separator', 'one after it')
  }
  if (event.pcr === 4 && name === 'EV_EFI_BOOT_SERVICES_APPLICATION') {
    if (bootServicesEnded) {
      return misplaced('boot applications before boot services end', 'one after')
    }
  }
  return undefined
}

function actionOf(event: LoggedEvent): string {
  const name = eventTypeName(event.type)
  if (name !== 'EV_EFI_ACTION' && name !== 'EV_ACTION') return ''
  const content = decodeEvent(event)
  return content.kind === 'text' ? content.text : ''
}

function where(event: LoggedEvent) {
  return { pcr: event.pcr, event: event.index }
}
