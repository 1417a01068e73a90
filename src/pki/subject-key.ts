import { createPublicKey, type KeyObject } from 'node:crypto'
import { view } from '../core/bytes.js'
import { bitStringOctets, type DerNode, objectIdentifier, TAG } from './der.js'

/** Some makers label RSA keys with the scheme that they are used with. @see RFC 4055, section 4.1 */
const RSAES_OAEP = '1.2.840.113549.1.1.7'
const MAX_MODULUS_OCTETS = 1024

/**
 * The key of a SubjectPublicKeyInfo. RSA under the label of RSAES-OAEP is the same key as under the plain one.
 *
 * @throws an error of node:crypto where it is no key, or none that this node knows
 */
export function subjectKey(spki: DerNode): KeyObject {
  const [algorithm, bits] = spki.children
  const id = algorithm?.children[0]
  if (!id || !bits) throw new TypeError('a public key without its algorithm')
  const octets = bitStringOctets(bits)
  if (octets.length > MAX_MODULUS_OCTETS + 32) throw new TypeError('a public key that is too long')
  return objectIdentifier(id) === RSAES_OAEP
    ? createPublicKey({ key: view(octets), format: 'der', type: 'pkcs1' })
    : createPublicKey({ key: view(spki.whole), format: 'der', type: 'spki' })
}

/** SubjectPublicKeyInfo in the form that node:crypto gives to any key: the same for any label of one key. */
export function spkiOf(key: KeyObject): Uint8Array {
  return new Uint8Array(key.export({ type: 'spki', format: 'der' }))
}

/** Whether it begins as a SubjectPublicKeyInfo does. */
export function isSpki(node: DerNode | undefined): node is DerNode {
  return node?.tag === TAG.sequence && node.children[1]?.tag === TAG.bitString
}
