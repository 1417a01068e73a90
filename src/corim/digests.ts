import { HASH_ALGORITHMS, type HashName } from '../tpm/algorithms.js'
import type { CborItem } from './cbor.js'
import { listOf, nameOf, octetsOf, refuse, tupleOf } from './cbor-fields.js'

export interface Digest {
  /** As the manifest names it: `sha-256`, `7`. */
  readonly alg: string
  /** The algorithm, where a TPM has it too. */
  readonly hash?: HashName
  readonly value: Uint8Array
}

/**
 * Identifiers and names of the algorithms that banks of PCRs have. SHA-1 is not in the registry, and the truncated
 * forms of SHA-256 (2 to 6) are algorithms of their own.
 *
 * @see IANA, Named Information Hash Algorithm Registry; draft-ietf-rats-eat-measured-component-12, section 4.2
 */
const ALGORITHMS: ReadonlyMap<number | string, HashName> = new Map<number | string, HashName>([
  [1, 'sha256'],
  [7, 'sha384'],
  [8, 'sha512'],
  ['sha-256', 'sha256'],
  ['sha-384', 'sha384'],
  ['sha-512', 'sha512'],
])
const MAX_DIGEST_OCTETS = 64

/**
 * `digests-type`: digests of one and the same thing with different algorithms.
 *
 * One algorithm twice, under whatever names, is refused: a verifier could pick the digest that suits. So is a digest
 * of another length than its algorithm has.
 *
 * @throws PlatformError `CORIM_VALUE`
 * @see draft-ietf-rats-corim-11, sections "Digest" and "Comparison for digests entries"
 */
export function parseDigests(item: CborItem, path: string): readonly Digest[] {
  const digests = listOf(item, path, parseDigest)
  if (digests.length > 1) {
    const algorithms = new Set(digests.map(({ alg, hash }) => hash ?? alg))
    if (algorithms.size < digests.length) throw refuse(path, 'one digest of each algorithm', item)
  }
  return digests
}

export function parseDigest(item: CborItem, path: string): Digest {
  const [algorithm = null, content = null] = tupleOf(item, path, 2)
  const value = octetsOf(content, path)
  const alg = typeof algorithm === 'number' ? String(algorithm) : nameOf(algorithm, path)
  const known =
    typeof algorithm === 'number' || typeof algorithm === 'string'
      ? ALGORITHMS.get(algorithm)
      : undefined
  if (known === undefined) {
    if (value.length > 0 && value.length <= MAX_DIGEST_OCTETS) return { alg, value }
    throw refuse(path, `a digest of 1 to ${MAX_DIGEST_OCTETS} octets`, content)
  }
  const { digestOctets } = HASH_ALGORITHMS[known]
  if (value.length !== digestOctets) {
    throw refuse(path, `a ${known} digest of ${digestOctets} octets`, content)
  }
  return { alg, hash: known, value }
}
