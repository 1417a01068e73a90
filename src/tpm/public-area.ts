import { createPublicKey, type KeyObject } from 'node:crypto'
import { concat, toBase64url } from '../core/bytes.js'
import { digestOf } from '../core/digest.js'
import { DecodeError, messageOf, PlatformError } from '../core/errors.js'
import { ByteReader, ByteWriter } from '../core/reader.js'
import { HASH_ALGORITHMS, type HashName, hashById, TPM_ALG } from './algorithms.js'
import { encodeSized, parseSized, readSized } from './sized.js'

/** Attributes of an object. @see TPM 2.0 Library, Part 2, clause 8.3.2 (TPMA_OBJECT) */
const ATTRIBUTE_BITS = {
  fixedTPM: 1,
  stClear: 2,
  fixedParent: 4,
  sensitiveDataOrigin: 5,
  userWithAuth: 6,
  adminWithPolicy: 7,
  noDA: 10,
  encryptedDuplication: 11,
  restricted: 16,
  decrypt: 17,
  sign: 18,
  x509sign: 19,
} as const

export type ObjectAttribute = keyof typeof ATTRIBUTE_BITS
export type ObjectAttributes = Readonly<Record<ObjectAttribute, boolean>>

const KNOWN_BITS = Object.values(ATTRIBUTE_BITS).reduce((bits, bit) => bits | (1 << bit), 0)

/** @see TPM 2.0 Library, Part 2, clause 6.4 (TPM_ECC_CURVE) */
export const ECC_CURVES = {
  'P-256': { id: 0x0003, octets: 32 },
  'P-384': { id: 0x0004, octets: 48 },
  'P-521': { id: 0x0005, octets: 66 },
} as const
export type EccCurve = keyof typeof ECC_CURVES

/** Signing or encryption scheme of a key; `null` where each use names its own. */
export type KeyScheme =
  | { readonly kind: 'null' }
  | { readonly kind: 'rsassa' | 'rsapss' | 'ecdsa' | 'oaep'; readonly hash: HashName }

/** Symmetric algorithm of a storage key: AES in CFB mode. */
export interface SymmetricCipher {
  readonly keyBits: 128 | 192 | 256
}

interface PublicAreaBase {
  readonly nameAlg: HashName
  readonly attributes: ObjectAttributes
  readonly authPolicy: Uint8Array
  /** Present for storage keys alone. */
  readonly symmetric?: SymmetricCipher
  readonly scheme: KeyScheme
}

/** TPMT_PUBLIC of an RSA or ECC key. Other kinds of object have no use here and are refused. */
export type PublicArea =
  | (PublicAreaBase & {
      readonly type: 'rsa'
      readonly keyBits: number
      /** 0 stands for 65537. */
      readonly exponent: number
      readonly modulus: Uint8Array
    })
  | (PublicAreaBase & {
      readonly type: 'ecc'
      readonly curve: EccCurve
      readonly x: Uint8Array
      readonly y: Uint8Array
    })

const MAX_DIGEST_OCTETS = 64
const MAX_MODULUS_OCTETS = 512
const MAX_COORDINATE_OCTETS = 66
const MAX_PUBLIC_OCTETS = 1024

/**
 * Reads a TPMT_PUBLIC, all of it.
 *
 * Does not check that the key is a good one: `verifyAttestationKey` and its like do.
 *
 * @throws DecodeError
 * @see TPM 2.0 Library, Part 2, clause 12.2.4
 */
export function parsePublicArea(octets: Uint8Array): PublicArea {
  const reader = new ByteReader(octets, 'big')
  const type = reader.u16()
  const nameAlg = readHash(reader, 'nameAlg')
  const attributes = readAttributes(reader)
  const authPolicy = readSized(reader, 'authPolicy', MAX_DIGEST_OCTETS)
  const base = { nameAlg, attributes, authPolicy }
  switch (type) {
    case TPM_ALG.RSA: {
      const symmetric = readSymmetric(reader)
      const scheme = readScheme(reader)
      const keyBits = reader.u16()
      const exponent = reader.u32()
      const modulus = readSized(reader, 'modulus', MAX_MODULUS_OCTETS)
      reader.end('TPMT_PUBLIC')
      return { ...base, ...symmetric, type: 'rsa', scheme, keyBits, exponent, modulus }
    }
    case TPM_ALG.ECC: {
      const symmetric = readSymmetric(reader)
      const scheme = readScheme(reader)
      const curve = readCurve(reader)
      requireNull(reader, 'the key derivation scheme')
      const x = readSized(reader, 'x', MAX_COORDINATE_OCTETS)
      const y = readSized(reader, 'y', MAX_COORDINATE_OCTETS)
      reader.end('TPMT_PUBLIC')
      return { ...base, ...symmetric, type: 'ecc', scheme, curve, x, y }
    }
    default:
      throw unexpected(reader, 'an RSA or ECC key', type)
  }
}

