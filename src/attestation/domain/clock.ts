import { type Finding, failed, passed } from '../../core/finding.js'

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
