import type { webcrypto } from 'node:crypto'
import { isJsonObject, type JsonObject } from './compact.js'
import { TokenError } from './errors.js'
import { importVerificationKey, type SignatureAlgorithm } from './public-key.js'

const MAX_KEYS = 32
const KID_PATTERN = /^[A-Za-z0-9._-]{1,128}$/

export interface VerificationKey {
  readonly alg: SignatureAlgorithm
  readonly key: webcrypto.CryptoKey
}

/** The keys of one issuer by `kid`. Imported once; whoever holds this object holds the only cache. */
export type VerificationKeys = ReadonlyMap<string, VerificationKey>

/**
 * Imports the published key set of one issuer.
 *
 * A key set of another party may hold keys of other kinds; here all must be usable, so that a set is trusted as a
 * whole or not at all. Private members, a missing or repeated `kid`, and an empty set are refused. Does not check
 * where the set came from: fetch it over TLS with a pinned anchor.
 *
 * @throws TokenError `TOKEN_KEY_INVALID`
 * @see RFC 7517, section 5
 */
export async function importJwks(jwks: unknown): Promise<VerificationKeys> {
  const list = isJsonObject(jwks) ? jwks['keys'] : undefined
  if (!Array.isArray(list) || list.length === 0 || list.length > MAX_KEYS) {
    throw new TokenError('TOKEN_KEY_INVALID', `expected a key set of 1 to ${MAX_KEYS} keys`)
  }
  const keys = new Map<string, VerificationKey>()
  for (const jwk of list as readonly unknown[]) {
    if (!isJsonObject(jwk)) throw new TokenError('TOKEN_KEY_INVALID', 'expected a JWK object')
    const kid = kidOf(jwk)
    if (keys.has(kid)) throw new TokenError('TOKEN_KEY_INVALID', `expected one key ${kid}`)
    if (Object.hasOwn(jwk, 'd')) {
      throw new TokenError('TOKEN_KEY_INVALID', `expected a public key ${kid}, found a private one`)
    }
    keys.set(kid, await importVerificationKey(jwk))
  }
  return keys
}

function kidOf(jwk: JsonObject): string {
  const { kid } = jwk
  if (typeof kid !== 'string' || !KID_PATTERN.test(kid)) {
    throw new TokenError('TOKEN_KEY_INVALID', 'expected a key with a kid of 1 to 128 characters')
  }
  return kid
}
