import { concat } from '../core/bytes.js'
import { digestOf } from '../core/digest.js'
import { ByteWriter } from '../core/reader.js'
import { HASH_ALGORITHMS, type HashName } from './algorithms.js'
import { encodePcrSelections, type PcrSelection } from './pcr.js'

/** @see TPM 2.0 Library, Part 2, clause 6.5.2 (TPM_CC) */
const COMMAND_CODES = {
  policyAuthorizeNv: 0x0192,
  policySecret: 0x0151,
  policyOr: 0x0171,
  policyPcr: 0x017f,
} as const

/** TPM_RH_ENDORSEMENT, whose name is the handle itself. @see TPM 2.0 Library, Part 2, clause 7.4 */
export const ENDORSEMENT_NAME = Uint8Array.of(0x40, 0x00, 0x00, 0x0b)

/**
 * The policy of an object that only PolicyPCR over these values satisfies.
 *
 * @param digest of the PCR values, by the hash of the policy (`pcrDigest`)
 * @param hash nameAlg of the object
 * @see TPM 2.0 Library, Part 3, clause 23.7
 */
export function policyPcrDigest(
  selection: PcrSelection,
  digest: Uint8Array,
  hash: HashName = 'sha256',
): Uint8Array {
  return extend(
    hash,
    initial(hash),
    commandCode(COMMAND_CODES.policyPcr),
    encodePcrSelections([selection]),
    digest,
  )
}

/**
 * The policy of an object that PolicySecret with this entity satisfies, without a policyRef.
 *
 * @see TPM 2.0 Library, Part 3, clauses 23.2.3 and 23.4
 */
export function policySecretDigest(entityName: Uint8Array, hash: HashName = 'sha256'): Uint8Array {
  return secondRound(
    hash,
    extend(hash, initial(hash), commandCode(COMMAND_CODES.policySecret), entityName),
  )
}

/**
 * The policy that an NV index holds and may change: PolicyAuthorizeNV.
 *
 * @see TPM 2.0 Library, Part 3, clause 23.22
 */
export function policyAuthorizeNvDigest(nvName: Uint8Array, hash: HashName): Uint8Array {
  return extend(hash, initial(hash), commandCode(COMMAND_CODES.policyAuthorizeNv), nvName)
}

/**
 * The policy that any of these policies satisfies.
 *
 * @see TPM 2.0 Library, Part 3, clause 23.6
 */
export function policyOrDigest(policies: readonly Uint8Array[], hash: HashName): Uint8Array {
  return extend(hash, initial(hash), commandCode(COMMAND_CODES.policyOr), ...policies)
}

function initial(hash: HashName): Uint8Array {
  return new Uint8Array(HASH_ALGORITHMS[hash].digestOctets)
}

function commandCode(code: number): Uint8Array {
  return new ByteWriter('big').u32(code).finish()
}

function extend(hash: HashName, ...parts: readonly Uint8Array[]): Uint8Array {
  return digestOf(hash, concat(...parts))
}

/** PolicyUpdate ends with a second hash over the policyRef, which is empty here. */
function secondRound(hash: HashName, digest: Uint8Array): Uint8Array {
  return extend(hash, digest)
}
