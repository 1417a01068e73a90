import { hash } from 'node:crypto'

/**
 * The digest of some octets, as octets, by a name that Node's crypto has.
 *
 * Asked for as text and decoded: Node takes twice as long to make a Buffer of its own for a digest of a few octets.
 */
export function digestOf(algorithm: string, octets: Uint8Array): Uint8Array {
  return new Uint8Array(Buffer.from(hash(algorithm, octets, 'hex'), 'hex'))
}
