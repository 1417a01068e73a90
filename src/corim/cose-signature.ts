import { constants, createPublicKey, type KeyObject, verify } from 'node:crypto'
import { concat, utf8 } from '../core/bytes.js'
import { messageOf, PlatformError } from '../core/errors.js'
import type { SignedCorim } from './signed-corim.js'

interface CoseAlgorithm {
  readonly name: string
  readonly fits: (key: KeyObject) => boolean
  /** Nothing where it depends on the key. */
  readonly signatureOctets?: number
  readonly verify: (data: Uint8Array, key: KeyObject, signature: Uint8Array) => boolean
}

const RSA_BITS = { min: 2048, max: 8192 } as const
/** RFC 8230, section 2: as long as the hash. */
const PS256_SALT_OCTETS = 32
const MAX_KEYS = 64

/**
 * Signature algorithms that are accepted, by COSE identifier.
 *
 * @see RFC 9053, section 2; RFC 8230, section 2
 */
export const COSE_ALGORITHMS: ReadonlyMap<number | string, CoseAlgorithm> = new Map<
  number | string,
  CoseAlgorithm
>([
  [-7, ecdsa('ES256', 'prime256v1', 'sha256', 64)],
  [-35, ecdsa('ES384', 'secp384r1', 'sha384', 96)],
  [
    -37,
    {
      name: 'PS256',
      fits: isRsa,
      verify: (data, key, signature) => {
        const padding = constants.RSA_PKCS1_PSS_PADDING
        return verify('sha256', data, { key, padding, saltLength: PS256_SALT_OCTETS }, signature)
      },
    },
  ],
  [
    -8,
    {
      name: 'EdDSA',
      fits: ({ asymmetricKeyType }) => asymmetricKeyType === 'ed25519',
      signatureOctets: 64,
      verify: (data, key, signature) => verify(null, data, key, signature),
    },
  ],
])

/**
 * A key that manifests may be signed with: SubjectPublicKeyInfo in PEM, of P-256, P-384, Ed25519, or RSA with 2048 to
 * 8192 bits.
 *
 * @throws PlatformError `CORIM_KEY`, also for a private key or a certificate
 */
export function readCorimKey(pem: string): KeyObject {
  const expected = 'expected a public key (PEM) of P-256, P-384, Ed25519 or RSA'
  if (!/^\s*-----BEGIN PUBLIC KEY-----/.test(pem)) throw new PlatformError('CORIM_KEY', expected)
  let key: KeyObject
  try {
    key = createPublicKey(pem)
  } catch (cause) {
    throw new PlatformError('CORIM_KEY', `${expected}: ${messageOf(cause)}`, { cause })
  }
  if ([...COSE_ALGORITHMS.values()].some(({ fits }) => fits(key))) return key
  throw new PlatformError('CORIM_KEY', `${expected}, found ${key.asymmetricKeyType ?? 'another'}`)
}

/** The key of these that signed; nothing where none did, or where algorithm or payload are none to verify with. */
export function findSigningKey(
  { signer, protectedHeaders, payload, signature }: SignedCorim,
  keys: readonly KeyObject[],
): KeyObject | undefined {
  if (keys.length > MAX_KEYS) throw new TypeError(`more than ${MAX_KEYS} keys`)
  const algorithm = COSE_ALGORITHMS.get(signer.algorithm)
  if (!algorithm || !payload) return undefined
  if (signature.length !== (algorithm.signatureOctets ?? signature.length)) return undefined
  const data = sigStructure(protectedHeaders, payload)
  return keys.find((key) => algorithm.fits(key) && algorithm.verify(data, key, signature))
}

/**
 * What is signed: `["Signature1", protected, h'', payload]`, encoded in the one way that there is.
 *
 * @see RFC 9052, section 4.4
 */
function sigStructure(protectedHeaders: Uint8Array, payload: Uint8Array): Uint8Array {
  const ARRAY_OF_4 = 0x84
  const TEXT_OF_10 = 0x6a
  const NO_OCTETS = 0x40
  return concat(
    Uint8Array.of(ARRAY_OF_4, TEXT_OF_10),
    utf8('Signature1'),
    octetsHead(protectedHeaders.length),
    protectedHeaders,
    Uint8Array.of(NO_OCTETS),
    octetsHead(payload.length),
    payload,
  )
}

/** The head of an octet string. @see RFC 8949, section 3.1 */
function octetsHead(length: number): Uint8Array {
  if (length < 24) return Uint8Array.of(0x40 | length)
  if (length < 0x100) return Uint8Array.of(0x58, length)
  if (length < 0x10000) return Uint8Array.of(0x59, length >> 8, length & 0xff)
  return Uint8Array.of(0x5a, length >>> 24, (length >> 16) & 0xff, (length >> 8) & 0xff, length)
}

function ecdsa(name: string, curve: string, hash: string, signatureOctets: number): CoseAlgorithm {
  return {
    name,
    fits: (key) => key.asymmetricKeyDetails?.namedCurve === curve,
    signatureOctets,
    verify: (data, key, signature) =>
      verify(hash, data, { key, dsaEncoding: 'ieee-p1363' }, signature),
  }
}

function isRsa({ asymmetricKeyType, asymmetricKeyDetails }: KeyObject): boolean {
  const bits = asymmetricKeyDetails?.modulusLength ?? 0
  return asymmetricKeyType === 'rsa' && bits >= RSA_BITS.min && bits <= RSA_BITS.max
}
