import { errors, importJWK, type JWK, type JWTPayload, jwtVerify } from 'jose'
import { isJsonObject, type JsonObject, parseJsonPart, splitCompact } from './compact.js'
import { quoted, requireSeconds, TokenError } from './errors.js'

/** Signatures that an outside issuer may use: none with a shared secret, and none at all is not among them. */
export const OUTSIDE_ALGORITHMS = ['RS256', 'PS256', 'ES256', 'ES384', 'EdDSA'] as const
export type OutsideAlgorithm = (typeof OUTSIDE_ALGORITHMS)[number]

const MAX_CHARACTERS = 16 * 1024
const MAX_KEYS = 64
const CODES = { malformed: 'TOKEN_MALFORMED', tooLarge: 'TOKEN_TOO_LARGE' } as const
/** Access tokens and ID tokens; logout tokens and the like say other types. */
const TYPES: readonly unknown[] = [undefined, 'JWT', 'at+jwt', 'application/at+jwt']

/** The key set of an outside issuer: each key by its `kid`, as it was published. */
export type OutsideKeys = ReadonlyMap<string, JsonObject>

export interface OutsideExpectations {
  readonly issuer: string
  readonly audience: string
  readonly algorithms: readonly OutsideAlgorithm[]
  readonly nowSeconds: number
  readonly skewSeconds: number
  /** Longest life of a token, from `iat` to `exp`. */
  readonly maxLifetimeSeconds: number
  /** Claims that must be there with this text, or with it in a list of theirs. */
  readonly claims: ReadonlyMap<string, string>
}

/**
 * The keys of a set that have a `kid` and are for signatures. Others are left out, as a set of another party may hold them;
 * what kind of key each is, is looked at when it verifies.
 *
 * @throws TokenError `TOKEN_KEY_INVALID`
 * @see RFC 7517, section 5
 */
export function readOutsideKeys(set: unknown): OutsideKeys {
  const list = isJsonObject(set) ? set['keys'] : undefined
  if (!Array.isArray(list) || list.length > MAX_KEYS) {
    throw new TokenError('TOKEN_KEY_INVALID', `expected a key set of at most ${MAX_KEYS} keys`)
  }
  const keys = new Map<string, JsonObject>()
  for (const jwk of list as readonly unknown[]) {
    if (!isJsonObject(jwk)) throw new TokenError('TOKEN_KEY_INVALID', 'expected a JWK object')
    const { kid, use, kty } = jwk
    const forSignatures = use === undefined || use === 'sig'
    if (typeof kid !== 'string' || !forSignatures || kty === 'oct') continue
    if (keys.has(kid)) {
      throw new TokenError('TOKEN_KEY_INVALID', `expected one key ${quoted(kid)}, found two`)
    }
    keys.set(kid, jwk)
  }
  return keys
}

/** The `kid` that a token names. Untrusted: it selects the key, and decides nothing. */
export function kidOfOutsideToken(token: string): string {
  const [header] = splitCompact(token, 3, MAX_CHARACTERS, CODES)
  if (!header) throw new TypeError('three parts')
  const { kid } = parseJsonPart(header, 'the header', 'TOKEN_MALFORMED')
  if (typeof kid === 'string' && kid !== '') return kid
  throw new TokenError('TOKEN_KEY_UNKNOWN', 'expected a token that names its key, found none')
}

/**
 * The claims of a token of an outside issuer (OpenID Connect, RFC 9068), once it is verified: type, algorithm, key,
 * signature, issuer, audience, times, lifetime, subject, and the claims that must be there.
 *
 * **Does not check** possession: it is a bearer token, for whoever holds it. Nor revocation: it holds until it ends.
 *
 * @throws TokenError one `TOKEN_*` code for each check
 * @see RFC 8725, section 3
 */
export async function verifyOutsideToken(
  token: string,
  keys: OutsideKeys,
  expected: OutsideExpectations,
): Promise<JWTPayload & { readonly sub: string; readonly exp: number }> {
  requireSeconds('nowSeconds', expected.nowSeconds)
  const alg = checkHeader(token, expected)
  const jwk = keys.get(kidOfOutsideToken(token))
  if (!jwk) throw new TokenError('TOKEN_KEY_UNKNOWN', 'expected a key of the issuer')
  const key = await keyOf(jwk, alg)
  const { sub, iat, exp, ...claims } = await verified(token, key, alg, expected)
  if (typeof sub !== 'string' || sub === '' || iat === undefined || exp === undefined) {
    throw new TokenError('TOKEN_CLAIMS', 'expected the claims sub, iat and exp')
  }
  if (exp <= iat || exp - iat > expected.maxLifetimeSeconds) {
    const most = expected.maxLifetimeSeconds
    throw new TokenError(
      'TOKEN_LIFETIME',
      `expected a life of 1 to ${most} s, found ${exp - iat} s`,
    )
  }
  if (iat > expected.nowSeconds + expected.skewSeconds) {
    throw new TokenError(
      'TOKEN_NOT_YET_VALID',
      `expected a token issued by now, found one of ${iat}`,
    )
  }
  for (const [name, wanted] of expected.claims) requireClaim(claims, name, wanted)
  return { ...claims, sub, iat, exp }
}

