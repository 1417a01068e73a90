import type { EvidenceBundle } from '../api/hosts.js'
import { fromBase64url, fromHex } from '../core/bytes.js'
import { type Finding, failures, passed } from '../core/finding.js'
import { parsePublicArea, verifyAttestationKey } from '../tpm/index.js'
import { appraise } from './appraise.js'
import { bootQuestions } from './boot-rules.js'
import { type DecodedEvidence, decodeEvidence, verifyEvidence } from './evidence.js'
import { appraiseIma } from './ima.js'
import { agreement, reportOfLog } from './rejudge.js'

/**
 * Judges a bundle again, with nothing but the bundle: signature, binding, log, policy and base image as they were.
 *
 * **Does not check** what only the service knew: that the nonce was its own, fresh and unused, and that the attestation
 * key was that of the host.
 *
 * @throws DecodeError where a structure in it cannot be read
 */
export async function verifyBundle(bundle: EvidenceBundle): Promise<readonly Finding[]> {
  const { policy, evidence } = bundle
  const decoded = decodeEvidence(evidence)
  const ak = parsePublicArea(fromBase64url(bundle.akPublic))
  const key = verifyAttestationKey(ak)
  const identity = verifyEvidence(decoded, {
    ak,
    verifier: bundle.verifier,
    policy,
    nonceFinding: passed('nonce', 'not checked: only the service knows which ones it gave'),
  })
  if (!identity.clock) return [...key, ...identity.findings]
  const appraisal = appraise({
    policy,
    pcrValues: decoded.pcrValues,
    clock: identity.clock,
    previousClock: bundle.previousClock && {
      ...bundle.previousClock,
      clock: BigInt(bundle.previousClock.clock),
    },
    eventLog: reportOfLog(decoded, policy.bank, bootQuestions(policy)),
    eventLogOctets: decoded.eventLog?.length ?? 0,
    baseImages: bundle.baseImage ? [referenceOf(bundle.baseImage)] : [],
    nowMs: Date.parse(bundle.verdict.at),
  })
  const findings = [
    ...key,
    ...identity.findings,
    ...appraisal.findings,
    ...(await verifyIma(bundle, decoded)),
  ]
  const accepted = failures(findings).length === 0
  return [...findings, agreement(bundle.verdict.accepted, accepted)]
}

async function verifyIma(
  { policy, evidence, imaStart }: EvidenceBundle,
  { pcrValues }: DecodedEvidence,
): Promise<readonly Finding[]> {
  if (!policy.ima) return []
  if (!evidence.ima || !imaStart)
    return [passed('ima.replay', 'not checked: the list was not kept')]
  const from = {
    bank: policy.bank,
    entries: imaStart.entries,
    value: fromHex(imaStart.value),
  }
  const list = fromBase64url(evidence.ima.list)
  return (await appraiseIma(policy, policy.ima, { list, from }, pcrValues)).findings
}

function referenceOf({ name, bank, pcrs }: NonNullable<EvidenceBundle['baseImage']>) {
  return { name, bank, pcrs: new Map(pcrs.map(({ pcr, digests }) => [pcr, digests])) }
}
