import type { Evidence } from '../api/attestation.js'
import { evidenceDigest } from '../api/evidence-binding.js'
import type { Policy } from '../api/policies.js'
import { fromBase64url, fromHex } from '../core/bytes.js'
import { type Finding, failures } from '../core/finding.js'
import { jwkThumbprint } from '../tokens/index.js'
import {
  nameOf,
  type PublicArea,
  parsePublicArea,
  pcrDigest,
  policyPcrDigest,
  verifyBindingKey,
  verifyCertify,
  verifyQuote,
} from '../tpm/index.js'
import type { TpmClock } from './clock.js'

/** Evidence with its octets decoded: sizes are checked by the schema, meaning is not yet. */
export interface DecodedEvidence {
  readonly hostId: string
  readonly nonce: Uint8Array
  readonly attest: Uint8Array
  readonly signature: Uint8Array
  readonly pcrValues: ReadonlyMap<number, Uint8Array>
  readonly eventLog?: Uint8Array
  readonly proofKeyThumbprint: string
  readonly sessionKeyThumbprint: string
  readonly bindingKey?: {
    readonly publicArea: Uint8Array
    readonly attest: Uint8Array
    readonly signature: Uint8Array
  }
}

/** Decodes the text members of evidence; throws `DecodeError` on text that is not canonical. */
export function decodeEvidence(evidence: Evidence): DecodedEvidence {
  const { bindingKey, eventLog } = evidence
  return {
    hostId: evidence.hostId,
    nonce: fromBase64url(evidence.nonce),
    attest: fromBase64url(evidence.attest),
    signature: fromBase64url(evidence.signature),
    pcrValues: new Map(evidence.pcrs.map(({ pcr, digest }) => [pcr, fromHex(digest)])),
    ...(eventLog === undefined ? {} : { eventLog: fromBase64url(eventLog) }),
    proofKeyThumbprint: jwkThumbprint(evidence.proofKey),
    sessionKeyThumbprint: jwkThumbprint(evidence.sessionKey),
    ...(bindingKey === undefined
      ? {}
      : {
          bindingKey: {
            publicArea: fromBase64url(bindingKey.publicArea),
            attest: fromBase64url(bindingKey.attest),
            signature: fromBase64url(bindingKey.signature),
          },
        }),
  }
}

/** What the quote itself proves, before anything is compared with reference values. */
export interface IdentityVerdict {
  readonly findings: readonly Finding[]
  /**
   * Whether the enrolled TPM signed exactly this evidence with this nonce. Only then may the evidence change what the
   * service knows of the host: nobody else can make a good host look bad.
   */
  readonly authentic: boolean
  readonly clock?: TpmClock
  readonly bindingKeyArea?: PublicArea
}

/** Checks signature, freshness, binding and selection of a quote, and the certified binding key with it. */
export function verifyEvidence(
  evidence: DecodedEvidence,
  input: {
    readonly ak: PublicArea
    readonly verifier: string
    readonly policy: Policy
    readonly nonceFinding: Finding
  },
): IdentityVerdict {
  const { policy } = input
  const bindingKeyArea = evidence.bindingKey && parsePublicArea(evidence.bindingKey.publicArea)
  const expectedExtraData = evidenceDigest({
    nonce: evidence.nonce,
    hostId: evidence.hostId,
    verifier: input.verifier,
    proofKeyThumbprint: evidence.proofKeyThumbprint,
    sessionKeyThumbprint: evidence.sessionKeyThumbprint,
    bindingKeyName: bindingKeyArea && nameOf(bindingKeyArea),
    eventLog: evidence.eventLog,
  })
  const verdict = verifyQuote({
    attest: evidence.attest,
    signature: evidence.signature,
    ak: input.ak,
    expectedExtraData,
    selection: { bank: policy.bank, pcrs: policy.pcrs },
    pcrValues: evidence.pcrValues,
  })
  const quoteFindings = [input.nonceFinding, ...verdict.findings]
  const authentic = failures(quoteFindings).length === 0
  const findings =
    bindingKeyArea && evidence.bindingKey
      ? [
          ...quoteFindings,
          ...verifyCertify({
            attest: evidence.bindingKey.attest,
            signature: evidence.bindingKey.signature,
            ak: input.ak,
            expectedExtraData,
            certified: bindingKeyArea,
          }).findings,
          ...verifyBindingKey({
            publicArea: bindingKeyArea,
            expectedAuthPolicy: bindingPolicy(policy, evidence.pcrValues),
          }),
        ]
      : quoteFindings
  const clock = verdict.quote?.clockInfo
  return {
    findings,
    authentic,
    ...(clock ? { clock } : {}),
    ...(bindingKeyArea ? { bindingKeyArea } : {}),
  }
}

/** The policy that ties a binding key to the PCR values that were quoted. */
function bindingPolicy(policy: Policy, values: ReadonlyMap<number, Uint8Array>): Uint8Array {
  const bound = policy.bindingPcrs.map((pcr) => values.get(pcr) ?? new Uint8Array())
  return policyPcrDigest(
    { bank: policy.bank, pcrs: policy.bindingPcrs },
    pcrDigest('sha256', bound),
  )
}
