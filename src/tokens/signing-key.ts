import { createPrivateKey, createPublicKey, type KeyObject, webcrypto } from 'node:crypto'
import { calculateJwkThumbprint, generateKeyPair, type JWK } from 'jose'
import { view } from '../core/bytes.js'
import { TokenError } from './errors.js'
import { type PublicJwk, parsePublicJwk, type SignatureAlgorithm } from './public-key.js'

/** A key that signs attestation results. `kid` is the RFC 7638 thumbprint of the public half. */
export interface SigningKey {
  readonly kid: string
  readonly alg: SignatureAlgorithm
  readonly publicJwk: SigningJwk
  readonly privateKey: webcrypto.CryptoKey
}

/** Public half of a signing key: the members that RFC 7518 and RFC 8037 require, and no others. */
export type SigningJwk =
  | PublicJwk
  | { readonly kty: 'EC'; readonly crv: 'P-384'; readonly x: string; readonly y: string }
  | { readonly kty: 'OKP'; readonly crv: 'Ed25519'; readonly x: string }

/** One of the two keys that a host holds in memory while one token lives. It cannot be exported. */
export interface SessionKey {
  readonly publicJwk: PublicJwk
  readonly privateKey: webcrypto.CryptoKey
}

export interface SessionKeys {
  /** Signs DPoP proofs; its thumbprint is `cnf.jkt` of the token. */
  readonly dpop: SessionKey
  /** Receives encrypted answers; its public half is `sigillo.session_jwk` of the token. */
  readonly session: SessionKey
}

/** A key of a published key set. */
export type PublishedJwk = SigningJwk & {
  readonly kid: string
  readonly alg: SignatureAlgorithm
  readonly use: 'sig'
}

export interface PublishedJwks {
  readonly keys: readonly PublishedJwk[]
}

export async function generateSigningKey(alg: SignatureAlgorithm = 'ES256'): Promise<SigningKey> {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true })
  return signingKey(alg, await jwkOf(publicKey), privateKey)
}

/**
 * The key as PKCS#8 octets, for a sealed store.
 *
 * The caller seals them at once and fills them with zeros.
 */
export async function exportSigningKey(key: SigningKey): Promise<Uint8Array> {
  return new Uint8Array(await webcrypto.subtle.exportKey('pkcs8', key.privateKey))
}

/**
 * A signing key from the PKCS#8 octets of `exportSigningKey`; the octets stay the caller's, to be filled with zeros.
 *
 * @throws TokenError `TOKEN_KEY_INVALID` unless it is a key on P-256, P-384 or Ed25519
 */
export async function importSigningKey(pkcs8: Uint8Array): Promise<SigningKey> {
  const keyObject = parsePkcs8(pkcs8)
  const kind = KINDS.find(
    ({ type, namedCurve }) =>
      keyObject.asymmetricKeyType === type &&
      (namedCurve === undefined || keyObject.asymmetricKeyDetails?.namedCurve === namedCurve),
  )
  if (!kind) {
    throw new TokenError('TOKEN_KEY_INVALID', 'expected a signing key on P-256, P-384 or Ed25519')
  }
  const { alg, algorithm } = kind
  const privateKey = await webcrypto.subtle.importKey('pkcs8', pkcs8, algorithm, true, ['sign'])
  return signingKey(alg, createPublicKey(keyObject).export({ format: 'jwk' }), privateKey)
}

const KINDS = [
  {
    alg: 'ES256',
    type: 'ec',
    namedCurve: 'prime256v1',
    algorithm: { name: 'ECDSA', namedCurve: 'P-256' },
  },
  {
    alg: 'ES384',
    type: 'ec',
    namedCurve: 'secp384r1',
    algorithm: { name: 'ECDSA', namedCurve: 'P-384' },
  },
  { alg: 'EdDSA', type: 'ed25519', namedCurve: undefined, algorithm: { name: 'Ed25519' } },
] as const

async function signingKey(
  alg: SignatureAlgorithm,
  jwk: JWK,
  privateKey: webcrypto.CryptoKey,
): Promise<SigningKey> {
  const publicJwk = signingJwk(jwk)
  return { kid: await calculateJwkThumbprint(publicJwk, 'sha256'), alg, publicJwk, privateKey }
}

function signingJwk({ kty, crv, x, y }: JWK): SigningJwk {
  if (x !== undefined) {
    if (kty === 'OKP' && crv === 'Ed25519') return { kty: 'OKP', crv, x }
    if (kty === 'EC' && crv === 'P-256' && y !== undefined) return { kty: 'EC', crv, x, y }
    if (kty === 'EC' && crv === 'P-384' && y !== undefined) return { kty: 'EC', crv, x, y }
  }
  throw new TypeError('a signing key was made that is of no kind of ours')
}

/** The key set that an issuer publishes: public halves only, each by its `kid`. */
export function publicJwks(keys: readonly SigningKey[]): PublishedJwks {
  return { keys: keys.map(({ kid, alg, publicJwk }) => ({ ...publicJwk, kid, alg, use: 'sig' })) }
}

/** Two new keys for a host: one proves possession, one receives answers. Both end with the process. */
export async function generateSessionKeys(): Promise<SessionKeys> {
  const [dpop, session] = await Promise.all([
    generateKeyPair('ES256', { extractable: false }),
    generateKeyPair('ECDH-ES', { crv: 'P-256', extractable: false }),
  ])
  return {
    dpop: { publicJwk: await publicJwkOf(dpop.publicKey), privateKey: dpop.privateKey },
    session: { publicJwk: await publicJwkOf(session.publicKey), privateKey: session.privateKey },
  }
}

function parsePkcs8(pkcs8: Uint8Array): KeyObject {
  try {
    return createPrivateKey({ key: view(pkcs8), format: 'der', type: 'pkcs8' })
  } catch (cause) {
    throw new TokenError('TOKEN_KEY_INVALID', 'expected a private key in PKCS#8', { cause })
  }
}

async function publicJwkOf(key: webcrypto.CryptoKey): Promise<PublicJwk> {
  const { kty, crv, x, y } = await jwkOf(key)
  return parsePublicJwk({ kty, crv, x, y })
}

/**
 * The JWK of a public key that was generated, by way of its SubjectPublicKeyInfo.
 *
 * Node 20 may stand still for ever when the JWK of a generated EC key is asked for: the export holds the lock of the
 * key while it allocates, and the collector, which that may start, wants the lock to free the job that made the key.
 */
async function jwkOf(key: webcrypto.CryptoKey): Promise<JWK> {
  const spki = await webcrypto.subtle.exportKey('spki', key)
  const imported = createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' })
  return imported.export({ format: 'jwk' }) as JWK
}
