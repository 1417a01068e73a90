import { createDecipheriv, type webcrypto } from 'node:crypto'
import { CompactEncrypt, compactDecrypt, errors } from 'jose'
import { utf8 } from '../core/bytes.js'
import { parseJsonPart, requireMembers, splitCompact } from './compact.js'
import { quoted, TokenError } from './errors.js'
import { importPublicJwk, importRsaSpki, type PublicJwk, readPublicJwk } from './public-key.js'

/** Largest encrypted answer, as text. */
const MAX_JWE_CHARACTERS = 256 * 1024

const CODES = { malformed: 'JWE_MALFORMED', tooLarge: 'JWE_MALFORMED' } as const
const SESSION_ALG = 'ECDH-ES'
const BINDING_ALG = 'RSA-OAEP-256'
const ENC = 'A256GCM'
const CEK_OCTETS = 32
const IV_OCTETS = 12
const TAG_OCTETS = 16
const MAX_RSA_OCTETS = 512

/**
 * Encrypts an answer to the key that a host holds in memory: compact JWE, ECDH-ES on P-256 with A256GCM.
 *
 * The answer is not signed: the TLS connection tells who sent it. `plaintext` stays the caller's, to be filled with
 * zeros.
 *
 * @throws TokenError `TOKEN_KEY_INVALID`; `JWE_MALFORMED` where the result would be too large
 * @see RFC 7518, sections 4.6 and 5.3
 */
export async function encryptToSession(jwk: PublicJwk, plaintext: Uint8Array): Promise<string> {
  const checked = readPublicJwk(jwk, 'TOKEN_KEY_INVALID')
  const key = await importPublicJwk(checked, SESSION_ALG, 'TOKEN_KEY_INVALID')
  return bounded(
    await new CompactEncrypt(plaintext)
      .setProtectedHeader({ alg: SESSION_ALG, enc: ENC })
      .encrypt(key),
  )
}

/**
 * Opens an answer of `encryptToSession`. The result is secret: the caller fills it with zeros.
 *
 * @throws TokenError `JWE_MALFORMED`, `JWE_ALGORITHM`, `JWE_DECRYPT`
 */
export async function decryptSession(
  jwe: string,
  privateKey: webcrypto.CryptoKey,
): Promise<Uint8Array> {
  const { header, encryptedKey } = splitJwe(jwe)
  requireAlgorithms(header, SESSION_ALG, ['epk'])
  await importPublicJwk(readPublicJwk(header['epk'], 'JWE_MALFORMED'), SESSION_ALG, 'JWE_MALFORMED')
  if (encryptedKey.length > 0) {
    throw new TokenError('JWE_MALFORMED', `expected no encrypted key with ${SESSION_ALG}`)
  }
  try {
    const { plaintext } = await compactDecrypt(jwe, privateKey, {
      keyManagementAlgorithms: [SESSION_ALG],
      contentEncryptionAlgorithms: [ENC],
    })
    return plaintext
  } catch (cause) {
    if (!(cause instanceof errors.JOSEError)) throw cause
    throw cannotDecrypt(cause)
  }
}

/**
 * Encrypts an answer to an RSA key in the TPM of a host: compact JWE, RSA-OAEP-256 (no label) with A256GCM.
 *
 * @param spki SubjectPublicKeyInfo, DER. Whether it belongs to a key tied to PCRs is the verifier's to say.
 * @throws TokenError `TOKEN_KEY_INVALID`; `JWE_MALFORMED` where the result would be too large
 * @see RFC 7518, sections 4.3 and 5.3
 */
export async function encryptToBindingKey(
  spki: Uint8Array,
  plaintext: Uint8Array,
): Promise<string> {
  return bounded(
    await new CompactEncrypt(plaintext)
      .setProtectedHeader({ alg: BINDING_ALG, enc: ENC })
      .encrypt(importRsaSpki(spki)),
  )
}