function checkHeader(token: string, expected: OutsideExpectations): OutsideAlgorithm {
  const [octets] = splitCompact(token, 3, MAX_CHARACTERS, CODES)
  if (!octets) throw new TypeError('three parts')
  const { typ, alg } = parseJsonPart(octets, 'the header', 'TOKEN_MALFORMED')
  const type = typeof typ === 'string' && typ.toLowerCase() === 'jwt' ? 'JWT' : typ
  if (!TYPES.includes(type)) {
    throw new TokenError('TOKEN_TYPE', `expected typ JWT or at+jwt, found ${quoted(typ)}`)
  }
  const allowed = expected.algorithms.find((one) => one === alg)
  if (allowed) return allowed
  const list = expected.algorithms.join(', ')
  throw new TokenError('TOKEN_ALGORITHM', `expected one of ${list}, found ${quoted(alg)}`)
}

async function keyOf(jwk: JsonObject, alg: OutsideAlgorithm) {
  if (jwk['alg'] !== undefined && jwk['alg'] !== alg) {
    throw new TokenError('TOKEN_ALGORITHM', `expected ${quoted(jwk['alg'])} of the key`)
  }
  // the public members alone: what else a set says of a key is not for us
  const { kty, crv, x, y, n, e } = jwk
  try {
    return await importJWK({ kty, crv, x, y, n, e } as JWK, alg)
  } catch (cause) {
    throw new TokenError('TOKEN_KEY_INVALID', `expected a key for ${alg}`, { cause })
  }
}

async function verified(
  token: string,
  key: Awaited<ReturnType<typeof importJWK>>,
  alg: OutsideAlgorithm,
  { issuer, audience, nowSeconds, skewSeconds }: OutsideExpectations,
): Promise<JWTPayload> {
  try {
    const { payload } = await jwtVerify(token, key, {
      ...{ algorithms: [alg], issuer, audience, clockTolerance: skewSeconds },
      currentDate: new Date(nowSeconds * 1000),
      requiredClaims: ['sub', 'iat', 'exp'],
    })
    return payload
  } catch (cause) {
    throw refusal(cause)
  }
}

function refusal(cause: unknown): unknown {
  if (cause instanceof errors.JWTExpired) {
    return new TokenError('TOKEN_EXPIRED', 'expected a token that has not ended', { cause })
  }
  if (cause instanceof errors.JWTClaimValidationFailed) {
    const code = CLAIM_CODES[cause.claim] ?? 'TOKEN_CLAIMS'
    return new TokenError(code, `claim ${cause.claim}: ${cause.reason}`, { cause })
  }
  if (cause instanceof errors.JWSSignatureVerificationFailed) {
    return new TokenError('TOKEN_SIGNATURE', 'expected a signature by the key of the issuer', {
      cause,
    })
  }
  if (cause instanceof errors.JOSEError || cause instanceof TypeError) {
    return new TokenError('TOKEN_MALFORMED', 'expected a signed token', { cause })
  }
  return cause
}

const CLAIM_CODES: Readonly<
  Record<string, 'TOKEN_ISSUER' | 'TOKEN_AUDIENCE' | 'TOKEN_NOT_YET_VALID'>
> = { iss: 'TOKEN_ISSUER', aud: 'TOKEN_AUDIENCE', nbf: 'TOKEN_NOT_YET_VALID' }

function requireClaim(claims: JsonObject, name: string, wanted: string): void {
  const found = claims[name]
  const values: readonly unknown[] = Array.isArray(found) ? found : [found]
  const scalar = (value: unknown) => typeof value === 'boolean' || typeof value === 'number'
  if (values.some((value) => value === wanted || (scalar(value) && String(value) === wanted)))
    return
  throw new TokenError('TOKEN_CLAIMS', `expected ${wanted} in the claim ${name}`)
}
