import { PlatformError } from '../core/errors.js'
import { type Finding, failed, passed } from '../core/finding.js'
import { parseEventLog, verifyEventLog } from '../eventlog/index.js'
import type { EventLogReport } from './appraise.js'

// What bundles of hosts and of guests have in common when they are judged again.

/** Whether a bundle is judged now as the service judged it then. */
export function agreement(then: boolean, now: boolean): Finding {
  const word = (accepted: boolean) => (accepted ? 'accepted' : 'refused')
  return then === now
    ? passed('bundle.verdict', `${word(then)}, as the service did`)
    : failed('bundle.verdict', 'BUNDLE_VERDICT', `${word(then)}, as the service did`, word(now))
}

/** The report of the log in a bundle, where there is one; a log that cannot be read is a failed check. */
export function reportOfLog(
  { eventLog, pcrValues }: LogWithQuote,
  bank: Parameters<typeof verifyEventLog>[1],
  questions: Parameters<typeof verifyEventLog>[3],
): EventLogReport | undefined {
  if (!eventLog) return undefined
  try {
    return verifyEventLog(parseEventLog(eventLog), bank, pcrValues, questions)
  } catch (error) {
    if (!(error instanceof PlatformError)) throw error
    const expected = 'a boot event log that can be read'
    return { findings: [failed('event-log', error.code, expected, error.message)] }
  }
}

interface LogWithQuote {
  readonly eventLog?: Uint8Array | undefined
  readonly pcrValues: Parameters<typeof verifyEventLog>[2]
}
