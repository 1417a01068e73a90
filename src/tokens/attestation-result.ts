import { CompactSign, compactVerify, errors } from 'jose'
import { Compile } from 'typebox/compile'
import { utf8 } from '../core/bytes.js'
import { Recent } from '../core/recent.js'
import {
  type AttestationResultClaims,
  AttestationResultSchema,
  MAX_TOKEN_LIFETIME_SECONDS,
} from './attestation-result-claims.js'
import { type JsonObject, parseJsonPart, requireMembers, splitCompact } from './compact.js'
import { quoted, requireSeconds, TokenError } from './errors.js'
import type { SigningKey } from './signing-key.js'
import type { VerificationKey, VerificationKeys } from './verification-keys.js'

const ATTESTATION_RESULT_TYPE = 'attest-result+jwt'
const MAX_TOKEN_CHARACTERS = 8192
export const MAX_SKEW_SECONDS = 60

const CODES = { malformed: 'TOKEN_MALFORMED', tooLarge: 'TOKEN_TOO_LARGE' } as const
const ALGORITHMS: readonly unknown[] = ['ES256', 'ES384', 'EdDSA']
const schema = Compile(AttestationResultSchema)

export interface AttestationResultExpectations {
  /** Keys of the one issuer that is expected, from `importJwks`. */
  readonly jwks: VerificationKeys
  readonly issuer: string
  /** One of the audiences must be this. */
  readonly audience: string
  readonly nowSeconds: number
  /** How far the clocks of issuer and caller may differ: at most 60. */
  readonly skewSeconds: number
}

/**
 * The token of these claims: JWS compact serialisation with the algorithm of the key, `typ: attest-result+jwt`.
 *
 * Throws `TypeError` on claims that `verifyAttestationResult` would refuse: an issuer never says what no one accepts.
 */
export async function signAttestationResult(
  claims: AttestationResultClaims,
  key: SigningKey,
): Promise<string> {
  const [error] = schema.Errors(claims)
  if (error) throw new TypeError(`claims${error.instancePath}: ${error.message}`)
  const lifetime = claims.exp - claims.iat
  if (lifetime <= 0 || lifetime > MAX_TOKEN_LIFETIME_SECONDS || claims.nbf > claims.exp) {
    throw new TypeError(`a token lives 1 to ${MAX_TOKEN_LIFETIME_SECONDS} s, not ${lifetime} s`)
  }
  const token = await new CompactSign(utf8(JSON.stringify(claims)))
    .setProtectedHeader({ alg: key.alg, kid: key.kid, typ: ATTESTATION_RESULT_TYPE })
    .sign(key.privateKey)
  if (token.length > MAX_TOKEN_CHARACTERS) {
    throw new TypeError(`a token has at most ${MAX_TOKEN_CHARACTERS} characters`)
  }
  return token
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
  const { header, payload } = splitToken(token)
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
  await verifySignature(token, key)
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
  const { header, payload } = splitToken(token)
  const claims = parseJsonPart(payload, 'the claims', 'TOKEN_MALFORMED')
  const { iss } = claims
  if (typeof iss !== 'string') throw new TokenError('TOKEN_CLAIMS', 'expected text as iss')
  return { issuer: iss, kid: header.kid, claims }
}

interface Header {
  readonly alg: unknown
  readonly kid: string
}

function splitToken(token: string): { readonly header: Header; readonly payload: Uint8Array } {
  const [headerOctets, payload] = splitCompact(token, 3, MAX_TOKEN_CHARACTERS, CODES)
  if (headerOctets === undefined || payload === undefined) throw new TypeError('three parts')
  const header = parseJsonPart(headerOctets, 'the header', 'TOKEN_MALFORMED')
  requireMembers(header, ['alg', 'kid', 'typ'], 'the header', 'TOKEN_MALFORMED')
  const { alg, kid, typ } = header
  if (typ !== ATTESTATION_RESULT_TYPE) {
    throw new TokenError(
      'TOKEN_TYPE',
      `expected typ ${ATTESTATION_RESULT_TYPE}, found ${quoted(typ)}`,
    )
  }
  if (!ALGORITHMS.includes(alg)) {
    throw new TokenError(
      'TOKEN_ALGORITHM',
      `expected one of ${ALGORITHMS.join(', ')}, found ${quoted(alg)}`,
    )
  }
  if (typeof kid !== 'string') {
    throw new TokenError('TOKEN_MALFORMED', `expected text as kid, found ${quoted(kid)}`)
  }
  return { header: { alg, kid }, payload }
}

function keyFor(header: Header, keys: VerificationKeys): VerificationKey {
  const key = keys.get(header.kid)
  if (!key) {
    throw new TokenError(
      'TOKEN_KEY_UNKNOWN',
      `expected a key of the issuer, found ${quoted(header.kid)}`,
    )
  }
  if (header.alg !== key.alg) {
    throw new TokenError(
      'TOKEN_ALGORITHM',
      `expected ${key.alg} of the key, found ${quoted(header.alg)}`,
    )
  }
  return key
}

async function verifySignature(token: string, { alg, key }: VerificationKey): Promise<void> {
  try {
    await compactVerify(token, key, { algorithms: [alg] })
  } catch (cause) {
    if (!(cause instanceof errors.JOSEError)) throw cause
    throw new TokenError('TOKEN_SIGNATURE', 'expected a signature by the key of the issuer', {
      cause,
    })
  }
}

function parseClaims(payload: Uint8Array): AttestationResultClaims {
  const claims: JsonObject = parseJsonPart(payload, 'the claims', 'TOKEN_MALFORMED')
  if (claims['cnf'] === undefined) {
    throw new TokenError('TOKEN_UNBOUND', 'expected the claim cnf, found a bearer token')
  }
  if (!schema.Check(claims)) {
    const [error] = schema.Errors(claims)
    throw new TokenError(
      'TOKEN_CLAIMS',
      `claims${quoted(error?.instancePath)} ${error?.message ?? 'do not fit the profile'}`,
    )
  }
  return claims
}

function checkParties(
  claims: AttestationResultClaims,
  expected: AttestationResultExpectations,
): void {
  if (claims.iss !== expected.issuer) {
    throw new TokenError(
      'TOKEN_ISSUER',
      `expected issuer ${expected.issuer}, found ${quoted(claims.iss)}`,
    )
  }
  if (!claims.aud.includes(expected.audience)) {
    throw new TokenError(
      'TOKEN_AUDIENCE',
      `expected audience ${expected.audience}, found ${quoted(claims.aud)}`,
    )
  }
}

function checkTimes(
  { iat, nbf, exp }: AttestationResultClaims,
  { nowSeconds, skewSeconds }: AttestationResultExpectations,
): void {
  const lifetime = exp - iat
  if (lifetime <= 0 || lifetime > MAX_TOKEN_LIFETIME_SECONDS) {
    throw new TokenError(
      'TOKEN_LIFETIME',
      `expected a life of 1 to ${MAX_TOKEN_LIFETIME_SECONDS} s, found ${lifetime} s`,
    )
  }
  const from = Math.max(iat, nbf)
  if (from > nowSeconds + skewSeconds) {
    throw new TokenError(
      'TOKEN_NOT_YET_VALID',
      `expected a token valid at ${nowSeconds}, found one from ${from}`,
    )
  }
  if (exp + skewSeconds <= nowSeconds) {
    throw new TokenError(
      'TOKEN_EXPIRED',
      `expected a token valid at ${nowSeconds}, found one until ${exp}`,
    )
  }
}
