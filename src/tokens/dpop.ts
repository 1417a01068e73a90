import { createHash, type webcrypto } from 'node:crypto'
import { CompactSign, compactVerify, errors } from 'jose'
import { timingSafeEqual, toBase64url, utf8 } from '../core/bytes.js'
import { randomOctets } from '../core/random.js'
import { Recent } from '../core/recent.js'
import { type JsonObject, parseJsonPart, requireMembers, splitCompact } from './compact.js'
import { normalizeHttpUri } from './dpop-uri.js'
import { quoted, requireSeconds, TokenError } from './errors.js'
import { importPublicJwk, jwkThumbprint, type PublicJwk, readPublicJwk } from './public-key.js'
import type { SessionKey } from './signing-key.js'

const MAX_PROOF_CHARACTERS = 4096
export const MAX_PROOF_AGE_SECONDS = 30

const DPOP_TYPE = 'dpop+jwt'
const CODES = { malformed: 'DPOP_MALFORMED', tooLarge: 'DPOP_MALFORMED' } as const
const JTI_OCTETS = 16
const JTI_PATTERN = /^[A-Za-z0-9._~-]{16,128}$/

export interface DpopProofInput {
  readonly key: SessionKey
  /** `POST` */
  readonly method: string
  /** Absolute URL of the request; query and fragment are left out of the proof. */
  readonly url: string
  readonly accessToken: string
  readonly nowSeconds: number
}

export interface DpopExpectations {
  readonly method: string
  /** Absolute URL as the server knows itself by configuration, never by the `Host` header. */
  readonly url: string
  readonly accessToken: string
  /** `cnf.jkt` of the access token, once that is verified. */
  readonly expectedJkt: string
  readonly nowSeconds: number
  /** How far `iat` may be from now, either way: at most 30. */
  readonly maxAgeSeconds: number
}

/** A proof that was verified. The caller records `jti` for `jkt` until `iat + maxAgeSeconds` has passed. */
export interface DpopProof {
  readonly jti: string
  readonly jkt: string
  readonly iat: number
}

/**
 * A DPoP proof for one request: single use, good for a few seconds.
 *
 * @see RFC 9449, section 4.2
 */
export async function createDpopProof(input: DpopProofInput): Promise<string> {
  requireSeconds('nowSeconds', input.nowSeconds)
  const { kty, crv, x, y } = input.key.publicJwk
  const claims = {
    jti: toBase64url(randomOctets(JTI_OCTETS)),
    htm: input.method,
    htu: normalizeHttpUri(input.url),
    iat: input.nowSeconds,
    ath: tokenHash(input.accessToken),
  }
  return await new CompactSign(utf8(JSON.stringify(claims)))
    .setProtectedHeader({ typ: DPOP_TYPE, alg: 'ES256', jwk: { kty, crv, x, y } })
    .sign(input.key.privateKey)
}

/**
 * Verifies that the caller holds the key that its token is bound to, for this request and now.
 *
 * Checks form, type, algorithm (ES256), the public key and its thumbprint, signature, method, URI, time, token hash
 * and the form of `jti`. **Does not check** replay: record `jti` in the transaction that does the work, and throw
 * `DPOP_REPLAYED` where it is there already.
 *
 * @throws TokenError one `DPOP_*` code for each check
 * @see RFC 9449, sections 4.3 and 7.1
 */
export async function verifyDpopProof(
  proof: string,
  expected: DpopExpectations,
): Promise<DpopProof> {
  requireSeconds('nowSeconds', expected.nowSeconds)
  requireSeconds('maxAgeSeconds', expected.maxAgeSeconds, MAX_PROOF_AGE_SECONDS)
  const [headerOctets, payload] = splitCompact(proof, 3, MAX_PROOF_CHARACTERS, CODES)
  if (headerOctets === undefined || payload === undefined) throw new TypeError('three parts')
  const jwk = parseHeader(parseJsonPart(headerOctets, 'the header', 'DPOP_MALFORMED'))
  const jkt = jwkThumbprint(jwk)
  if (!timingSafeEqual(utf8(jkt), utf8(expected.expectedJkt))) {
    throw new TokenError(
      'DPOP_KEY',
      `expected the key with thumbprint ${expected.expectedJkt}, found ${jkt}`,
    )
  }
  await verifySignature(proof, jwk, jkt)
  const claims = parseJsonPart(payload, 'the claims', 'DPOP_MALFORMED')
  requireMembers(claims, ['jti', 'htm', 'htu', 'iat', 'ath'], 'the claims', 'DPOP_MALFORMED')
  checkRequest(claims, expected)
  const iat = checkTime(claims['iat'], expected)
  checkTokenHash(claims['ath'], expected.accessToken)
  return { jti: parseJti(claims['jti']), jkt, iat }
}

