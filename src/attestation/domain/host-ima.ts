import { setImmediate } from 'node:timers/promises'
import type { Evidence } from '../../api/attestation.js'
import type { Policy } from '../../api/policies.js'
import {
  appraiseIma,
  type ImaAppraisal,
  type ImaEvidence,
  type TpmClock,
} from '../../appraisal/index.js'
import { fromBase64url } from '../../core/bytes.js'
import { PlatformError } from '../../core/errors.js'
import { type Finding, failed } from '../../core/finding.js'
import { type ImaProgress, startOfIma } from '../../ima/index.js'

/** How far the measurement list of a host was accepted: in one boot, under one policy. */
export interface AcceptedIma extends ImaProgress {
  readonly resetCount: number
  readonly policyDigest: string
}

export interface HostIma extends ImaAppraisal {
  /** Where the list that the host gave goes on. */
  readonly from?: ImaProgress
}

/**
 * Judges the measurement list of a host, as far as it is new.
 *
 * Entries that were accepted before are left out only in the same boot and under the same policy; otherwise the host has
 * to bring its list from the start. Long lists let others have their turn.
 *
 * @throws PlatformError `IMA_FROM` where the list goes on from elsewhere: the host is not judged, and tries again
 */
export async function judgeHostIma(input: {
  readonly evidence: Evidence['ima']
  readonly policy: Policy
  readonly policyDigest: string
  readonly clock: TpmClock
  readonly accepted: AcceptedIma | undefined
  readonly pcrValues: ReadonlyMap<number, Uint8Array>
}): Promise<HostIma> {
  const { policy, evidence } = input
  if (!policy.ima) return { findings: [] }
  if (!evidence) {
    return refusal(failed('ima', 'IMA_MISSING', 'the measurement list of the kernel', 'none'))
  }
  const from = evidence.from === 0 ? startOfIma(policy.bank) : goingOn(input, evidence.from)
  if (!from) {
    const message = `expected the measurement list from its start, found it from entry ${evidence.from}`
    throw new PlatformError('IMA_FROM', message)
  }
  const given: ImaEvidence = { list: fromBase64url(evidence.list), from }
  try {
    const appraisal = await appraiseIma(policy, policy.ima, given, input.pcrValues, () =>
      setImmediate(),
    )
    return { ...appraisal, from }
  } catch (error) {
    if (!(error instanceof PlatformError)) throw error
    return refusal(failed('ima', error.code, 'a measurement list that can be read', error.message))
  }
}

function goingOn(
  { accepted, clock, policy, policyDigest }: Parameters<typeof judgeHostIma>[0],
  entries: number,
): ImaProgress | undefined {
  const fits =
    accepted?.entries === entries &&
    accepted.bank === policy.bank &&
    accepted.resetCount === clock.resetCount &&
    accepted.policyDigest === policyDigest
  return fits ? { bank: accepted.bank, entries, value: accepted.value } : undefined
}

function refusal(finding: Finding): HostIma {
  return { findings: [finding] }
}
