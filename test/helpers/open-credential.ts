import {
  constants,
  createDecipheriv,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  type KeyObject,
  privateDecrypt,
} from 'node:crypto'
import { concat, timingSafeEqual, toBase64url, utf8 } from '../../src/core/bytes.js'
import { ByteReader } from '../../src/core/reader.js'
import {
  type Credential,
  HASH_ALGORITHMS,
  kdfa,
  kdfe,
  type PublicArea,
} from '../../src/tpm/index.js'

/**
 * The TPM's half of credential protection, for keys whose private part a test has.
 *
 * Its seeds are checked against published vectors in `test/vectors/tpm-derivation.test.ts`.
 *
 * @see TPM 2.0 Library, Part 3, clause 12.5
 */
export function openCredential(
  ek: PublicArea,
  privateKey: KeyObject,
  name: Uint8Array,
  credential: Credential,
): Uint8Array {
  const seed = openSeed(ek, privateKey, 'IDENTITY', unsized(credential.encryptedSecret))
  const { digestOctets } = HASH_ALGORITHMS[ek.nameAlg]
  const reader = new ByteReader(unsized(credential.credentialBlob), 'big')
  const integrity = reader.take(reader.u16())
  const encrypted = reader.rest()
  const none = new Uint8Array()
  const macKey = kdfa(ek.nameAlg, seed, 'INTEGRITY', none, none, digestOctets * 8)
  const expected = createHmac(ek.nameAlg, macKey).update(encrypted).update(name).digest()
  if (!timingSafeEqual(expected, integrity)) throw new Error('TPM_RC_INTEGRITY')
  const keyBits = ek.symmetric?.keyBits ?? 0
  const key = kdfa(ek.nameAlg, seed, 'STORAGE', name, none, keyBits)
  const decipher = createDecipheriv(`aes-${keyBits}-cfb`, key, new Uint8Array(16))
  return unsized(concat(decipher.update(encrypted), decipher.final()))
}

/** The seed in the content of a TPM2B_ENCRYPTED_SECRET. */
export function openSeed(
  area: PublicArea,
  privateKey: KeyObject,
  label: string,
  encryptedSecret: Uint8Array,
): Uint8Array {
  if (area.type === 'rsa') {
    return privateDecrypt(
      {
        key: privateKey,
        padding: constants.RSA_PKCS1_OAEP_PADDING,
        oaepHash: area.nameAlg,
        oaepLabel: concat(utf8(label), Uint8Array.of(0)),
      },
      encryptedSecret,
    )
  }
  const reader = new ByteReader(encryptedSecret, 'big')
  const x = reader.take(reader.u16())
  const y = reader.take(reader.u16())
  const jwk = { kty: 'EC', crv: area.curve, x: toBase64url(x), y: toBase64url(y) }
  const publicKey = createPublicKey({ key: jwk, format: 'jwk' })
  const z = diffieHellman({ privateKey, publicKey })
  const bits = HASH_ALGORITHMS[area.nameAlg].digestOctets * 8
  return kdfe(area.nameAlg, z, label, x, area.x, bits)
}

/** The private key of a TPMT_SENSITIVE: one prime of an RSA key, the scalar of an ECC key. */
export function privateKeyOf(area: PublicArea, sensitive: Uint8Array): KeyObject {
  const reader = new ByteReader(sensitive, 'big')
  reader.u16()
  reader.take(reader.u16())
  reader.take(reader.u16())
  const secret = reader.take(reader.u16())
  const text = toBase64url
  if (area.type === 'ecc') {
    const jwk = { kty: 'EC', crv: area.curve, x: text(area.x), y: text(area.y), d: text(secret) }
    return createPrivateKey({ key: jwk, format: 'jwk' })
  }
  const e = 65537n
  const n = integer(area.modulus)
  const p = integer(secret)
  const q = n / p
  const d = inverse(e, (p - 1n) * (q - 1n))
  const jwk = Object.fromEntries(
    Object.entries({ n, e, d, p, q, dp: d % (p - 1n), dq: d % (q - 1n), qi: inverse(q, p) }).map(
      ([member, value]) => [member, text(octets(value))],
    ),
  )
  return createPrivateKey({ key: { kty: 'RSA', ...jwk }, format: 'jwk' })
}

function unsized(octets: Uint8Array): Uint8Array {
  const reader = new ByteReader(octets, 'big')
  const content = reader.take(reader.u16())
  reader.end('TPM2B')
  return content
}

function integer(octets: Uint8Array): bigint {
  return BigInt(`0x${Buffer.from(octets).toString('hex')}`)
}

function octets(value: bigint): Uint8Array {
  const hex = value.toString(16)
  return Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex')
}

function inverse(value: bigint, modulus: bigint): bigint {
  let [r, nextR, t, nextT] = [modulus, value % modulus, 0n, 1n]
  while (nextR !== 0n) {
    const quotient = r / nextR
    ;[r, nextR] = [nextR, r - quotient * nextR]
    ;[t, nextT] = [nextT, t - quotient * nextT]
  }
  return ((t % modulus) + modulus) % modulus
}
