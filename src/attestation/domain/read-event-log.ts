import type { Policy } from '../../api/policies.js'
import { bootQuestions, type EventLogReport } from '../../appraisal/index.js'
import { PlatformError } from '../../core/errors.js'
import { failed } from '../../core/finding.js'
import type { EventLogReader } from '../ports.js'

/** What a log says, away from this thread; a log that cannot be read is a finding. Nothing where there is none. */
export async function readEventLog(
  reader: EventLogReader,
  eventLog: Uint8Array | undefined,
  policy: Policy,
  pcrValues: ReadonlyMap<number, Uint8Array>,
): Promise<EventLogReport | undefined> {
  if (!eventLog) return undefined
  try {
    return await reader.verify(eventLog, policy.bank, pcrValues, bootQuestions(policy))
  } catch (error) {
    if (!(error instanceof PlatformError)) throw error
    return {
      findings: [
        failed('event-log', error.code, 'a boot event log that can be read', error.message),
      ],
    }
  }
}
