import { type Static, type TProperties, Type } from 'typebox'
import { NAME_PATTERN } from '../core/names.js'

/** The profile that a token of ours names; another shape gets another number. */
export const ATTESTATION_RESULT_PROFILE = 'tag:sigillo,2026:attestation-result#1'

/** Longest life of a token, from `iat` to `exp`. */
export const MAX_TOKEN_LIFETIME_SECONDS = 300

const MAX_U32 = 0xffff_ffff

export function exactly<T extends TProperties>(properties: T) {
  return Type.Object(properties, { additionalProperties: false })
}

function octets(maxOctets: number) {
  return Type.String({
    pattern: '^[A-Za-z0-9_-]+$',
    maxLength: Math.ceil((maxOctets * 4) / 3),
  })
}

export const Name = Type.String({ pattern: NAME_PATTERN, maxLength: 63 })
export const Text = Type.String({ minLength: 1, maxLength: 200 })
export const Seconds = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })
const Counter = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })
/** SHA-256 as unpadded base64url text. */
export const Thumbprint = Type.String({ pattern: '^[A-Za-z0-9_-]{43}$' })
const Coordinate = Type.String({ pattern: '^[A-Za-z0-9_-]{43}$' })

/** Trustworthiness tiers in JSON. @see draft-ietf-rats-ar4si, section 3.2 */
const Tier = Type.Union([
  Type.Literal('none'),
  Type.Literal('affirming'),
  Type.Literal('warning'),
  Type.Literal('contraindicated'),
])

/** A trustworthiness claim: one octet with a sign. */
const Claim = Type.Optional(Type.Integer({ minimum: -128, maximum: 127 }))

const TrustworthinessVector = exactly({
  'instance-identity': Claim,
  configuration: Claim,
  executables: Claim,
  'file-system': Claim,
  hardware: Claim,
  'runtime-opaque': Claim,
  'storage-opaque': Claim,
  'sourced-data': Claim,
})

/** What the verifier found about one part of the host. @see draft-ietf-rats-ear-04, section 3.2 */
export const Appraisal = exactly({
  ear_status: Tier,
  ear_trustworthiness_vector: TrustworthinessVector,
  ear_appraisal_policy_ids: Type.Array(Text, { minItems: 1, maxItems: 4 }),
})

const BindingKey = exactly({
  name: octets(66),
  public: octets(1024),
  spki: octets(768),
  pcr_bank: Type.Union([Type.Literal('sha256'), Type.Literal('sha384'), Type.Literal('sha512')]),
  pcrs: Type.Array(Type.Integer({ minimum: 0, maximum: 23 }), {
    minItems: 1,
    maxItems: 24,
    uniqueItems: true,
  }),
})

/**
 * The whole payload of an attestation result token. A member that is not here is refused.
 *
 * What each member means is told in `docs/token-profile.md`.
 *
 * @see RFC 7519, RFC 7800, RFC 9711, draft-ietf-rats-ear-04
 */
export const AttestationResultSchema = exactly({
  iss: Text,
  sub: Name,
  aud: Type.Array(Text, { minItems: 1, maxItems: 8, uniqueItems: true }),
  iat: Seconds,
  nbf: Seconds,
  exp: Seconds,
  jti: Type.String({ pattern: '^[A-Za-z0-9_-]{16,64}$' }),
  eat_profile: Type.Literal(ATTESTATION_RESULT_PROFILE),
  eat_nonce: Type.String({ pattern: '^[A-Za-z0-9_-]{8,88}$' }),
  cnf: exactly({ jkt: Thumbprint }),
  ear_verifier_id: exactly({ developer: Text, build: Text }),
  submods: exactly({ host: Appraisal }),
  sigillo: exactly({
    cluster: Name,
    ek: Type.Union([
      Type.Literal('ca'),
      Type.Literal('pinned'),
      Type.Literal('device'),
      Type.Literal('approved'),
    ]),
    insecure_test: Type.Boolean(),
    policy: exactly({
      id: Name,
      revision: Counter,
      digest: Type.String({ pattern: '^[0-9a-f]{64}$' }),
    }),
    policy_epoch: Counter,
    host_epoch: Counter,
    base_image: Type.Optional(Name),
    boot: exactly({
      reset_count: Type.Integer({ minimum: 0, maximum: MAX_U32 }),
      restart_count: Type.Integer({ minimum: 0, maximum: MAX_U32 }),
      clock: Type.Optional(Counter),
    }),
    session_jwk: exactly({
      kty: Type.Literal('EC'),
      crv: Type.Literal('P-256'),
      x: Coordinate,
      y: Coordinate,
    }),
    binding_key: Type.Optional(BindingKey),
    checks: Type.Array(
      exactly({
        check: Type.String({ pattern: '^[a-z0-9][a-z0-9._-]{0,63}$' }),
        ok: Type.Boolean(),
      }),
      { maxItems: 64 },
    ),
  }),
})

export type AttestationResultClaims = Static<typeof AttestationResultSchema>
