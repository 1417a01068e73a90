import { equalBytes, toHex } from '../core/bytes.js'
import { type Finding, failed, passed } from '../core/finding.js'
import type { HashName } from '../tpm/index.js'
import { type BootQuestions, type BootSummary, describeBoot } from './describe-boot.js'
import type { EventLog } from './parse-event-log.js'
import { initialPcr, isExtending, replayEventLog, startupLocality } from './replay.js'
import { usedQuirks } from './used-quirks.js'
import { verifyEventOrder } from './verify-order.js'
import { verifySecureBoot } from './verify-secure-boot.js'

/** PCRs that the operating system extends outside the firmware's log: IMA, and those for debugging and applications. */
const NOT_IN_LOG: ReadonlySet<number> = new Set([10, 16, 23])

/** What a log says by itself to somebody who has quoted values of some PCRs: all but the comparison with these values. */
export interface EventLogReading {
  /** Whether the log has digests of the bank; where not, nothing more was looked at. */
  readonly usable: Finding
  /** What the log leads to, for each PCR that is to be compared with its quoted value. */
  readonly replayed: ReadonlyMap<number, Uint8Array>
  /** Of order, Secure Boot and what else needs no value of a PCR. */
  readonly findings: readonly Finding[]
  readonly summary: BootSummary
}

/**
 * Verifies an event log against PCR values that were quoted.
 *
 * The values must be proved already (`verifyQuote`). What is covered then: which digests were extended, into which PCR,
 * in which order. Types and data of events are the host's word, except where `coverageOf` says so; `verifyEventOrder`
 * refuses events of PCR 0 to 7 that were relabelled or appended out of place. Events of PCRs that were not quoted are
 * named, and the summary says nothing of them.
 *
 * @param pcrValues quoted values by index; every one of them must be explained by the log
 * @param questions what the summary is to hold; everything, where nothing is said
 */
export function verifyEventLog(
  log: EventLog,
  bank: HashName,
  pcrValues: ReadonlyMap<number, Uint8Array>,
  questions?: BootQuestions,
): { readonly findings: readonly Finding[]; readonly summary: BootSummary } {
  const quoted = new Set(pcrValues.keys())
  return compareReading(interpretEventLog(log, bank, quoted, questions), pcrValues)
}

/**
 * The part of `verifyEventLog` that is the same for every host with this log: a function of its arguments alone.
 *
 * @param quotedPcrs indexes of the PCRs whose values are quoted
 */
export function interpretEventLog(
  log: EventLog,
  bank: HashName,
  quotedPcrs: ReadonlySet<number>,
  questions?: BootQuestions,
): EventLogReading {
  const quoted = log.events.filter((event) => quotedPcrs.has(event.pcr) || !isExtending(event))
  const summary = describeBoot({ ...log, events: quoted }, bank, questions)
  const usable = verifyBank(log, bank)
  if (!usable.ok) return { usable, replayed: new Map(), findings: [], summary }
  return {
    usable,
    replayed: replayedValues(log, bank, quotedPcrs),
    findings: [
      ...nameUnquoted(log, quotedPcrs),
      ...verifyEventOrder(log, bank),
      ...verifySecureBoot(log, bank),
      ...nameQuirks(log, bank),
    ],
    summary,
  }
}

/**
 * The part of `verifyEventLog` that is to be done for each quote.
 *
 * Throws `TypeError` where the reading was made for other PCRs.
 */
export function compareReading(
  { usable, replayed, findings, summary }: EventLogReading,
  pcrValues: ReadonlyMap<number, Uint8Array>,
): { readonly findings: readonly Finding[]; readonly summary: BootSummary } {
  if (!usable.ok) return { findings: [usable], summary }
  return { findings: [usable, ...verifyReplay(replayed, pcrValues), ...findings], summary }
}

function verifyBank(log: EventLog, bank: HashName): Finding {
  const check = 'event-log.bank'
  if (log.format === 'sha1' || bank === 'sha1') {
    return failed(check, 'EVENTLOG_SHA1', 'digests of SHA-256 or stronger', 'SHA-1 alone')
  }
  return log.banks.includes(bank)
    ? passed(check, bank)
    : failed(check, 'EVENTLOG_BANK', `digests of ${bank}`, log.banks.join(', '))
}

function replayedValues(
  log: EventLog,
  bank: HashName,
  quotedPcrs: ReadonlySet<number>,
): ReadonlyMap<number, Uint8Array> {
  const replayed = replayEventLog(log, bank)
  const locality = startupLocality(log)
  const values = new Map<number, Uint8Array>()
  for (const pcr of quotedPcrs) {
    if (NOT_IN_LOG.has(pcr)) continue
    values.set(pcr, replayed.get(pcr) ?? initialPcr(pcr, bank, locality))
  }
  return values
}

function verifyReplay(
  replayed: ReadonlyMap<number, Uint8Array>,
  pcrValues: ReadonlyMap<number, Uint8Array>,
): readonly Finding[] {
  const findings: Finding[] = []
  const agreeing: number[] = []
  for (const [pcr, quoted] of pcrValues) {
    if (NOT_IN_LOG.has(pcr)) continue
    const value = replayed.get(pcr)
    if (!value) throw new TypeError(`the log was read without PCR ${pcr}`)
    if (equalBytes(value, quoted)) agreeing.push(pcr)
    else {
      findings.push(
        failed('event-log.replay', 'EVENTLOG_REPLAY', toHex(quoted), toHex(value), { pcr }),
      )
    }
  }
  return [...findings, passed('event-log.replay', `PCR ${agreeing.join(',')}`)]
}

/** Events of PCRs that nothing was proved of: for the administrator; a policy chooses what is quoted. */
function nameUnquoted(log: EventLog, quotedPcrs: ReadonlySet<number>): readonly Finding[] {
  const unquoted = new Set(
    log.events
      .filter((event) => isExtending(event) && !quotedPcrs.has(event.pcr))
      .map(({ pcr }) => pcr),
  )
  if (unquoted.size === 0) return []
  const pcrs = [...unquoted].sort((a, b) => a - b).join(',')
  return [passed('event-log.unquoted', `PCR ${pcrs}`)]
}

function nameQuirks(log: EventLog, bank: HashName): readonly Finding[] {
  const quirks = usedQuirks(log, bank)
  return quirks.length === 0 ? [] : [passed('event-log.quirks', quirks.join(', '))]
}
