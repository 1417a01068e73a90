import { type Static, Type } from 'typebox'
import { NAME_PATTERN } from '../core/names.js'
import { Appraisal, exactly, Name, Seconds, Text, Thumbprint } from './attestation-result-claims.js'

/** The profile that a token about a VM names; another shape gets another number. */
export const GUEST_RESULT_PROFILE = 'tag:sigillo,2026:guest-attestation-result#1'

/** Longest text of a host's token inside. */
const MAX_HOST_TOKEN_CHARACTERS = 8192

const Sha256Hex = Type.String({ pattern: '^[0-9a-f]{64}$' })
const Uuid = '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}'

/**
 * The whole payload of a token about a VM. A member that is not here is refused.
 *
 * What each member means is told in `docs/token-profile.md`.
 *
 * @see RFC 7519, RFC 7800, RFC 9711 section 4.2.18, draft-ietf-rats-ear-04
 */
export const GuestResultSchema = exactly({
  iss: Text,
  sub: Type.String({ pattern: `^urn:uuid:${Uuid}$` }),
  aud: Type.Array(Text, { minItems: 1, maxItems: 8, uniqueItems: true }),
  iat: Seconds,
  nbf: Seconds,
  exp: Seconds,
  jti: Type.String({ pattern: '^[A-Za-z0-9_-]{16,64}$' }),
  eat_profile: Type.Literal(GUEST_RESULT_PROFILE),
  eat_nonce: Type.String({ pattern: '^[A-Za-z0-9_-]{8,88}$' }),
  cnf: Type.Optional(exactly({ jkt: Thumbprint })),
  ear_verifier_id: exactly({ developer: Text, build: Text }),
  submods: exactly({ vm: Appraisal, host: Appraisal }),
  sigillo: exactly({
    vm: exactly({
      id: Type.String({ pattern: `^${Uuid}$` }),
      /** SHA-256 of the TPMT_PUBLIC of the virtual TPM's endorsement key. */
      ek: Sha256Hex,
      /** SHA-256 of the certificate that names VM and host. */
      certificate: Sha256Hex,
    }),
    host: exactly({
      id: Type.String({ pattern: NAME_PATTERN, maxLength: 63 }),
      token: Type.String({
        pattern: '^[A-Za-z0-9_-]+\\.[A-Za-z0-9_-]+\\.[A-Za-z0-9_-]+$',
        maxLength: MAX_HOST_TOKEN_CHARACTERS,
      }),
    }),
    insecure_test: Type.Boolean(),
    policy: exactly({
      id: Name,
      revision: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
      digest: Sha256Hex,
    }),
    base_image: Type.Optional(Name),
    checks: Type.Array(
      exactly({
        check: Type.String({ pattern: '^[a-z0-9][a-z0-9._-]{0,63}$' }),
        ok: Type.Boolean(),
      }),
      { maxItems: 64 },
    ),
  }),
})

export type GuestResultClaims = Static<typeof GuestResultSchema>
