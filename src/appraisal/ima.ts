import type { Policy } from '../api/policies.js'
import { type Finding, failed } from '../core/finding.js'
import {
  IMA_PCR,
  type ImaPolicy,
  type ImaProgress,
  judgeImaEntries,
  readImaSigner,
  verifyImaList,
} from '../ima/index.js'

/** The measurement list of a host, as far as it is new. */
export interface ImaEvidence {
  readonly list: Uint8Array
  /** Where it goes on: the start of a boot, or what was accepted before in the same boot. */
  readonly from: ImaProgress
}

export interface ImaAppraisal {
  readonly findings: readonly Finding[]
  /** Where the next list goes on, if all is accepted. */
  readonly progress?: ImaProgress
}

/**
 * Replays and judges a measurement list by the rules of a policy.
 *
 * @param pcrValues quoted and proved
 * @throws DecodeError where the list cannot be read
 */
export async function appraiseIma(
  policy: Policy,
  rules: NonNullable<Policy['ima']>,
  evidence: ImaEvidence,
  pcrValues: ReadonlyMap<number, Uint8Array>,
  pause?: () => Promise<void>,
): Promise<ImaAppraisal> {
  const quoted = pcrValues.get(IMA_PCR)
  if (!quoted) {
    return { findings: [failed('ima.replay', 'IMA_REPLAY', 'a quote of PCR 10', 'none')] }
  }
  const { findings, proved, progress } = await verifyImaList(evidence.list, {
    from: evidence.from,
    quoted,
    ...(pause ? { pause } : {}),
  })
  if (!progress) return { findings }
  const quote = { bank: policy.bank, pcrValues }
  const judged = await judgeImaEntries(proved, imaPolicy(rules), quote, pause)
  return { findings: [...findings, ...judged], progress }
}

function imaPolicy(rules: NonNullable<Policy['ima']>): ImaPolicy {
  return {
    allow: rules.allow.map(({ path, digests }) => ({ path, digests: new Set(digests) })),
    exclude: rules.exclude,
    allowViolations: rules.allowViolations,
    signers: rules.signers.map(readImaSigner),
  }
}
