/**
 * Algorithm identifiers and the hash algorithms that Sigillo knows.
 *
 * @see TPM 2.0 Library, Part 2, clause 6.3 (TPM_ALG_ID)
 */
export const TPM_ALG = {
  RSA: 0x0001,
  SHA1: 0x0004,
  HMAC: 0x0005,
  AES: 0x0006,
  KEYEDHASH: 0x0008,
  SHA256: 0x000b,
  SHA384: 0x000c,
  SHA512: 0x000d,
  NULL: 0x0010,
  RSASSA: 0x0014,
  RSAES: 0x0015,
  RSAPSS: 0x0016,
  OAEP: 0x0017,
  ECDSA: 0x0018,
  ECDH: 0x0019,
  ECC: 0x0023,
  SYMCIPHER: 0x0025,
  CFB: 0x0043,
} as const

/** Hash algorithms by the names that Node's crypto has for them. `sha1` is read, and never trusted. */
export type HashName = 'sha1' | 'sha256' | 'sha384' | 'sha512'

export interface HashAlgorithm {
  readonly name: HashName
  readonly id: number
  readonly digestOctets: number
}

export const HASH_ALGORITHMS: Readonly<Record<HashName, HashAlgorithm>> = {
  sha1: { name: 'sha1', id: TPM_ALG.SHA1, digestOctets: 20 },
  sha256: { name: 'sha256', id: TPM_ALG.SHA256, digestOctets: 32 },
  sha384: { name: 'sha384', id: TPM_ALG.SHA384, digestOctets: 48 },
  sha512: { name: 'sha512', id: TPM_ALG.SHA512, digestOctets: 64 },
}

/** The hash algorithm with this identifier, or nothing: the caller decides whether unknown is an error. */
export function hashById(id: number): HashAlgorithm | undefined {
  return byId.get(id)
}

const byId: ReadonlyMap<number, HashAlgorithm> = new Map(
  Object.values(HASH_ALGORITHMS).map((algorithm) => [algorithm.id, algorithm]),
)
