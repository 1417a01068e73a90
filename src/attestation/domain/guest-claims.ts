import type { GuestBundle } from '../../api/guests.js'
import { guestPolicyDigest } from '../../appraisal/index.js'
import {
  type AttestationResultClaims,
  GUEST_RESULT_PROFILE,
  type GuestResultClaims,
} from '../../tokens/index.js'
import { checksOf } from './claims.js'

/** AR4SI values that the profile uses; what was not appraised has none. @see draft-ietf-rats-ar4si, section 2.3 */
const AFFIRMING = 'affirming'
const INSTANCE_RECOGNISED = 2
const CONFIGURATION_APPROVED = 2
const EXECUTABLES_APPROVED_AT_BOOT = 3

/**
 * The claims of a token about a VM whose evidence was accepted. It ends with the token of the host at the latest: what it
 * says of the host is no longer so then.
 */
export function createGuestClaims(input: {
  readonly deps: {
    readonly issuer: string
    readonly audiences: readonly string[]
    readonly build: string
  }
  readonly bundle: GuestBundle
  readonly host: { readonly claims: AttestationResultClaims; readonly token: string }
  readonly ekFingerprint: string
  readonly certificateFingerprint: string
  readonly proofKeyThumbprint: string | undefined
  readonly insecureTest: boolean
  readonly tokenId: string
  readonly issuedAtSeconds: number
}): GuestResultClaims {
  const { deps, bundle, host, issuedAtSeconds, proofKeyThumbprint } = input
  const { policy, policyRevision, cluster, verdict, evidence } = bundle
  return {
    iss: deps.issuer,
    sub: `urn:uuid:${evidence.vmId}`,
    aud: [...deps.audiences],
    iat: issuedAtSeconds,
    nbf: issuedAtSeconds,
    exp: Math.min(issuedAtSeconds + policy.tokenTtlSeconds, host.claims.exp),
    jti: input.tokenId,
    eat_profile: GUEST_RESULT_PROFILE,
    eat_nonce: evidence.nonce,
    ...(proofKeyThumbprint === undefined ? {} : { cnf: { jkt: proofKeyThumbprint } }),
    ear_verifier_id: { developer: 'sigillo', build: deps.build },
    submods: {
      vm: {
        ear_status: AFFIRMING,
        ear_trustworthiness_vector: {
          'instance-identity': INSTANCE_RECOGNISED,
          ...(verdict.boot?.secureBoot === 'on' ? { configuration: CONFIGURATION_APPROVED } : {}),
          ...(verdict.baseImage === undefined ? {} : { executables: EXECUTABLES_APPROVED_AT_BOOT }),
        },
        ear_appraisal_policy_ids: [`guests:${cluster}#${policyRevision}`],
      },
      host: host.claims.submods.host,
    },
    sigillo: {
      vm: {
        id: evidence.vmId,
        ek: input.ekFingerprint,
        certificate: input.certificateFingerprint,
      },
      host: { id: host.claims.sub, token: host.token },
      insecure_test: input.insecureTest || host.claims.sigillo.insecure_test,
      policy: { id: cluster, revision: policyRevision, digest: guestPolicyDigest(policy) },
      ...(verdict.baseImage === undefined ? {} : { base_image: verdict.baseImage }),
      checks: checksOf(verdict),
    },
  }
}
