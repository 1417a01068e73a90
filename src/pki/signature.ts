import { constants, type KeyObject, verify } from 'node:crypto'
import type { ErrorCode } from '../core/error-codes.js'
import { type DerNode, derInteger, objectIdentifier, TAG } from './der.js'

type Hash = 'sha256' | 'sha384' | 'sha512'

/** How something was signed. `sha1` and `unknown` are never verified. */
export type SignatureAlgorithm =
  | { readonly kind: 'rsa' | 'ecdsa'; readonly hash: Hash }
  | { readonly kind: 'pss'; readonly hash: Hash; readonly saltOctets: number }
  | { readonly kind: 'sha1'; readonly oid: string }
  | { readonly kind: 'unknown'; readonly oid: string }

const ALGORITHMS: Readonly<Record<string, SignatureAlgorithm>> = {
  '1.2.840.113549.1.1.11': { kind: 'rsa', hash: 'sha256' },
  '1.2.840.113549.1.1.12': { kind: 'rsa', hash: 'sha384' },
  '1.2.840.113549.1.1.13': { kind: 'rsa', hash: 'sha512' },
  '1.2.840.10045.4.3.2': { kind: 'ecdsa', hash: 'sha256' },
  '1.2.840.10045.4.3.3': { kind: 'ecdsa', hash: 'sha384' },
  '1.2.840.10045.4.3.4': { kind: 'ecdsa', hash: 'sha512' },
  '1.2.840.113549.1.1.5': { kind: 'sha1', oid: '1.2.840.113549.1.1.5' },
  '1.2.840.10045.4.1': { kind: 'sha1', oid: '1.2.840.10045.4.1' },
}
const PSS = '1.2.840.113549.1.1.10'
const MGF1 = '1.2.840.113549.1.1.8'
const HASHES: Readonly<Record<string, Hash>> = {
  '2.16.840.1.101.3.4.2.1': 'sha256',
  '2.16.840.1.101.3.4.2.2': 'sha384',
  '2.16.840.1.101.3.4.2.3': 'sha512',
}

const CURVES: ReadonlySet<string> = new Set(['prime256v1', 'secp384r1', 'secp521r1'])
const MIN_RSA_BITS = 2048
const MAX_RSA_BITS = 8192

/**
 * The algorithm of a signature. The hash of PSS is that of its mask; parameters left out mean SHA-1.
 *
 * @see RFC 4055, sections 2.1 and 3.1; RFC 5758, section 3.2
 */
export function signatureAlgorithm(node: DerNode): SignatureAlgorithm {
  const [id, parameters] = node.children
  if (!id) throw new TypeError('an algorithm without its identifier')
  const oid = objectIdentifier(id)
  if (oid === PSS) return pssAlgorithm(parameters)
  const known = ALGORITHMS[oid]
  const isBare = !parameters || (parameters.tag === TAG.null && parameters.content.length === 0)
  return known && isBare && node.children.length <= 2 ? known : { kind: 'unknown', oid }
}

function pssAlgorithm(parameters: DerNode | undefined): SignatureAlgorithm {
  const field = (number: number) =>
    parameters?.children.find(({ tag }) => tag === TAG.context(number))?.children[0]
  const [hashNode, maskNode, saltNode] = [field(0), field(1), field(2)]
  if (!hashNode) return { kind: 'sha1', oid: PSS }
  const hash = hashOf(hashNode)
  const [maskId, maskHash] = maskNode?.children ?? []
  const isSame =
    maskId && maskHash && objectIdentifier(maskId) === MGF1 && hashOf(maskHash) === hash
  if (!hash || !isSame || !saltNode || field(3)) return { kind: 'unknown', oid: PSS }
  return { kind: 'pss', hash, saltOctets: derInteger(saltNode) }
}

function hashOf(node: DerNode): Hash | undefined {
  const [id] = node.children
  return id && HASHES[objectIdentifier(id)]
}

/**
 * Verifies a signature of an authority.
 *
 * Refuses SHA-1, RSA below 2048 bits, and curves other than P-256, P-384 and P-521. An ECDSA signature that was made
 * another one of the same message (s → n − s) is accepted: no signature is used as an identifier.
 *
 * @returns nothing where the signature is right, else the code of why not
 */
export function verifySignature(
  signed: { readonly octets: Uint8Array; readonly signature: Uint8Array },
  algorithm: SignatureAlgorithm,
  key: KeyObject,
): ErrorCode | undefined {
  if (algorithm.kind === 'sha1') return 'CHAIN_SHA1'
  if (algorithm.kind === 'unknown' || !isKeyFor(key, algorithm.kind)) return 'CHAIN_ALGORITHM'
  if (!isStrongKey(key)) return 'CHAIN_KEY_WEAK'
  const options =
    algorithm.kind === 'pss'
      ? { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: algorithm.saltOctets }
      : { key }
  try {
    return verify(algorithm.hash, signed.octets, options, signed.signature)
      ? undefined
      : 'CHAIN_SIGNATURE'
  } catch {
    return 'CHAIN_SIGNATURE'
  }
}

function isKeyFor(key: KeyObject, kind: 'rsa' | 'ecdsa' | 'pss'): boolean {
  const type = key.asymmetricKeyType
  if (kind === 'ecdsa') return type === 'ec'
  return type === 'rsa' || (kind === 'pss' && type === 'rsa-pss')
}

/** Whether an authority may sign with this key. */
function isStrongKey(key: KeyObject): boolean {
  const { modulusLength = 0, namedCurve } = key.asymmetricKeyDetails ?? {}
  if (key.asymmetricKeyType === 'ec') return CURVES.has(namedCurve ?? '')
  return modulusLength >= MIN_RSA_BITS && modulusLength <= MAX_RSA_BITS
}