/**
 * Opens an answer of `encryptToBindingKey`, where the caller (a TPM) recovers the content key.
 *
 * What `unwrap` throws passes through: a refusal of the TPM keeps its name. The content key that it returns is filled
 * with zeros here. The result is secret: the caller fills it with zeros.
 *
 * @param unwrap RSAES-OAEP decryption with SHA-256 and an empty label; gets 256 to 512 octets
 * @throws TokenError `JWE_MALFORMED`, `JWE_ALGORITHM`, `JWE_DECRYPT`
 */
export async function decryptWithContentKey(
  jwe: string,
  unwrap: (encryptedKey: Uint8Array) => Promise<Uint8Array>,
): Promise<Uint8Array> {
  const parts = splitJwe(jwe)
  requireAlgorithms(parts.header, BINDING_ALG, [])
  const { length } = parts.encryptedKey
  if (length < 256 || length > MAX_RSA_OCTETS) {
    throw new TokenError(
      'JWE_MALFORMED',
      `expected an encrypted key of 256 octets, found ${length}`,
    )
  }
  const contentKey = await unwrap(parts.encryptedKey)
  try {
    return decryptContent(parts, contentKey)
  } finally {
    contentKey.fill(0)
  }
}

interface JweParts {
  readonly header: Readonly<Record<string, unknown>>
  /** The header as it was sent: additional authenticated data. */
  readonly headerText: string
  readonly encryptedKey: Uint8Array
  readonly iv: Uint8Array
  readonly ciphertext: Uint8Array
  readonly tag: Uint8Array
}

function splitJwe(jwe: string): JweParts {
  const [headerOctets, encryptedKey, iv, ciphertext, tag] = splitCompact(
    jwe,
    5,
    MAX_JWE_CHARACTERS,
    CODES,
  )
  if (!headerOctets || !encryptedKey || !iv || !ciphertext || !tag)
    throw new TypeError('five parts')
  if (iv.length !== IV_OCTETS || tag.length !== TAG_OCTETS) {
    throw new TokenError(
      'JWE_MALFORMED',
      `expected ${IV_OCTETS} and ${TAG_OCTETS} octets of IV and tag, found ${iv.length} and ${tag.length}`,
    )
  }
  const header = parseJsonPart(headerOctets, 'the header', 'JWE_MALFORMED')
  const headerText = jwe.slice(0, jwe.indexOf('.'))
  return { header, headerText, encryptedKey, iv, ciphertext, tag }
}

function requireAlgorithms(
  header: JweParts['header'],
  alg: string,
  others: readonly string[],
): void {
  if (header['alg'] !== alg || header['enc'] !== ENC) {
    throw new TokenError(
      'JWE_ALGORITHM',
      `expected ${alg} and ${ENC}, found ${quoted(header['alg'])} and ${quoted(header['enc'])}`,
    )
  }
  requireMembers(header, ['alg', 'enc', ...others], 'the header', 'JWE_MALFORMED')
}

function decryptContent(parts: JweParts, contentKey: Uint8Array): Uint8Array {
  if (contentKey.length !== CEK_OCTETS) {
    throw new TokenError(
      'JWE_DECRYPT',
      `expected a content key of ${CEK_OCTETS} octets, found ${contentKey.length}`,
    )
  }
  const decipher = createDecipheriv('aes-256-gcm', contentKey, parts.iv, {
    authTagLength: TAG_OCTETS,
  })
  decipher.setAAD(utf8(parts.headerText))
  decipher.setAuthTag(parts.tag)
  const opened = decipher.update(parts.ciphertext)
  try {
    decipher.final()
    return new Uint8Array(opened)
  } catch (cause) {
    throw cannotDecrypt(cause)
  } finally {
    opened.fill(0)
  }
}

function cannotDecrypt(cause: unknown): TokenError {
  return new TokenError('JWE_DECRYPT', 'expected an answer encrypted to this key', { cause })
}

function bounded(jwe: string): string {
  if (jwe.length > MAX_JWE_CHARACTERS) {
    throw new TokenError('JWE_MALFORMED', `expected at most ${MAX_JWE_CHARACTERS} characters`)
  }
  return jwe
}
