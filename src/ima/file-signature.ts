import { constants, createPublicKey, type KeyObject, publicDecrypt } from 'node:crypto'
import { concat, equalBytes, fromHex } from '../core/bytes.js'
import { DecodeError, isPlatformError, messageOf } from '../core/errors.js'
import { ByteReader } from '../core/reader.js'
import type { ImaEntry } from './entry.js'

/** @see Linux, security/integrity/integrity.h: EVM_IMA_XATTR_DIGSIG, struct signature_v2_hdr */
const XATTR_DIGSIG = 0x03
const VERSION_2 = 0x02
const MAX_SIGNATURE_OCTETS = 1024

/** DigestInfo of PKCS #1 before the digest; the number is the kernel's of the algorithm. @see RFC 8017, section 9.2 */
const ALGORITHMS: Readonly<Record<number, { readonly name: string; readonly prefix: Uint8Array }>> =
  {
    4: { name: 'sha256', prefix: fromHex('3031300d060960864801650304020105000420') },
    5: { name: 'sha384', prefix: fromHex('3041300d060960864801650304020205000430') },
    6: { name: 'sha512', prefix: fromHex('3051300d060960864801650304020305000440') },
  }

/**
 * A key that files may be signed with: SubjectPublicKeyInfo or certificate, PEM. RSA of at least 2048 bits.
 *
 * @throws DecodeError `DECODE_VALUE`
 */
export function readImaSigner(pem: string): KeyObject {
  try {
    const key = createPublicKey(pem)
    const bits = key.asymmetricKeyDetails?.modulusLength ?? 0
    if (key.asymmetricKeyType === 'rsa' && bits >= 2048) return key
  } catch (cause) {
    throw new DecodeError('DECODE_VALUE', 0, `expected a public key: ${messageOf(cause)}`, {
      cause,
    })
  }
  throw new DecodeError('DECODE_VALUE', 0, 'expected an RSA key of at least 2048 bits')
}

/**
 * Whether one of these keys signed the file of an entry (`security.ima`, version 2, RSA PKCS #1 v1.5).
 *
 * The signature is over the digest of the file, which the entry holds and PCR 10 proves. SHA-1 and ECDSA signatures are
 * never accepted. Which key the signature names is not looked at: all are tried.
 */
export function isSignedBy(entry: ImaEntry, keys: readonly KeyObject[]): boolean {
  const signature = entry.signature && readSignature(entry.signature)
  const algorithm = signature && ALGORITHMS[signature.algorithm]
  if (!algorithm || algorithm.name !== entry.digest.algorithm) return false
  const expected = concat(algorithm.prefix, entry.digest.digest)
  return keys.some((key) => {
    try {
      const padding = constants.RSA_PKCS1_PADDING
      return equalBytes(publicDecrypt({ key, padding }, signature.octets), expected)
    } catch {
      return false // the octets are no signature of this key
    }
  })
}

function readSignature(
  xattr: Uint8Array,
): { readonly algorithm: number; readonly octets: Uint8Array } | undefined {
  try {
    const reader = new ByteReader(xattr, 'big')
    if (reader.u8() !== XATTR_DIGSIG || reader.u8() !== VERSION_2) return undefined
    const algorithm = reader.u8()
    reader.take(4)
    const size = reader.u16()
    if (size > MAX_SIGNATURE_OCTETS) return undefined
    const octets = reader.take(size)
    reader.end('the signature')
    return { algorithm, octets }
  } catch (error) {
    if (isPlatformError(error)) return undefined
    throw error
  }
}
