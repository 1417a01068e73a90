import { CompactSign, compactVerify, errors } from 'jose'
import { utf8 } from '../core/bytes.js'
import { MAX_TOKEN_LIFETIME_SECONDS } from './attestation-result-claims.js'
import { parseJsonPart, requireMembers, splitCompact } from './compact.js'
import { quoted, TokenError } from './errors.js'
import type { SigningKey } from './signing-key.js'
import type { VerificationKey, VerificationKeys } from './verification-keys.js'

/** What tokens of an attestation service have in common: header, signature, parties and times. */

export const MAX_SKEW_SECONDS = 60

const CODES = { malformed: 'TOKEN_MALFORMED', tooLarge: 'TOKEN_TOO_LARGE' } as const
const ALGORITHMS: readonly unknown[] = ['ES256', 'ES384', 'EdDSA']

/** A kind of token: its `typ`, and how long its text may be. */
export interface TokenForm {
  readonly type: string
  readonly maxCharacters: number
}

export interface TokenExpectations {
  /** Keys of the one issuer that is expected, from `importJwks`. */
  readonly jwks: VerificationKeys
  readonly issuer: string
  /** One of the audiences must be this. */
  readonly audience: string
  readonly nowSeconds: number
  /** How far the clocks of issuer and caller may differ: at most 60. */
  readonly skewSeconds: number
}

interface IssuedClaims {
  readonly iss: string
  readonly aud: readonly string[]
  readonly iat: number
  readonly nbf: number
  readonly exp: number
}

/** @throws TypeError where the token would live too long, or be too large */
export async function signIssuedToken(
  claims: IssuedClaims,
  key: SigningKey,
  form: TokenForm,
): Promise<string> {
  const lifetime = claims.exp - claims.iat
  if (lifetime <= 0 || lifetime > MAX_TOKEN_LIFETIME_SECONDS || claims.nbf > claims.exp) {
    throw new TypeError(`a token lives 1 to ${MAX_TOKEN_LIFETIME_SECONDS} s, not ${lifetime} s`)
  }
  const token = await new CompactSign(utf8(JSON.stringify(claims)))
    .setProtectedHeader({ alg: key.alg, kid: key.kid, typ: form.type })
    .sign(key.privateKey)
  if (token.length > form.maxCharacters) {
    throw new TypeError(`a token has at most ${form.maxCharacters} characters`)
  }
  return token
}

interface Header {
  readonly alg: unknown
  readonly kid: string
}

export function splitIssuedToken(
  token: string,
  form: TokenForm,
): { readonly header: Header; readonly payload: Uint8Array } {
  const [headerOctets, payload] = splitCompact(token, 3, form.maxCharacters, CODES)
  if (headerOctets === undefined || payload === undefined) throw new TypeError('three parts')
  const header = parseJsonPart(headerOctets, 'the header', 'TOKEN_MALFORMED')
  requireMembers(header, ['alg', 'kid', 'typ'], 'the header', 'TOKEN_MALFORMED')
  const { alg, kid, typ } = header
  if (typ !== form.type) {
    throw new TokenError('TOKEN_TYPE', `expected typ ${form.type}, found ${quoted(typ)}`)
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

export function keyFor(header: Header, keys: VerificationKeys): VerificationKey {
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

export async function verifyTokenSignature(
  token: string,
  { alg, key }: VerificationKey,
): Promise<void> {
  try {
    await compactVerify(token, key, { algorithms: [alg] })
  } catch (cause) {
    if (!(cause instanceof errors.JOSEError)) throw cause
    throw new TokenError('TOKEN_SIGNATURE', 'expected a signature by the key of the issuer', {
      cause,
    })
  }
}

export function checkParties(claims: IssuedClaims, expected: TokenExpectations): void {
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

export function checkTimes(
  { iat, nbf, exp }: IssuedClaims,
  { nowSeconds, skewSeconds }: TokenExpectations,
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
