import { createHash, createHmac } from 'node:crypto'
import { concat, utf8 } from '../core/bytes.js'
import { ByteWriter } from '../core/reader.js'
import { HASH_ALGORITHMS, type HashName } from './algorithms.js'

/**
 * KDFa: HMAC in counter mode.
 *
 * @param label without its terminating zero, which is added here
 * @param bits of the result; a number that is not a multiple of eight has its first octet masked
 * @see TPM 2.0 Library, Part 1, clause 11.4.10.2
 */
export function kdfa(
  hash: HashName,
  key: Uint8Array,
  label: string,
  contextU: Uint8Array,
  contextV: Uint8Array,
  bits: number,
): Uint8Array {
  return counterMode(hash, bits, (counter) =>
    createHmac(hash, key)
      .update(u32(counter))
      .update(concat(utf8(label), Uint8Array.of(0)))
      .update(contextU)
      .update(contextV)
      .update(u32(bits))
      .digest(),
  )
}

/**
 * KDFe: hash in counter mode over a shared ECDH secret.
 *
 * @param z x coordinate of the shared point, as long as the field
 * @see TPM 2.0 Library, Part 1, clause 11.4.10.3
 */
export function kdfe(
  hash: HashName,
  z: Uint8Array,
  label: string,
  partyU: Uint8Array,
  partyV: Uint8Array,
  bits: number,
): Uint8Array {
  return counterMode(hash, bits, (counter) =>
    createHash(hash)
      .update(u32(counter))
      .update(z)
      .update(concat(utf8(label), Uint8Array.of(0)))
      .update(partyU)
      .update(partyV)
      .digest(),
  )
}

function counterMode(
  hash: HashName,
  bits: number,
  block: (counter: number) => Uint8Array,
): Uint8Array {
  const length = Math.ceil(bits / 8)
  const blocks = Math.ceil(length / HASH_ALGORITHMS[hash].digestOctets)
  const all = concat(...Array.from({ length: blocks }, (_, index) => block(index + 1)))
  const result = all.slice(0, length)
  const unused = length * 8 - bits
  if (unused > 0) result[0] = (result[0] ?? 0) & (0xff >> unused)
  return result
}

function u32(value: number): Uint8Array {
  return new ByteWriter('big').u32(value).finish()
}
