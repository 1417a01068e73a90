import { concat } from '../core/bytes.js'
import { digestOf } from '../core/digest.js'
import { DecodeError } from '../core/errors.js'
import { ByteReader, ByteWriter } from '../core/reader.js'
import { HASH_ALGORITHMS, TPM_ALG } from './algorithms.js'
import { attributesOf, encodeAttributes } from './public-area.js'
import { encodeSized } from './sized.js'

/** Most octets that every TPM seals. @see TPM 2.0 Library, Part 2, clause 11.1.14 (TPMU_SENSITIVE_CREATE) */
export const MAX_SEALED_OCTETS = 128

/**
 * Template of an object that holds data: given back while its policy holds, and in no other way. TPMT_PUBLIC.
 *
 * `userWithAuth` is clear, so that the policy is the only way to its data; `noDA`, so that an authority that lost power can
 * be unsealed at once.
 *
 * @param authPolicy SHA-256
 * @see TPM 2.0 Library, Part 1, clause 27.7 (sealed data objects)
 */
export function sealedObjectTemplate(authPolicy: Uint8Array): Uint8Array {
  const kept: readonly string[] = ['fixedTPM', 'fixedParent', 'noDA']
  return new ByteWriter('big')
    .u16(TPM_ALG.KEYEDHASH)
    .u16(TPM_ALG.SHA256)
    .u32(encodeAttributes(attributesOf((name) => kept.includes(name))))
    .put(encodeSized(authPolicy))
    .u16(TPM_ALG.NULL)
    .put(encodeSized(new Uint8Array()))
    .finish()
}

/**
 * Name of an object that holds data, from its public area.
 *
 * @param publicArea TPMT_PUBLIC
 * @throws DecodeError for another kind of object
 */
export function nameOfSealedObject(publicArea: Uint8Array): Uint8Array {
  const reader = new ByteReader(publicArea, 'big')
  const [type, nameAlg] = [reader.u16(), reader.u16()]
  if (type !== TPM_ALG.KEYEDHASH || nameAlg !== TPM_ALG.SHA256) {
    throw new DecodeError('DECODE_VALUE', 0, 'expected a sealed object named by SHA-256')
  }
  const { id } = HASH_ALGORITHMS.sha256
  return concat(new ByteWriter('big').u16(id).finish(), digestOf('sha256', publicArea))
}
