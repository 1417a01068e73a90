import { createHash, createPublicKey, type KeyObject, X509Certificate } from 'node:crypto'
import { concat, fromBase64url, fromHex } from '../core/bytes.js'
import { DecodeError, messageOf } from '../core/errors.js'

const MIN_RSA_BITS = 2048
const CURVES: readonly string[] = ['prime256v1', 'secp384r1', 'secp521r1']
const KEY_ID_OCTETS = 4
const CERTIFICATE = '-----BEGIN CERTIFICATE-----'
const UNCOMPRESSED = Uint8Array.of(4)

/**
 * A key that files may be signed with: SubjectPublicKeyInfo or certificate, PEM. RSA of at least 2048 bits, or a key of
 * P-256, P-384 or P-521. Of a certificate nothing but the key and its identifier is looked at.
 *
 * @throws DecodeError `DECODE_VALUE`
 */
export function readImaSigner(pem: string): KeyObject {
  try {
    const key = createPublicKey(pem)
    if (isStrong(key)) {
      const identifier = pem.includes(CERTIFICATE) && identifierOf(new X509Certificate(pem))
      if (identifier) keyIds.set(key, [...keyIdsOf(key), lastOctets(identifier)])
      return key
    }
  } catch (cause) {
    throw new DecodeError('DECODE_VALUE', 0, `expected a public key: ${messageOf(cause)}`, {
      cause,
    })
  }
  const expected = 'an RSA key of at least 2048 bits or a key of P-256, P-384 or P-521'
  throw new DecodeError('DECODE_VALUE', 0, `expected ${expected}`)
}

function isStrong({ asymmetricKeyType, asymmetricKeyDetails: details }: KeyObject): boolean {
  if (asymmetricKeyType === 'rsa') return (details?.modulusLength ?? 0) >= MIN_RSA_BITS
  return asymmetricKeyType === 'ec' && CURVES.includes(details?.namedCurve ?? '')
}

const keyIds = new WeakMap<KeyObject, readonly Uint8Array[]>()

/**
 * The four octets by which signatures name a key: the last of its identifier, which is the SHA-1 digest of the public key,
 * or what its certificate says where it was read from one.
 *
 * @see RFC 5280, section 4.2.1.2, method 1; ima-evm-utils, calc_keyid_v2
 */
export function keyIdsOf(key: KeyObject): readonly Uint8Array[] {
  const known = keyIds.get(key)
  if (known) return known
  const ids = [lastOctets(createHash('sha1').update(publicKeyOctets(key)).digest())]
  keyIds.set(key, ids)
  return ids
}

/** @see RFC 5280, section 4.2.1.2: OBJECT IDENTIFIER, then an OCTET STRING in an OCTET STRING */
const SUBJECT_KEY_IDENTIFIER = fromHex('0603551d0e')
const TAG_OCTET_STRING = 0x04

/** Looked for and not parsed: the certificate is of who made the policy, and its identifier is no more than a name. */
function identifierOf(certificate: X509Certificate): Uint8Array | undefined {
  const { raw } = certificate
  const at = raw.indexOf(SUBJECT_KEY_IDENTIFIER)
  if (at < 0) return undefined
  const [tag, size = 0, innerTag, innerSize = 0] = raw.subarray(at + SUBJECT_KEY_IDENTIFIER.length)
  const start = at + SUBJECT_KEY_IDENTIFIER.length + 4
  const isNested = tag === TAG_OCTET_STRING && innerTag === TAG_OCTET_STRING
  if (!isNested || size !== innerSize + 2 || innerSize < KEY_ID_OCTETS) return undefined
  return raw.subarray(start, start + innerSize)
}

function lastOctets(octets: Uint8Array): Uint8Array {
  return new Uint8Array(octets.subarray(-KEY_ID_OCTETS))
}

function publicKeyOctets(key: KeyObject): Uint8Array {
  if (key.asymmetricKeyType === 'rsa') return key.export({ type: 'pkcs1', format: 'der' })
  const { x = '', y = '' } = key.export({ format: 'jwk' })
  return concat(UNCOMPRESSED, fromBase64url(x), fromBase64url(y))
}