/** `ath` of RFC 9449: SHA-256 of the token as it is sent. */
function tokenHash(accessToken: string): string {
  return toBase64url(createHash('sha256').update(accessToken, 'ascii').digest())
}

function parseHeader(header: JsonObject): PublicJwk {
  const { typ, alg, jwk } = header
  if (typ !== DPOP_TYPE) {
    throw new TokenError('DPOP_TYPE', `expected typ ${DPOP_TYPE}, found ${quoted(typ)}`)
  }
  requireMembers(header, ['typ', 'alg', 'jwk'], 'the header', 'DPOP_MALFORMED')
  if (alg !== 'ES256') throw new TokenError('DPOP_KEY', `expected ES256, found ${quoted(alg)}`)
  return readPublicJwk(jwk, 'DPOP_KEY')
}

/** Keys of hosts that are served at a time, by thumbprint: each signs a proof for every request of its token. */
const keys = new Recent<string, webcrypto.CryptoKey>(2048)

async function verifySignature(proof: string, jwk: PublicJwk, jkt: string): Promise<void> {
  const key = keys.get(jkt) ?? (await importPublicJwk(jwk, 'ES256', 'DPOP_KEY'))
  keys.set(jkt, key)
  try {
    await compactVerify(proof, key, { algorithms: ['ES256'] })
  } catch (cause) {
    if (!(cause instanceof errors.JOSEError)) throw cause
    throw new TokenError('DPOP_SIGNATURE', 'expected a signature by the key of the proof', {
      cause,
    })
  }
}

function checkRequest({ htm, htu }: JsonObject, expected: DpopExpectations): void {
  if (htm !== expected.method) {
    throw new TokenError('DPOP_METHOD', `expected ${expected.method}, found ${quoted(htm)}`)
  }
  if (typeof htu !== 'string' || /[?#]/.test(htu)) {
    throw new TokenError('DPOP_URI', `expected a URI without a query, found ${quoted(htu)}`)
  }
  const url = normalizeHttpUri(expected.url)
  if (normalizeHttpUri(htu) !== url) {
    throw new TokenError('DPOP_URI', `expected ${quoted(url)}, found ${quoted(htu)}`)
  }
}

function checkTime(iat: unknown, { nowSeconds, maxAgeSeconds }: DpopExpectations): number {
  if (typeof iat !== 'number' || !Number.isSafeInteger(iat)) {
    throw new TokenError('DPOP_TIME', `expected whole seconds as iat, found ${quoted(iat)}`)
  }
  if (Math.abs(nowSeconds - iat) > maxAgeSeconds) {
    throw new TokenError(
      'DPOP_TIME',
      `expected a proof made within ${maxAgeSeconds} s of ${nowSeconds}, found ${iat}`,
    )
  }
  return iat
}

function checkTokenHash(ath: unknown, accessToken: string): void {
  const expected = tokenHash(accessToken)
  if (typeof ath !== 'string' || !timingSafeEqual(utf8(ath), utf8(expected))) {
    throw new TokenError('DPOP_TOKEN_HASH', `expected ath ${expected}, found ${quoted(ath)}`)
  }
}

function parseJti(jti: unknown): string {
  if (typeof jti !== 'string' || !JTI_PATTERN.test(jti)) {
    throw new TokenError(
      'DPOP_MALFORMED',
      `expected a jti of 16 to 128 characters, found ${quoted(jti)}`,
    )
  }
  return jti
}
