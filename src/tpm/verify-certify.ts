import { timingSafeEqual, toHex } from '../core/bytes.js'
import { type Finding, failed, passed } from '../core/finding.js'
import { nameOf, type PublicArea } from './public-area.js'
import { type AttestInput, verifyAttest } from './verify-attest.js'

/**
 * Verifies that the TPM of `ak` has the object `certified`: a TPM2_Certify, signed by `ak`, fresh, over its name.
 *
 * **Does not check** what kind of key the object is (`verifyBindingKey`), nor that `ak` is an attestation key.
 *
 * @throws DecodeError where attest or signature cannot be read, or octets follow them
 * @see TPM 2.0 Library, Part 2, clause 10.12.3 (TPMS_CERTIFY_INFO); Part 3, clause 18.2
 */
export function verifyCertify(input: AttestInput & { readonly certified: PublicArea }): {
  readonly findings: readonly Finding[]
} {
  const { findings, attest } = verifyAttest('certify', input)
  if (!attest) return { findings }
  const name = nameOf(input.certified)
  return {
    findings: [
      ...findings,
      timingSafeEqual(attest.name, name)
        ? passed('certify.name')
        : failed('certify.name', 'CERTIFY_NAME', toHex(name), toHex(attest.name)),
    ],
  }
}
