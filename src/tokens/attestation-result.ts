import { Compile } from 'typebox/compile'
import { Recent } from '../core/recent.js'
import {
  type AttestationResultClaims,
  AttestationResultSchema,
} from './attestation-result-claims.js'
import { claimsOfProfile, requireProfile } from './claims-form.js'
import { type JsonObject, parseJsonPart } from './compact.js'
import { requireSeconds, TokenError } from './errors.js'
import {
  checkParties,
  checkTimes,
  keyFor,
  MAX_SKEW_SECONDS,
  signIssuedToken,
  splitIssuedToken,
  type TokenExpectations,
  type TokenForm,
  verifyTokenSignature,
} from './issued-token.js'
import type { SigningKey } from './signing-key.js'
import type { VerificationKey } from './verification-keys.js'

const FORM: TokenForm = { type: 'attest-result+jwt', maxCharacters: 8192 }
const schema = Compile(AttestationResultSchema)

export type AttestationResultExpectations = TokenExpectations

/**
 * The token of these claims: JWS compact serialisation with the algorithm of the key, `typ: attest-result+jwt`.
 *
 * Throws `TypeError` on claims that `verifyAttestationResult` would refuse: an issuer never says what no one accepts.
 */
export async function signAttestationResult(
  claims: AttestationResultClaims,
  key: SigningKey,
): Promise<string> {
  requireProfile(schema, claims)
  return signIssuedToken(claims, key, FORM)
}

/**
 * The claims of an attestation result token, once all of it is verified.
 *
 * Checks size, form, header (`alg`, `kid`, `typ` and nothing else), type, that the algorithm is the one of the key
 * that `kid` selects, signature, `cnf`, the schema of the whole payload, issuer, audience, lifetime and times.
 *
 * **Does not check** what the verifier found (`ear_status`, `checks`), `insecure_test`, whether host or policy have
 * moved on (`host_epoch`, `policy_epoch`, `policy.digest`), replay, nor possession of the key in `cnf`:
 * see `verifyDpopProof`. The text of a token is no identity; `jti` is.
 *
 * @throws TokenError one `TOKEN_*` code for each check
 * @see RFC 8725, section 3; RFC 9711
 */
export async function verifyAttestationResult(
  token: string,
  expected: AttestationResultExpectations,
): Promise<AttestationResultClaims> {
  requireSeconds('nowSeconds', expected.nowSeconds)
  requireSeconds('skewSeconds', expected.skewSeconds, MAX_SKEW_SECONDS)
  const { header, payload } = splitIssuedToken(token, FORM)
  const claims = await verifiedClaims(token, payload, keyFor(header, expected.jwks))
  checkParties(claims, expected)
  checkTimes(claims, expected)
  return claims
}

/** Hosts that are served at a time, with a token each. */
const MAX_KEPT = 2048

/**
 * Claims of tokens that were verified, by key and whole text: a host shows its token again with every request of its five
 * minutes. Signature and schema are functions of key and text; everything else is checked each time. Nothing is kept of a
 * text that was refused.
 */
const verified = new WeakMap<VerificationKey, Recent<string, AttestationResultClaims>>()

async function verifiedClaims(
  token: string,
  payload: Uint8Array,
  key: VerificationKey,
): Promise<AttestationResultClaims> {
  const known = verified.get(key)?.get(token)
  if (known) return known
  await verifyTokenSignature(token, key)
  const claims = frozen(parseClaims(payload))
  const kept = verified.get(key) ?? new Recent(MAX_KEPT)
  verified.set(key, kept)
  kept.set(token, claims)
  return claims
}

function frozen<T>(value: T): T {
  if (typeof value !== 'object' || value === null) return value
  for (const member of Object.values(value)) frozen(member)
  return Object.freeze(value)
}

/** What an unverified token says. `issuer` and `kid` select the keys to verify it with: decide nothing by it. */
export interface UnverifiedToken {
  readonly issuer: string
  readonly kid: string
  /** For a holder who shows its own token to people. Not even their shape is checked. */
  readonly claims: JsonObject
}

/**
 * Who a token says it is from. Untrusted: nothing is verified.
 *
 * @throws TokenError `TOKEN_TOO_LARGE`, `TOKEN_MALFORMED`, `TOKEN_TYPE`, `TOKEN_ALGORITHM` or `TOKEN_CLAIMS`
 */
export function peekAttestationResult(token: string): UnverifiedToken {
  const { header, payload } = splitIssuedToken(token, FORM)
  const claims = parseJsonPart(payload, 'the claims', 'TOKEN_MALFORMED')
  const { iss } = claims
  if (typeof iss !== 'string') throw new TokenError('TOKEN_CLAIMS', 'expected text as iss')
  return { issuer: iss, kid: header.kid, claims }
}

function parseClaims(payload: Uint8Array): AttestationResultClaims {
  const claims: JsonObject = parseJsonPart(payload, 'the claims', 'TOKEN_MALFORMED')
  if (claims['cnf'] === undefined) {
    throw new TokenError('TOKEN_UNBOUND', 'expected the claim cnf, found a bearer token')
  }
  return claimsOfProfile(schema, claims)
}
