import type { Policy } from '../api/policies.js'
import { type Finding, failed, passed } from '../core/finding.js'

/** TPMS_CLOCK_INFO: how often the TPM was reset and resumed, and its time in milliseconds. */
export interface TpmClock {
  readonly clock: bigint
  readonly resetCount: number
  readonly restartCount: number
  readonly safe: boolean
}

/**
 * Compares the clock of a quote with the last one accepted from the same attestation key.
 *
 * Counts never fall; with equal counts time goes forward. A first quote has nothing to be compared with.
 *
 * @see TPM 2.0 Library, Part 1, clause 36 (timing components)
 */
export function verifyClock(previous: TpmClock | undefined, current: TpmClock): Finding {
  const text = `reset ${current.resetCount}, restart ${current.restartCount}, clock ${current.clock}`
  if (!previous) return passed('clock', `${text}, first quote`)
  const before = `reset ${previous.resetCount}, restart ${previous.restartCount}, clock ${previous.clock}`
  const fell =
    current.resetCount < previous.resetCount ||
    (current.resetCount === previous.resetCount && current.restartCount < previous.restartCount) ||
    (current.resetCount === previous.resetCount &&
      current.restartCount === previous.restartCount &&
      current.clock <= previous.clock)
  return fell
    ? failed('clock', 'CLOCK_WENT_BACK', `later than ${before}`, text)
    : passed('clock', text)
}

/**
 * The clock, and what the policy says of it: a host that was rebooted since its last accepted quote may have to wait for
 * an administrator; a clock that is not safe may have gone back within the same counts.
 *
 * A TPM that went on after a suspend (`restartCount`) has its PCRs from the memory of the machine, or from whoever ran
 * first: flawed firmware lets them be made anew (CVE-2018-6622). That is refused unless the policy allows it; a reboot
 * heals it.
 */
export function appraiseClock(
  policy: Policy,
  previous: TpmClock | undefined,
  current: TpmClock,
): readonly Finding[] {
  const findings = [verifyClock(previous, current)]
  if (policy.reboot === 'refuse' && previous && current.resetCount !== previous.resetCount) {
    findings.push(
      failed(
        'clock.reboot',
        'HOST_REBOOTED',
        `reset count ${previous.resetCount}, as when it was last accepted`,
        String(current.resetCount),
      ),
    )
  }
  const resumed =
    previous?.resetCount === current.resetCount && previous.restartCount !== current.restartCount
  if (resumed && policy.suspend !== 'allow') {
    findings.push(
      failed(
        'clock.suspend',
        'HOST_SUSPENDED',
        `restart count ${previous.restartCount}, as when it was last accepted`,
        String(current.restartCount),
      ),
    )
  }
  if (policy.requireSafeClock === true) {
    findings.push(
      current.safe
        ? passed('clock.safe')
        : failed('clock.safe', 'CLOCK_NOT_SAFE', 'a clock that surely went forward', 'not safe'),
    )
  }
  return findings
}
