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
  const quoted = log.events.filter((event) => pcrValues.has(event.pcr) || !isExtending(event))
  const summary = describeBoot({ ...log, events: quoted }, bank, questions)
  const usable = verifyBank(log, bank)
  if (!usable.ok) return { findings: [usable], summary }
  return {
    findings: [
      usable,
      ...verifyReplay(log, bank, pcrValues),
      ...nameUnquoted(log, pcrValues),
      ...verifyEventOrder(log, bank),
      ...verifySecureBoot(log, bank),
      ...nameQuirks(log, bank),
    ],
    summary,
  }
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

function verifyReplay(
  log: EventLog,
  bank: HashName,
  pcrValues: ReadonlyMap<number, Uint8Array>,
): readonly Finding[] {
  const replayed = replayEventLog(log, bank)
  const locality = startupLocality(log)
  const findings: Finding[] = []
  const agreeing: number[] = []
  for (const [pcr, quoted] of pcrValues) {
    if (NOT_IN_LOG.has(pcr)) continue
    const value = replayed.get(pcr) ?? initialPcr(pcr, bank, locality)
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
function nameUnquoted(
  log: EventLog,
  pcrValues: ReadonlyMap<number, Uint8Array>,
): readonly Finding[] {
  const unquoted = new Set(
    log.events
      .filter((event) => isExtending(event) && !pcrValues.has(event.pcr))
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
