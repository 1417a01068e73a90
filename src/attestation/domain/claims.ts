import type { Evidence } from '../../api/attestation.js'
import type { VerdictView } from '../../api/hosts.js'
import {
  type DecodedEvidence,
  type IdentityVerdict,
  policyDigest,
  type TpmClock,
} from '../../appraisal/index.js'
import { toBase64url } from '../../core/bytes.js'
import { ATTESTATION_RESULT_PROFILE, type AttestationResultClaims } from '../../tokens/index.js'
import { nameOf, publicKeyOf } from '../../tpm/index.js'
import type { StoredHost, StoredPolicy } from '../ports.js'

/** AR4SI values that the profile uses. @see draft-ietf-rats-ar4si, section 2.3 */
const AFFIRMING = 'affirming'
const INSTANCE_RECOGNISED = 2
const CONFIGURATION_APPROVED = 2
const CONFIGURATION_NO_KNOWN_FLAW = 3
const EXECUTABLES_APPROVED_AT_BOOT = 3
const HARDWARE_GENUINE = 2
const NO_CLAIM = 0

/** The claims of a token for a host whose evidence was accepted. */
export function createClaims(input: {
  readonly deps: {
    readonly issuer: string
    readonly audiences: readonly string[]
    readonly build: string
  }
  readonly evidence: Evidence
  readonly decoded: DecodedEvidence
  readonly host: StoredHost
  readonly policy: StoredPolicy
  readonly verdict: VerdictView
  readonly identity: IdentityVerdict & { readonly clock: TpmClock }
  readonly tokenId: string
  readonly issuedAtSeconds: number
}): AttestationResultClaims {
  const { deps, evidence, host, policy, verdict, identity } = input
  const { bindingKeyArea } = identity
  return {
    iss: deps.issuer,
    sub: host.hostId,
    aud: [...deps.audiences],
    iat: input.issuedAtSeconds,
    nbf: input.issuedAtSeconds,
    exp: input.issuedAtSeconds + policy.policy.tokenTtlSeconds,
    jti: input.tokenId,
    eat_profile: ATTESTATION_RESULT_PROFILE,
    eat_nonce: evidence.nonce,
    cnf: { jkt: input.decoded.proofKeyThumbprint },
    ear_verifier_id: { developer: 'sigillo', build: deps.build },
    submods: {
      host: {
        ear_status: AFFIRMING,
        ear_trustworthiness_vector: {
          'instance-identity': INSTANCE_RECOGNISED,
          configuration:
            verdict.boot?.secureBoot === 'on'
              ? CONFIGURATION_APPROVED
              : CONFIGURATION_NO_KNOWN_FLAW,
          executables: EXECUTABLES_APPROVED_AT_BOOT,
          hardware: isGenuine(host) ? HARDWARE_GENUINE : NO_CLAIM,
        },
        ear_appraisal_policy_ids: [`${host.cluster}#${policy.revision}`],
      },
    },
    sigillo: {
      cluster: host.cluster,
      ek: host.endorsement,
      insecure_test: host.insecureTest,
      policy: {
        id: host.cluster,
        revision: policy.revision,
        digest: policyDigest(policy.policy),
      },
      policy_epoch: policy.epoch,
      host_epoch: host.epoch,
      ...(verdict.baseImage === undefined ? {} : { base_image: verdict.baseImage }),
      boot: {
        reset_count: identity.clock.resetCount,
        restart_count: identity.clock.restartCount,
      },
      session_jwk: evidence.sessionKey,
      ...(bindingKeyArea && evidence.bindingKey
        ? {
            binding_key: {
              name: toBase64url(nameOf(bindingKeyArea)),
              public: evidence.bindingKey.publicArea,
              spki: toBase64url(
                new Uint8Array(publicKeyOf(bindingKeyArea).export({ type: 'spki', format: 'der' })),
              ),
              pcr_bank: policy.policy.bank,
              pcrs: [...policy.policy.bindingPcrs],
            },
          }
        : {}),
      checks: checksOf(verdict),
    },
  }
}

/** Each check once: a check of boot applications has a finding for each of them, and a host may start any number. */
export function checksOf({
  findings,
}: Pick<VerdictView, 'findings'>): AttestationResultClaims['sigillo']['checks'] {
  const checks = new Map<string, boolean>()
  for (const { check, ok } of findings) checks.set(check, ok && (checks.get(check) ?? true))
  return [...checks].map(([check, ok]) => ({ check, ok }))
}

/** Whether an authority that is not for tests said that the keys are in a TPM of a maker. */
function isGenuine({ endorsement, insecureTest }: StoredHost): boolean {
  return (endorsement === 'ca' || endorsement === 'device') && !insecureTest
}