/** The inverse of `parsePublicArea`. */
export function encodePublicArea(area: PublicArea): Uint8Array {
  const writer = new ByteWriter('big')
    .u16(area.type === 'rsa' ? TPM_ALG.RSA : TPM_ALG.ECC)
    .u16(HASH_ALGORITHMS[area.nameAlg].id)
    .u32(encodeAttributes(area.attributes))
    .put(encodeSized(area.authPolicy))
  if (area.symmetric) writer.u16(TPM_ALG.AES).u16(area.symmetric.keyBits).u16(TPM_ALG.CFB)
  else writer.u16(TPM_ALG.NULL)
  writeScheme(writer, area.scheme)
  if (area.type === 'rsa') {
    return writer.u16(area.keyBits).u32(area.exponent).put(encodeSized(area.modulus)).finish()
  }
  return writer
    .u16(ECC_CURVES[area.curve].id)
    .u16(TPM_ALG.NULL)
    .put(encodeSized(area.x))
    .put(encodeSized(area.y))
    .finish()
}

/** Reads a TPM2B_PUBLIC. */
export function parseTpm2bPublic(octets: Uint8Array): PublicArea {
  return parsePublicArea(parseSized(octets, 'TPM2B_PUBLIC', MAX_PUBLIC_OCTETS))
}

export function encodeTpm2bPublic(area: PublicArea): Uint8Array {
  return encodeSized(encodePublicArea(area))
}

/**
 * The name of an object: its nameAlg, then the digest of its public area.
 *
 * @param publicArea parsed, or the octets of a TPMT_PUBLIC; throws `DecodeError` where these cannot be read
 * @see TPM 2.0 Library, Part 1, clause 16 (Names)
 */
export function nameOf(publicArea: PublicArea | Uint8Array): Uint8Array {
  const area = publicArea instanceof Uint8Array ? parsePublicArea(publicArea) : publicArea
  const known = names.get(area)
  if (known) return known.slice()
  const { id, name } = HASH_ALGORITHMS[area.nameAlg]
  const digest = digestOf(name, encodePublicArea(area))
  const made = concat(new ByteWriter('big').u16(id).finish(), digest)
  names.set(area, made)
  return made.slice()
}

/** One area is asked for its name by several checks. */
const names = new WeakMap<PublicArea, Uint8Array>()

/** Sizes of RSA keys that are accepted. */
const RSA_KEY_BITS: readonly number[] = [2048, 3072, 4096]
/** 0 stands for 65537. @see TPM 2.0 Library, Part 2, clause 12.2.3.5 (TPMS_RSA_PARMS) */
const RSA_EXPONENTS: readonly number[] = [0, 65537]

/**
 * The key as node:crypto has it: RSA of 2048, 3072 or 4096 bits with exponent 65537, or a point on its curve.
 *
 * Does not look for weak moduli: `verifyAttestationKey` and its like do.
 *
 * @throws PlatformError `TPM_KEY_WEAK` for another size or exponent, `TPM_KEY_INVALID` for a point that is not on its
 * curve or a modulus of another length than said
 */
export function publicKeyOf(area: PublicArea): KeyObject {
  const known = keys.get(area)
  if (known) return known
  if (area.type === 'rsa') requireRsa(area)
  try {
    const key = createPublicKey({ key: jwkOf(area), format: 'jwk' })
    keys.set(area, key)
    return key
  } catch (cause) {
    throw new PlatformError('TPM_KEY_INVALID', `expected a valid public key: ${messageOf(cause)}`, {
      cause,
    })
  }
}

/**
 * Checks what `publicKeyOf` checks, of RSA without making the key: that costs as much as a verification.
 *
 * @throws PlatformError as `publicKeyOf`
 */
export function requirePublicKey(area: PublicArea): void {
  if (area.type === 'rsa') requireRsa(area)
  else publicKeyOf(area)
}

/** Making a key costs as much as verifying with it, and one area is asked for several times. */
const keys = new WeakMap<PublicArea, KeyObject>()

const EXPONENT_65537 = toBase64url(Uint8Array.of(1, 0, 1))

function requireRsa({ keyBits, exponent, modulus }: PublicArea & { readonly type: 'rsa' }): void {
  if (!RSA_KEY_BITS.includes(keyBits) || !RSA_EXPONENTS.includes(exponent)) {
    throw new PlatformError(
      'TPM_KEY_WEAK',
      `expected RSA of ${RSA_KEY_BITS.join(', ')} bits with exponent 65537, found ${keyBits} bits with ${exponent}`,
    )
  }
  if (modulus.length * 8 !== keyBits || ((modulus[0] ?? 0) & 0x80) === 0) {
    throw new PlatformError('TPM_KEY_INVALID', `expected a modulus of ${keyBits} bits`)
  }
}

