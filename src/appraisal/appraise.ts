import type { Policy } from '../api/policies.js'
import { type Finding, failed } from '../core/finding.js'
import type { BootSummary } from '../eventlog/index.js'
import { matchBaseImage, type ReferenceValues } from './base-images.js'
import { appraiseBoot } from './boot-rules.js'
import { appraiseClock, type TpmClock } from './clock.js'

/** What the event log said, as the worker that read it reports. */
export interface EventLogReport {
  readonly findings: readonly Finding[]
  readonly summary?: BootSummary
}

/** Compares authentic evidence with the policy and the base images of the host's cluster, or of a guest's. */
export function appraise(input: {
  readonly policy: Policy
  readonly pcrValues: ReadonlyMap<number, Uint8Array>
  /** Absent where clocks are not compared. */
  readonly clock?: TpmClock
  readonly previousClock?: TpmClock | undefined
  readonly eventLog: EventLogReport | undefined
  /** Size of the log as it came. */
  readonly eventLogOctets: number
  readonly baseImages: readonly ReferenceValues[]
  readonly nowMs: number
}): {
  readonly findings: readonly Finding[]
  readonly baseImage?: string
  readonly nearest?: string
} {
  const { policy, eventLog } = input
  const match = matchBaseImage(input.baseImages, {
    bank: policy.bank,
    pinnedPcrs: policy.pinnedPcrs,
    pcrValues: input.pcrValues,
    nowMs: input.nowMs,
  })
  return {
    findings: [
      ...(input.clock ? appraiseClock(policy, input.previousClock, input.clock) : []),
      ...appraiseEventLog(policy, eventLog, input.eventLogOctets),
      ...appraiseBoot(policy, eventLog?.summary),
      ...match.findings,
    ],
    ...(match.matched === undefined ? {} : { baseImage: match.matched }),
    ...(match.nearest === undefined ? {} : { nearest: match.nearest }),
  }
}

function appraiseEventLog(
  policy: Policy,
  report: EventLogReport | undefined,
  octets: number,
): readonly Finding[] {
  const findings: Finding[] = [...(report?.findings ?? [])]
  const { maxEventLogOctets } = policy
  if (maxEventLogOctets !== undefined && octets > maxEventLogOctets) {
    findings.push(
      failed(
        'event-log.size',
        'EVENTLOG_TOO_LARGE',
        `at most ${maxEventLogOctets} octets`,
        String(octets),
      ),
    )
  }
  if (!report && policy.requireEventLog) {
    findings.push(
      failed(
        'event-log',
        'EVENT_LOG_MISSING',
        'a boot event log',
        'none: boot with Secure Boot on or from a unified kernel image, so that the firmware hands one over',
      ),
    )
  }
  return findings
}
