import { constants, createHash, type KeyObject, publicDecrypt } from 'node:crypto'
import { concat, equalBytes, fromHex } from '../core/bytes.js'
import { isPlatformError } from '../core/errors.js'
import { ByteReader } from '../core/reader.js'
import type { HashName } from '../tpm/index.js'
import { isEcdsaOverDigest } from './ecdsa-digest.js'
import type { ImaDigest, ImaEntry } from './entry.js'
import { keyIdsOf } from './signing-key.js'

/** Kinds of `security.ima`. @see Linux, security/integrity/integrity.h, enum evm_ima_xattr_type */
const XATTR_DIGSIG = 0x03
const XATTR_VERITY_DIGSIG = 0x06
const KEY_ID_OCTETS = 4
const MAX_SIGNATURE_OCTETS = 1024

/** DigestInfo of PKCS #1 before the digest; the number is the kernel's of the algorithm. @see RFC 8017, section 9.2 */
const ALGORITHMS: Readonly<
  Record<number, { readonly name: HashName; readonly prefix: Uint8Array }>
> = {
  4: { name: 'sha256', prefix: fromHex('3031300d060960864801650304020105000420') },
  5: { name: 'sha384', prefix: fromHex('3041300d060960864801650304020205000430') },
  6: { name: 'sha512', prefix: fromHex('3051300d060960864801650304020305000440') },
}

/** What the signature of a file is worth. */
export type SignatureVerdict =
  | 'valid'
  | 'none'
  /** It names another key than those. */
  | 'unknown-key'
  /** It is not of this file, or of a kind that is not accepted. */
  | 'invalid'

/**
 * Verifies the signature of a file: `security.ima`, version 2 or 3, RSA PKCS #1 v1.5 or ECDSA.
 *
 * It is over the digest of the file, which the entry holds and PCR 10 proves. As the kernel does, it is tried with the key
 * that it names and no other; a host cannot make a verifier try them all. Version 1, SHA-1, portable EVM signatures and
 * appended ones (`ima-modsig`) are never accepted.
 */
export function verifyFileSignature(
  entry: Pick<ImaEntry, 'digest' | 'signature'>,
  keys: readonly KeyObject[],
): SignatureVerdict {
  if (!entry.signature) return 'none'
  const signature = readSignature(entry.signature)
  const algorithm = signature && ALGORITHMS[signature.algorithm]
  const digest = algorithm && signedDigest(entry.digest, signature, algorithm.name)
  if (!digest) return 'invalid'
  const { keyId, octets } = signature
  const named = keys.filter((key) => keyIdsOf(key).some((id) => equalBytes(id, keyId)))
  if (named.length === 0) return 'unknown-key'
  const isValid = named.some((key) =>
    key.asymmetricKeyType === 'rsa'
      ? isRsaOverDigest(key, concat(algorithm.prefix, digest), octets)
      : isEcdsaOverDigest(key, digest, octets),
  )
  return isValid ? 'valid' : 'invalid'
}

/**
 * What a signature is over, or nothing where it cannot be of this digest. Version 2 signs the digest itself; version 3
 * what `struct ima_file_id` says: kind of signature, algorithm, digest.
 *
 * @see Linux, security/integrity/digsig_asymmetric.c, calc_file_id_hash
 */
function signedDigest(
  { kind, algorithm: found, digest }: ImaDigest,
  { type, version, algorithm }: FileSignature,
  name: HashName,
): Uint8Array | undefined {
  const expected = kind === 'verity' ? XATTR_VERITY_DIGSIG : XATTR_DIGSIG
  if (found !== name || type !== expected) return undefined
  if (version === 2) return kind === 'file' ? digest : undefined
  if (version !== 3) return undefined
  return createHash(name).update(Uint8Array.of(type, algorithm)).update(digest).digest()
}

function isRsaOverDigest(key: KeyObject, digestInfo: Uint8Array, octets: Uint8Array): boolean {
  try {
    const padding = constants.RSA_PKCS1_PADDING
    return equalBytes(publicDecrypt({ key, padding }, octets), digestInfo)
  } catch {
    return false // the octets are no signature of this key
  }
}

interface FileSignature {
  readonly type: number
  readonly version: number
  readonly algorithm: number
  readonly keyId: Uint8Array
  readonly octets: Uint8Array
}

/** @see Linux, security/integrity/integrity.h, struct signature_v2_hdr */
function readSignature(xattr: Uint8Array): FileSignature | undefined {
  try {
    const reader = new ByteReader(xattr, 'big')
    const [type, version, algorithm] = [reader.u8(), reader.u8(), reader.u8()]
    const keyId = reader.take(KEY_ID_OCTETS)
    const size = reader.u16()
    if (size > MAX_SIGNATURE_OCTETS) return undefined
    const octets = reader.take(size)
    reader.end('the signature')
    return { type, version, algorithm, keyId, octets }
  } catch (error) {
    if (isPlatformError(error)) return undefined
    throw error
  }
}
