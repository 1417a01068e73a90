import { createECDH, createHash, createPublicKey, type KeyObject, verify } from 'node:crypto'
import { fromBase64url, fromHex, toBase64url, toHex } from '../core/bytes.js'
import { isPlatformError } from '../core/errors.js'
import { ByteReader } from '../core/reader.js'

interface Curve {
  readonly name: string
  readonly octets: number
  /** Prime of the field, and order of the group. @see FIPS 186-4, appendix D.1.2 */
  readonly p: bigint
  readonly n: bigint
  readonly bits: number
}

const CURVES: Readonly<Record<string, Curve>> = {
  'P-256': {
    name: 'prime256v1',
    octets: 32,
    p: 2n ** 256n - 2n ** 224n + 2n ** 192n + 2n ** 96n - 1n,
    n: 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n,
    bits: 256,
  },
  'P-384': {
    name: 'secp384r1',
    octets: 48,
    p: 2n ** 384n - 2n ** 128n - 2n ** 96n + 2n ** 32n - 1n,
    n: 0xffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973n,
    bits: 384,
  },
  'P-521': {
    name: 'secp521r1',
    octets: 66,
    p: 2n ** 521n - 1n,
    n: 0x1fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409n,
    bits: 521,
  },
}

/** What is signed in place of the digest: any message will do whose digest is not longer than the order of a group. */
const MESSAGE = new Uint8Array()
const MESSAGE_HASH = 'sha256'
const MESSAGE_DIGEST = integer(createHash(MESSAGE_HASH).update(MESSAGE).digest())

/**
 * Whether octets are an ECDSA signature (DER) of a digest by a key of P-256, P-384 or P-521. Total.
 *
 * node:crypto verifies signatures of messages, not of digests that somebody else computed. So it is asked another question
 * with the same answer. A signature (r, s) of a digest z by a key Q is valid where z/s·G + r/s·Q has the coordinate r; so
 * it is valid exactly where the same (r, s) is a signature of z₀ by the key Q + (z − z₀)/r·G, for any z₀: the point is the
 * same one. With z₀ the digest of a message of our own, node:crypto makes the decision, and all checks of r and s.
 *
 * @see FIPS 186-5, section 6.4.2
 */
export function isEcdsaOverDigest(key: KeyObject, digest: Uint8Array, der: Uint8Array): boolean {
  const { crv = '', x = '', y = '' } = key.export({ format: 'jwk' })
  const curve = CURVES[crv]
  const signature = readSignature(der)
  if (!curve || !signature) return false
  const [r, s] = signature.map(integer) as [bigint, bigint]
  if (r <= 0n || r >= curve.n || s <= 0n || s >= curve.n) return false
  const excess = Math.max(0, 8 * digest.length - curve.bits)
  const z = integer(digest) >> BigInt(excess)
  const factor = modulo((z - MESSAGE_DIGEST) * inverse(r, curve.n), curve.n)
  const point = { x: integer(fromBase64url(x)), y: integer(fromBase64url(y)) }
  const moved = factor === 0n ? point : sum(point, multipleOfBase(factor, curve), curve.p)
  if (!moved) return false
  const encode = (value: bigint) => toBase64url(octets(value, curve.octets))
  const jwk = { kty: 'EC', crv, x: encode(moved.x), y: encode(moved.y) }
  const movedKey = createPublicKey({ key: jwk, format: 'jwk' })
  const rs = Buffer.concat([octets(r, curve.octets), octets(s, curve.octets)])
  return verify(MESSAGE_HASH, MESSAGE, { key: movedKey, dsaEncoding: 'ieee-p1363' }, rs)
}

interface Point {
  readonly x: bigint
  readonly y: bigint
}

function multipleOfBase(factor: bigint, curve: Curve): Point {
  const ecdh = createECDH(curve.name)
  ecdh.setPrivateKey(octets(factor, curve.octets))
  const point = ecdh.getPublicKey()
  return {
    x: integer(point.subarray(1, 1 + curve.octets)),
    y: integer(point.subarray(1 + curve.octets)),
  }
}

/**
 * The sum of two points that are not multiples of one another by 1 or −1; nothing where they are, which happens to nobody
 * who does not know the private key.
 */
function sum(a: Point, b: Point, p: bigint): Point | undefined {
  if (a.x === b.x) return undefined
  const slope = modulo((b.y - a.y) * inverse(modulo(b.x - a.x, p), p), p)
  const x = modulo(slope * slope - a.x - b.x, p)
  return { x, y: modulo(slope * (a.x - x) - a.y, p) }
}

/** Of a number between 0 and a prime modulus, neither included. */
function inverse(value: bigint, modulus: bigint): bigint {
  let [a, b] = [value, modulus]
  let [u, v] = [1n, 0n]
  while (a > 1n) {
    const quotient = b / a
    ;[a, b] = [b - quotient * a, a]
    ;[u, v] = [v - quotient * u, u]
  }
  return modulo(u, modulus)
}

function modulo(value: bigint, modulus: bigint): bigint {
  const rest = value % modulus
  return rest < 0n ? rest + modulus : rest
}

const TAG_SEQUENCE = 0x30
const TAG_INTEGER = 0x02
const MAX_INTEGER_OCTETS = 67

/** r and s of a SEQUENCE of two positive INTEGERs, in the one form that DER has for them. @see RFC 3279, section 2.2.3 */
function readSignature(der: Uint8Array): readonly [Uint8Array, Uint8Array] | undefined {
  try {
    const reader = new ByteReader(der, 'big')
    if (reader.u8() !== TAG_SEQUENCE) return undefined
    const short = reader.u8()
    const length = short === 0x81 ? reader.u8() : short
    if (length !== reader.remaining || (short === 0x81) !== length > 127) return undefined
    const r = readInteger(reader)
    const s = readInteger(reader)
    reader.end('the signature')
    return r && s && [r, s]
  } catch (error) {
    if (isPlatformError(error)) return undefined
    throw error
  }
}

function readInteger(reader: ByteReader): Uint8Array | undefined {
  if (reader.u8() !== TAG_INTEGER) return undefined
  const length = reader.u8()
  if (length === 0 || length > MAX_INTEGER_OCTETS) return undefined
  const octets = reader.take(length)
  const [first = 0, second = 0] = octets
  const isPadded = length > 1 && first === 0
  const isNegative = first > 127
  return isNegative || (isPadded && second < 128) ? undefined : octets
}

function integer(octets: Uint8Array): bigint {
  return BigInt(`0x${toHex(octets)}`)
}

function octets(value: bigint, length: number): Uint8Array {
  return fromHex(value.toString(16).padStart(2 * length, '0'))
}
