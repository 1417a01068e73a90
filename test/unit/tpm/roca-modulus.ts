import { fromHex } from '../../../src/core/bytes.js'

/** The primes of Nemec et al., section 2.3, for keys of up to 960 bits: each holds in the larger ones too. */
const SMALL_PRIMES = [
  ...[2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89],
  ...[97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167],
]

/**
 * A modulus as the broken generator made them: `p = k · M + (65537^a mod M)`, M the product of the small primes.
 *
 * The factors are of that form but not prime, which no verifier can see.
 *
 * @see Nemec et al., "The Return of Coppersmith's Attack", CCS 2017, section 2.1
 */
export function rocaModulus(): Uint8Array {
  const m = SMALL_PRIMES.reduce((product, prime) => product * BigInt(prime), 1n)
  const factor = (exponent: number, k: bigint): bigint => {
    let power = 1n
    for (let index = 0; index < exponent; index += 1) power = (power * 65537n) % m
    const top = 0xf5n << 1016n
    return (top / m + k) * m + power
  }
  const hex = (factor(1234, 5n) * factor(4321, 77n)).toString(16)
  return fromHex(hex)
}
