import { constants, verify } from 'node:crypto'
import { concat } from '../core/bytes.js'
import { DecodeError, isPlatformError } from '../core/errors.js'
import { type Finding, failed, passed } from '../core/finding.js'
import { ByteReader, ByteWriter } from '../core/reader.js'
import { HASH_ALGORITHMS, type HashName, hashById, TPM_ALG } from './algorithms.js'
import { ECC_CURVES, leftPadded, type PublicArea, publicKeyOf } from './public-area.js'
import { encodeSized, readSized } from './sized.js'

/** TPMT_SIGNATURE of the schemes that Sigillo accepts. */
export type Signature =
  | {
      readonly kind: 'rsassa' | 'rsapss'
      readonly hash: HashName
      readonly signature: Uint8Array
    }
  | {
      readonly kind: 'ecdsa'
      readonly hash: HashName
      readonly r: Uint8Array
      readonly s: Uint8Array
    }

const MAX_RSA_OCTETS = 512
const MAX_ECC_OCTETS = 66

/**
 * Reads a TPMT_SIGNATURE, all of it.
 *
 * @throws DecodeError
 * @see TPM 2.0 Library, Part 2, clause 11.3.4
 */
export function parseSignature(octets: Uint8Array): Signature {
  const reader = new ByteReader(octets, 'big')
  const algorithm = reader.u16()
  const hash = hashById(reader.u16())?.name
  if (!hash) throw new DecodeError('DECODE_VALUE', 2, 'expected a hash algorithm')
  const signature = readSignature(reader, algorithm, hash)
  reader.end('TPMT_SIGNATURE')
  return signature
}

function readSignature(reader: ByteReader, algorithm: number, hash: HashName): Signature {
  switch (algorithm) {
    case TPM_ALG.RSASSA:
    case TPM_ALG.RSAPSS:
      return {
        kind: algorithm === TPM_ALG.RSASSA ? 'rsassa' : 'rsapss',
        hash,
        signature: readSized(reader, 'signature', MAX_RSA_OCTETS),
      }
    case TPM_ALG.ECDSA:
      return {
        kind: 'ecdsa',
        hash,
        r: readSized(reader, 'r', MAX_ECC_OCTETS),
        s: readSized(reader, 's', MAX_ECC_OCTETS),
      }
    default:
      throw new DecodeError(
        'DECODE_VALUE',
        0,
        `expected RSASSA, RSAPSS or ECDSA, found 0x${algorithm.toString(16)}`,
      )
  }
}

/** The inverse of `parseSignature`. */
export function encodeSignature(signature: Signature): Uint8Array {
  const hash = HASH_ALGORITHMS[signature.hash].id
  const writer = new ByteWriter('big')
  if (signature.kind === 'ecdsa') {
    return writer
      .u16(TPM_ALG.ECDSA)
      .u16(hash)
      .put(encodeSized(signature.r))
      .put(encodeSized(signature.s))
      .finish()
  }
  return writer
    .u16(signature.kind === 'rsassa' ? TPM_ALG.RSASSA : TPM_ALG.RSAPSS)
    .u16(hash)
    .put(encodeSized(signature.signature))
    .finish()
}

/** What a signature is on; the prefix of its check ids. */
export type SignedSubject = 'quote' | 'certify'

const CODES = {
  quote: { hash: 'QUOTE_HASH_WEAK', scheme: 'QUOTE_SCHEME', signature: 'QUOTE_SIGNATURE' },
  certify: { hash: 'CERTIFY_HASH_WEAK', scheme: 'CERTIFY_SCHEME', signature: 'CERTIFY_SIGNATURE' },
} as const

/**
 * Checks a signature over `data` by the key and by *its* scheme: a message never chooses how it is verified.
 *
 * A key that is no sound public key is a failed signature, not an exception. Does not check the attributes of the key.
 *
 * @see TPM 2.0 Library, Part 1, annexes B.6 (RSASSA), B.7 (RSAPSS) and C.4.2 (ECDSA)
 */
export function verifySignature(
  subject: SignedSubject,
  key: PublicArea,
  signature: Signature,
  data: Uint8Array,
): readonly Finding[] {
  const scheme = verifyScheme(subject, key, signature)
  return scheme.ok ? [scheme, verifyValue(subject, key, signature, data)] : [scheme]
}

function verifyScheme(
  subject: SignedSubject,
  { scheme, type }: PublicArea,
  signature: Signature,
): Finding {
  const codes = CODES[subject]
  const check = `${subject}.scheme`
  const found = `${signature.kind} with ${signature.hash}`
  if (signature.hash === 'sha1') {
    return failed(check, codes.hash, 'SHA-256 or stronger', found)
  }
  const keyType = signature.kind === 'ecdsa' ? 'ecc' : 'rsa'
  const fits = type === keyType && scheme.kind === signature.kind && scheme.hash === signature.hash
  if (fits) return passed(check, found)
  const expected =
    scheme.kind === 'null' ? 'a key with a scheme' : `${scheme.kind} with ${scheme.hash}`
  return failed(check, codes.scheme, expected, found)
}

function verifyValue(
  subject: SignedSubject,
  key: PublicArea,
  signature: Signature,
  data: Uint8Array,
): Finding {
  const check = `${subject}.signature`
  try {
    return isValid(key, signature, data)
      ? passed(check)
      : failed(check, CODES[subject].signature, 'a signature by the attestation key', 'another')
  } catch (error) {
    if (!isPlatformError(error)) throw error
    return failed(check, error.code, 'a sound public key', error.message)
  }
}

function isValid(area: PublicArea, signature: Signature, data: Uint8Array): boolean {
  const key = publicKeyOf(area)
  const { hash } = signature
  if (signature.kind === 'ecdsa') {
    const octets = area.type === 'ecc' ? ECC_CURVES[area.curve].octets : 0
    const { r, s } = signature
    if (r.length > octets || s.length > octets) return false
    // OpenSSL refuses r and s outside 1 to n - 1
    const ieee = concat(leftPadded(r, octets), leftPadded(s, octets))
    return verify(hash, data, { key, dsaEncoding: 'ieee-p1363' }, ieee)
  }
  if (signature.kind === 'rsassa') {
    return verify(hash, data, { key, padding: constants.RSA_PKCS1_PADDING }, signature.signature)
  }
  // FIPS TPMs take a salt as long as the digest, older ones the longest that fits: these two, no others
  const { digestOctets } = HASH_ALGORITHMS[hash]
  const modulusOctets = area.type === 'rsa' ? area.modulus.length : 0
  return [digestOctets, modulusOctets - digestOctets - 2].some((saltLength) => {
    const padding = constants.RSA_PKCS1_PSS_PADDING
    return verify(hash, data, { key, padding, saltLength }, signature.signature)
  })
}
