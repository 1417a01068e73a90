import { createHash, createPublicKey, type KeyObject, type webcrypto } from 'node:crypto'
import { importJWK } from 'jose'
import { equalBytes, fromBase64url, toBase64url, view } from '../core/bytes.js'
import { isJsonObject, type JsonObject, requireMembers } from './compact.js'
import { decoding, quoted, TokenError, type TokenErrorCode } from './errors.js'

/** A public P-256 key: these four members and no others. */
export interface PublicJwk {
  readonly kty: 'EC'
  readonly crv: 'P-256'
  readonly x: string
  readonly y: string
}

/** How a public key verifies: by its own kind, never by what a token says. */
export type SignatureAlgorithm = 'ES256' | 'ES384' | 'EdDSA'

const RSA_BITS: readonly number[] = [2048, 3072, 4096]

/**
 * A public P-256 key from JSON of another party.
 *
 * Checks the exact members, canonical coordinates of 32 octets, and that the point is on the curve. A private member
 * is refused.
 *
 * @throws TokenError `TOKEN_KEY_INVALID`
 * @see RFC 7518, section 6.2
 */
export function parsePublicJwk(value: unknown): PublicJwk {
  const jwk = readPublicJwk(value, 'TOKEN_KEY_INVALID')
  importKeyObject(jwk)
  return jwk
}

/** Members and coordinates of a public P-256 key, without the check that `importPublicJwk` does: not yet a key. */
export function readPublicJwk(value: unknown, code: TokenErrorCode): PublicJwk {
  if (!isJsonObject(value)) throw new TokenError(code, 'expected a JWK object')
  requireMembers(value, ['kty', 'crv', 'x', 'y'], 'the JWK', code)
  const { kty, crv } = value
  if (kty !== 'EC' || crv !== 'P-256') {
    throw new TokenError(code, `expected an EC key on P-256, found ${quoted(kty)} ${quoted(crv)}`)
  }
  const x = coordinate(value, 'x', 32, code)
  return { kty, crv, x, y: coordinate(value, 'y', 32, code) }
}

/** The key of coordinates that `readPublicJwk` gave; refuses a point that is not on the curve. */
export async function importPublicJwk(
  jwk: PublicJwk,
  alg: 'ES256' | 'ECDH-ES',
  code: TokenErrorCode,
): Promise<webcrypto.CryptoKey> {
  try {
    const key = await importJWK({ ...jwk }, alg)
    if (!(key instanceof Uint8Array)) return key
  } catch (cause) {
    throw new TokenError(code, 'expected a point on P-256', { cause })
  }
  throw new TypeError('a public key was imported as octets')
}

/**
 * RFC 7638 thumbprint with SHA-256, as base64url: 43 characters. What `cnf.jkt` and `kid` hold.
 *
 * Does not check the key: `parsePublicJwk` does.
 */
export function jwkThumbprint({ kty, crv, x, y }: PublicJwk): string {
  // Members in the order of their names, without space: RFC 7638, section 3.2
  const canonical = JSON.stringify({ crv, kty, x, y })
  return createHash('sha256').update(canonical).digest('base64url')
}

/** A verification key of any kind that tokens may be signed with, and the one algorithm that it verifies. */
export async function importVerificationKey(
  jwk: JsonObject,
): Promise<{ readonly alg: SignatureAlgorithm; readonly key: webcrypto.CryptoKey }> {
  const { alg, members } = kindOf(jwk)
  if (jwk['alg'] !== undefined && jwk['alg'] !== alg) {
    throw new TokenError('TOKEN_KEY_INVALID', `expected alg ${alg}, found ${quoted(jwk['alg'])}`)
  }
  if (jwk['use'] !== undefined && jwk['use'] !== 'sig') {
    throw new TokenError('TOKEN_KEY_INVALID', `expected use sig, found ${quoted(jwk['use'])}`)
  }
  importKeyObject(members)
  const key = await importJWK(members, alg)
  if (key instanceof Uint8Array) throw new TypeError('a public key was imported as octets')
  return { alg, key }
}

/**
 * The RSA key of a SubjectPublicKeyInfo in canonical DER: 2048, 3072 or 4096 bit with exponent 65537.
 *
 * @throws TokenError `TOKEN_KEY_INVALID`
 */
export function importRsaSpki(spki: Uint8Array): KeyObject {
  const key = keyObject(() => createPublicKey({ key: view(spki), format: 'der', type: 'spki' }))
  const { modulusLength, publicExponent } = key.asymmetricKeyDetails ?? {}
  const isUsable = RSA_BITS.includes(modulusLength ?? 0) && publicExponent === 65537n
  if (key.asymmetricKeyType !== 'rsa' || !isUsable) {
    const found = `${key.asymmetricKeyType} ${modulusLength ?? ''}`
    throw new TokenError('TOKEN_KEY_INVALID', `expected RSA of 2048 to 4096 bit, found ${found}`)
  }
  if (!equalBytes(key.export({ format: 'der', type: 'spki' }), spki)) {
    throw new TokenError('TOKEN_KEY_INVALID', 'expected canonical DER of a public key')
  }
  return key
}

function kindOf(jwk: JsonObject): { alg: SignatureAlgorithm; members: Record<string, string> } {
  const code = 'TOKEN_KEY_INVALID'
  const { kty, crv } = jwk
  if (kty === 'EC' && (crv === 'P-256' || crv === 'P-384')) {
    const octets = crv === 'P-256' ? 32 : 48
    const x = coordinate(jwk, 'x', octets, code)
    const y = coordinate(jwk, 'y', octets, code)
    return { alg: crv === 'P-256' ? 'ES256' : 'ES384', members: { kty, crv, x, y } }
  }
  if (kty === 'OKP' && crv === 'Ed25519') {
    return { alg: 'EdDSA', members: { kty, crv, x: coordinate(jwk, 'x', 32, code) } }
  }
  throw new TokenError(
    code,
    `expected a key on P-256, P-384 or Ed25519, found ${quoted(kty)} ${quoted(crv)}`,
  )
}

function coordinate(
  jwk: JsonObject,
  name: 'x' | 'y',
  octets: number,
  code: TokenErrorCode,
): string {
  const text = jwk[name]
  if (typeof text !== 'string') throw new TokenError(code, `expected text as ${name} of the JWK`)
  const value = decoding(code, `${name} of the JWK`, () => fromBase64url(text))
  if (value.length !== octets) {
    throw new TokenError(code, `expected ${octets} octets as ${name}, found ${value.length}`)
  }
  return toBase64url(value)
}

function importKeyObject(jwk: object): KeyObject {
  return keyObject(() => createPublicKey({ key: { ...jwk }, format: 'jwk' }))
}

function keyObject(read: () => KeyObject): KeyObject {
  try {
    return read()
  } catch (cause) {
    throw new TokenError('TOKEN_KEY_INVALID', 'expected a public key of a supported kind', {
      cause,
    })
  }
}
