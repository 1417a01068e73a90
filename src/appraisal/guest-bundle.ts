import type { GuestBundle } from '../api/guests.js'
import { type Finding, failures, passed } from '../core/finding.js'
import type { Trust } from '../pki/index.js'
import { peekAttestationResult, type VerificationKeys } from '../tokens/index.js'
import {
  type DecodedGuestEvidence,
  decodeGuestEvidence,
  verifyGuestKeys,
  verifyGuestQuote,
} from './guest-evidence.js'
import { verifyGuestHost } from './guest-host.js'
import { appraiseGuest, guestPolicyDigest } from './guest-policy.js'
import { agreement, reportOfLog } from './rejudge.js'

/** Whom a bundle is judged by, anywhere. */
export interface GuestBundleTrust {
  /** Anchors: authorities of virtual TPMs. */
  readonly vtpm: Trust
  /** The word of the host: verified by the keys of the attestation service, or not asked for. */
  readonly host: { readonly jwks: VerificationKeys } | 'not-asked'
}

/** How far a statement may be from the verdict: as long as a nonce may live. */
const MAX_PLACEMENT_AGE_SECONDS = 600
const SKEW_SECONDS = 60

/**
 * Judges the evidence of a guest again, as of the moment of its verdict: certificate, keys, quote, log, policy, and the
 * word of its host.
 *
 * **Does not check** what only the service knew: that the nonce was its own, fresh and unused, and that the secret came
 * out of the credential, so that both keys are in one TPM.
 *
 * @throws DecodeError where a structure in it cannot be read
 */
export async function verifyGuestBundle(
  bundle: GuestBundle,
  trust: GuestBundleTrust,
): Promise<readonly Finding[]> {
  const { policy, verifier, verdict } = bundle
  const decoded = decodeGuestEvidence(bundle.evidence)
  const atMs = Date.parse(verdict.at)
  const keys = verifyGuestKeys(decoded, { trust: trust.vtpm, nowMs: atMs })
  const { findings: ofBoot } = appraiseGuest({
    policy,
    pcrValues: decoded.pcrValues,
    eventLog: reportOfLog(decoded, bundle.policy.bank, { dbx: false }),
    eventLogOctets: decoded.eventLog?.length ?? 0,
    nowMs: atMs,
  })
  const findings = [
    ...['nonce', 'credential'].map((check) =>
      passed(check, 'not checked: only the service knows what it gave'),
    ),
    ...keys.findings,
    ...verifyGuestQuote(decoded, { ak: keys.ak, verifier, policy }),
    ...(trust.host === 'not-asked'
      ? []
      : (
          await verifyGuestHost(decoded, {
            names: keys.names,
            verifier,
            jwks: trust.host.jwks,
            audience: audienceOf(decoded),
            nowSeconds: Math.floor(atMs / 1000),
            skewSeconds: SKEW_SECONDS,
            maxAgeSeconds: MAX_PLACEMENT_AGE_SECONDS,
          })
        ).findings),
    passed('policy', guestPolicyDigest(policy)),
    ...ofBoot,
  ]
  return [...findings, agreement(verdict.accepted, failures(findings).length === 0)]
}

/** Whoever judges a bundle is none of the parties that the token of the host is for: any of them will do. */
function audienceOf({ host }: DecodedGuestEvidence): string {
  const aud = host && peekAttestationResult(host.token).claims['aud']
  return Array.isArray(aud) ? String(aud[0]) : ''
}
