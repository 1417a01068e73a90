/**
 * Small primes whose residues give away a modulus of the broken generator of CVE-2017-15361.
 *
 * @see Nemec et al., "The Return of Coppersmith's Attack", CCS 2017, section 2.3
 */
const PRIMES = [
  ...[3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89],
  ...[97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167],
]

/** The generator of the group that primes of the broken generator lie in. */
const GENERATOR = 65537

const groups = PRIMES.map((prime) => {
  const residues = new Set<number>()
  for (let value = 1; !residues.has(value); value = (value * (GENERATOR % prime)) % prime) {
    residues.add(value)
  }
  return { prime, residues }
})

/**
 * Whether an RSA modulus has the fingerprint of ROCA: modulo every small prime it is a power of 65537.
 *
 * A sound modulus has it by chance with a probability below 2^-27.
 */
export function hasRocaFingerprint(modulus: Uint8Array): boolean {
  return groups.every(({ prime, residues }) => {
    let remainder = 0
    for (const octet of modulus) remainder = (remainder * 256 + octet) % prime
    return residues.has(remainder)
  })
}
