import { createPrivateKey, createPublicKey, type KeyObject, webcrypto } from 'node:crypto'
import { exportJWK, generateKeyPair } from 'jose'
import { view } from '../core/bytes.js'
import { TokenError } from './errors.js'
import { jwkThumbprint, type PublicJwk, parsePublicJwk } from './public-key.js'

/** A key that signs attestation results: ES256. `kid` is the RFC 7638 thumbprint of the public half. */
export interface SigningKey {
  readonly kid: string
  readonly publicJwk: PublicJwk
  readonly privateKey: webcrypto.CryptoKey
}

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
export interface PublishedJwk extends PublicJwk {
  readonly kid: string
  readonly alg: 'ES256'
  readonly use: 'sig'
}

export interface PublishedJwks {
  readonly keys: readonly PublishedJwk[]
}

export async function generateSigningKey(): Promise<SigningKey> {
  const { publicKey, privateKey } = await generateKeyPair('ES256', { extractable: true })
  const publicJwk = await publicJwkOf(publicKey)
  return { kid: await jwkThumbprint(publicJwk), publicJwk, privateKey }
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
 * @throws TokenError `TOKEN_KEY_INVALID` unless it is a P-256 key
 */
export async function importSigningKey(pkcs8: Uint8Array): Promise<SigningKey> {
  const keyObject = parsePkcs8(pkcs8)
  const { namedCurve } = keyObject.asymmetricKeyDetails ?? {}
  if (keyObject.asymmetricKeyType !== 'ec' || namedCurve !== 'prime256v1') {
    throw new TokenError('TOKEN_KEY_INVALID', 'expected a signing key on P-256')
  }
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256' }
  const privateKey = await webcrypto.subtle.importKey('pkcs8', pkcs8, algorithm, true, ['sign'])
  const publicJwk = jwkOfKeyObject(createPublicKey(keyObject))
  return { kid: await jwkThumbprint(publicJwk), publicJwk, privateKey }
}

/** The key set that an issuer publishes: public halves only, each by its `kid`. */
export function publicJwks(keys: readonly SigningKey[]): PublishedJwks {
  return {
    keys: keys.map(({ kid, publicJwk: { kty, crv, x, y } }) => {
      return { kty, crv, x, y, kid, alg: 'ES256', use: 'sig' }
    }),
  }
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
  const { kty, crv, x, y } = await exportJWK(key)
  return parsePublicJwk({ kty, crv, x, y })
}

function jwkOfKeyObject(key: KeyObject): PublicJwk {
  const { kty, crv, x, y } = key.export({ format: 'jwk' })
  return parsePublicJwk({ kty, crv, x, y })
}
