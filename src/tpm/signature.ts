import { constants, createVerify, verify } from 'node:crypto'
import { concat, view } from '../core/bytes.js'
import { DecodeError } from '../core/errors.js'
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

/**
 * Checks a signature over `data` by the key and by *its* scheme: a message never chooses how it is verified.
 *
 * @param subject prefix of the check ids: `quote` or `certify`
 */
export function verifySignature(
  subject: 'quote' | 'certify',
  key: PublicArea,
  signature: Signature,
  data: Uint8Array,
): readonly Finding[] {
  const code = subject === 'quote' ? 'QUOTE_SIGNATURE' : 'CERTIFY_SIGNATURE'
  const scheme = verifyScheme(subject, key, signature)
  if (!scheme.ok) return [scheme]
  const valid = isValid(key, signature, data)
  return [
    scheme,
    valid
      ? passed(`${subject}.signature`)
      : failed(`${subject}.signature`, code, 'a signature by the attestation key', 'another'),
  ]
}

function verifyScheme(
  subject: 'quote' | 'certify',
  { scheme, type }: PublicArea,
  signature: Signature,
): Finding {
  const found = `${signature.kind} with ${signature.hash}`
  const check = `${subject}.scheme`
  if (signature.hash === 'sha1') {
    return failed(check, 'QUOTE_HASH_WEAK', 'SHA-256 or stronger', found)
  }
  const fits = signature.kind === 'ecdsa' ? type === 'ecc' : type === 'rsa'
  if (
    scheme.kind === 'null' ||
    !fits ||
    scheme.kind !== signature.kind ||
    scheme.hash !== signature.hash
  ) {
    const expected =
      scheme.kind === 'null' ? 'a key with a scheme' : `${scheme.kind} with ${scheme.hash}`
    return failed(check, 'QUOTE_SCHEME', expected, found)
  }
  return passed(check, found)
}

function isValid(key: PublicArea, signature: Signature, data: Uint8Array): boolean {
  const publicKey = publicKeyOf(key)
  const { hash } = signature
  if (signature.kind === 'ecdsa') {
    if (key.type !== 'ecc') return false
    const { octets } = ECC_CURVES[key.curve]
    const { r, s } = signature
    if (r.length > octets || s.length > octets) return false
    const ieee = concat(leftPadded(r, octets), leftPadded(s, octets))
    return verify(hash, data, { key: publicKey, dsaEncoding: 'ieee-p1363' }, ieee)
  }
  if (signature.kind === 'rsassa') {
    const options = { key: publicKey, padding: constants.RSA_PKCS1_PADDING }
    return verify(hash, data, options, signature.signature)
  }
  // FIPS TPMs take a salt as long as the digest, older ones the longest that fits: these two, no others.
  const { digestOctets } = HASH_ALGORITHMS[hash]
  const longest = signature.signature.length - digestOctets - 2
  return [digestOctets, longest].some((saltLength) =>
    createVerify(hash)
      .update(data)
      .verify(
        { key: publicKey, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength },
        view(signature.signature),
      ),
  )
}