function jwkOf(area: PublicArea) {
  if (area.type === 'ecc') {
    const { octets } = ECC_CURVES[area.curve]
    const x = toBase64url(leftPadded(area.x, octets))
    const y = toBase64url(leftPadded(area.y, octets))
    return { kty: 'EC', crv: area.curve, x, y }
  }
  return { kty: 'RSA', n: toBase64url(area.modulus), e: EXPONENT_65537 }
}

/** The octets with zeros before them; throws `TypeError` where there are too many. TPMs may leave out leading zeros. */
export function leftPadded(octets: Uint8Array, length: number): Uint8Array {
  if (octets.length > length) throw new TypeError(`at most ${length} octets`)
  return concat(new Uint8Array(length - octets.length), octets)
}

function readHash(reader: ByteReader, what: string): HashName {
  const id = reader.u16()
  const hash = hashById(id)
  if (!hash) throw unexpected(reader, `a hash algorithm as ${what}`, id)
  return hash.name
}

function readAttributes(reader: ByteReader): ObjectAttributes {
  const bits = reader.u32()
  if ((bits & ~KNOWN_BITS) !== 0) throw unexpected(reader, 'no reserved attributes', bits)
  return attributesOf((name) => ((bits >>> ATTRIBUTE_BITS[name]) & 1) === 1)
}

/** TPMA_OBJECT. */
export function encodeAttributes(attributes: ObjectAttributes): number {
  let bits = 0
  for (const name of attributeNames) {
    if (attributes[name]) bits |= 1 << ATTRIBUTE_BITS[name]
  }
  return bits >>> 0
}

const attributeNames = Object.keys(ATTRIBUTE_BITS) as readonly ObjectAttribute[]

/** Attributes by a rule, for templates and for reading. */
export function attributesOf(isSet: (name: ObjectAttribute) => boolean): ObjectAttributes {
  const attributes: Partial<Record<ObjectAttribute, boolean>> = {}
  for (const name of attributeNames) attributes[name] = isSet(name)
  return attributes as ObjectAttributes
}

function readSymmetric(reader: ByteReader): { readonly symmetric?: SymmetricCipher } {
  const algorithm = reader.u16()
  if (algorithm === TPM_ALG.NULL) return {}
  if (algorithm !== TPM_ALG.AES) throw unexpected(reader, 'AES', algorithm)
  const keyBits = reader.u16()
  if (keyBits !== 128 && keyBits !== 192 && keyBits !== 256) {
    throw unexpected(reader, 'an AES key size', keyBits)
  }
  const mode = reader.u16()
  if (mode !== TPM_ALG.CFB) throw unexpected(reader, 'CFB mode', mode)
  return { symmetric: { keyBits } }
}

function readScheme(reader: ByteReader): KeyScheme {
  const algorithm = reader.u16()
  if (algorithm === TPM_ALG.NULL) return { kind: 'null' }
  const kind = SCHEMES.get(algorithm)
  if (!kind) throw unexpected(reader, 'RSASSA, RSAPSS, ECDSA, OAEP or no scheme', algorithm)
  return { kind, hash: readHash(reader, 'the hash of the scheme') }
}

const SCHEMES: ReadonlyMap<number, Exclude<KeyScheme['kind'], 'null'>> = new Map([
  [TPM_ALG.RSASSA, 'rsassa'],
  [TPM_ALG.RSAPSS, 'rsapss'],
  [TPM_ALG.ECDSA, 'ecdsa'],
  [TPM_ALG.OAEP, 'oaep'],
] as const)

/** The algorithm identifier of a scheme. */
export function schemeId(kind: Exclude<KeyScheme['kind'], 'null'>): number {
  for (const [id, name] of SCHEMES) if (name === kind) return id
  throw new TypeError(`no scheme ${kind}`)
}

function writeScheme(writer: ByteWriter, scheme: KeyScheme): void {
  if (scheme.kind === 'null') writer.u16(TPM_ALG.NULL)
  else writer.u16(schemeId(scheme.kind)).u16(HASH_ALGORITHMS[scheme.hash].id)
}

function readCurve(reader: ByteReader): EccCurve {
  const id = reader.u16()
  for (const [name, curve] of Object.entries(ECC_CURVES)) {
    if (curve.id === id) return name as EccCurve
  }
  throw unexpected(reader, 'a NIST curve of at least 256 bits', id)
}

function requireNull(reader: ByteReader, what: string): void {
  const algorithm = reader.u16()
  if (algorithm !== TPM_ALG.NULL) throw unexpected(reader, `none as ${what}`, algorithm)
}

function unexpected(reader: ByteReader, expected: string, found: number): DecodeError {
  return new DecodeError(
    'DECODE_VALUE',
    reader.offset,
    `expected ${expected}, found 0x${found.toString(16)}`,
  )
}
