import { type FailedFinding, type Finding, failed, passed } from '../core/finding.js'
import type { HashName } from '../tpm/index.js'
import { coverageOf } from './coverage.js'
import { EVENT_PLACES } from './event-places.js'
import { type EventTypeName, eventTypeName } from './event-types.js'
import { type KnownMeasurement, knownMeasurement } from './known-measurements.js'
import type { EventLog, LoggedEvent } from './parse-event-log.js'
import { wholeText } from './printable.js'
import { isExtending } from './replay.js'

const CHECK = 'event-log.order'
/** PCRs that the firmware ends with a separator each. */
const LAST_FIRMWARE_PCR = 7
const ACTION_TYPES: readonly (EventTypeName | undefined)[] = ['EV_EFI_ACTION', 'EV_ACTION']

/**
 * Checks that the events of PCR 0 to 7 could have happened as they are written.
 *
 * Types are not measured: whoever controls the running host may relabel events and append others, and the log still
 * replays. So each event must have a known type with a place in its PCR; each of these PCRs has one separator; what is the
 * same on every machine (separators, actions) is known by its digest and stands under its own type alone; data that the
 * standard measures must be those that were measured; and nothing comes behind the separator, or behind the end of boot
 * services, that the standard does not have there. Nobody can put an event in front of a separator that was measured.
 *
 * **Does not see** an event that was appended to a PCR and is written in the log before boot services ended: the order of
 * events of different PCRs is not measured. Comparing PCR values with those of a base image does.
 *
 * @see TCG PC Client Platform Firmware Profile, clauses 3.3.4 and 10.4; attestation of CVE-2022-0317's class
 */
export function verifyEventOrder(log: EventLog, bank: HashName): readonly Finding[] {
  const wrong: FailedFinding[] = []
  const separators = new Set<number>()
  let bootServicesEnded = false
  for (const event of log.events) {
    if (event.pcr > LAST_FIRMWARE_PCR || !isExtending(event)) continue
    const measured = knownMeasurement(event, bank)
    const separated = separators.has(event.pcr)
    const problem =
      wrongType(event) ??
      wrongAction(event, measured) ??
      wrongSeparator(event, measured, separated) ??
      wrongData(event, bank) ??
      wrongPlace(event, measured, separated, bootServicesEnded)
    if (problem) wrong.push(problem)
    if (eventTypeName(event.type) === 'EV_SEPARATOR') separators.add(event.pcr)
    bootServicesEnded ||= event.pcr === 5 && measured === 'exit-boot-services'
  }
  for (let pcr = 0; pcr <= LAST_FIRMWARE_PCR; pcr += 1) {
    if (!separators.has(pcr)) {
      wrong.push(failed(CHECK, 'EVENTLOG_SEPARATOR', 'a separator', 'none', { pcr }))
    }
  }
  return wrong.length > 0 ? wrong : [passed(CHECK)]
}

function wrongType(event: LoggedEvent): FailedFinding | undefined {
  const name = eventTypeName(event.type)
  if (name && EVENT_PLACES[event.pcr]?.before.has(name)) return undefined
  const found = name ?? `type 0x${event.type.toString(16)}`
  const expected = `an event type of PCR ${event.pcr}`
  return failed(CHECK, 'EVENTLOG_EVENT_TYPE', expected, found, where(event))
}

/**
 * The digest of an action stands under the type of an action, and an action is text: other data, a variable for one, are
 * under a false name there.
 */
function wrongAction(
  event: LoggedEvent,
  measured: KnownMeasurement | undefined,
): FailedFinding | undefined {
  const name = eventTypeName(event.type)
  const isAction = ACTION_TYPES.includes(name)
  if (measured === 'debug-mode' || (isAction && wholeText(event.data) === 'UEFI Debug Mode')) {
    const found = 'UEFI Debug Mode'
    return failed(CHECK, 'EVENTLOG_DEBUG_MODE', 'no debug mode', found, where(event))
  }
  if (measured !== undefined && measured !== 'separator' && !isAction) {
    const found = `the digest of an action under ${name}`
    return failed(CHECK, 'EVENTLOG_EVENT_TYPE', 'EV_EFI_ACTION', found, where(event))
  }
  if (isAction && measured !== 'separator' && wholeText(event.data) === undefined) {
    return failed(CHECK, 'EVENTLOG_DATA', 'the text of an action', 'other data', where(event))
  }
  return undefined
}

/** The digest of a separator may stand under no other type, and a separator has no other digest. */
function wrongSeparator(
  event: LoggedEvent,
  measured: KnownMeasurement | undefined,
  separated: boolean,
): FailedFinding | undefined {
  const isSeparator = eventTypeName(event.type) === 'EV_SEPARATOR'
  const looksSo = measured === 'separator'
  if (looksSo && !separated && isUnmeasuredCrtm(event)) return undefined
  if (isSeparator === looksSo && !(isSeparator && separated)) return undefined
  const found = !isSeparator
    ? 'the digest of a separator under another type'
    : separated
      ? 'a second separator'
      : 'a separator with another digest'
  return failed(CHECK, 'EVENTLOG_SEPARATOR', 'one separator', found, where(event))
}

/** Intel's start-up code measures four zeros for a part of the firmware that is not there, before anything else. */
function isUnmeasuredCrtm({ pcr, type }: LoggedEvent): boolean {
  return pcr === 0 && eventTypeName(type) === 'EV_S_CRTM_CONTENTS'
}

/** Real firmware logs another text of its version than it measured: what it is compared with must be the digest. */
function wrongData(event: LoggedEvent, bank: HashName): FailedFinding | undefined {
  if (eventTypeName(event.type) === 'EV_S_CRTM_VERSION') return undefined
  if (coverageOf(event, bank).kind !== 'mismatch') return undefined
  const [expected, found] = ['the data that were measured', 'data with another digest']
  return failed(CHECK, 'EVENTLOG_DATA', expected, found, where(event))
}

function wrongPlace(
  event: LoggedEvent,
  measured: KnownMeasurement | undefined,
  separated: boolean,
  bootServicesEnded: boolean,
): FailedFinding | undefined {
  const name = eventTypeName(event.type)
  const misplaced = (expected: string) =>
    failed(CHECK, 'EVENTLOG_ORDER', expected, `${name} behind it`, where(event))
  if (bootServicesEnded && !(event.pcr === 5 && measured === 'exit-boot-services')) {
    return misplaced('nothing more of the firmware behind the end of boot services')
  }
  if (separated && name && !EVENT_PLACES[event.pcr]?.after.has(name)) {
    return misplaced(`an event type that PCR ${event.pcr} has behind its separator`)
  }
  return undefined
}

function where(event: LoggedEvent) {
  return { pcr: event.pcr, event: event.index }
}
