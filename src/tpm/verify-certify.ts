import { timingSafeEqual, toHex } from '../core/bytes.js'
import { type Finding, failed, passed } from '../core/finding.js'
import { ATTEST_TYPES, parseAttest, peekAttest, TPM_GENERATED } from './attest.js'
import { nameOf, type PublicArea } from './public-area.js'
import { parseSignature, verifySignature } from './signature.js'

/**
 * Verifies that the TPM of `ak` has the object `certified`: a TPM2_Certify, signed by `ak`, fresh, over its name.
 *
 * Does not check what kind of key the object is: `verifyBindingKey` does.
 *
 * @throws DecodeError where attest or signature cannot be read at all
 * @see TPM 2.0 Library, Part 3, clause 18.2
 */
export function verifyCertify(input: {
  readonly attest: Uint8Array
  readonly signature: Uint8Array
  readonly ak: PublicArea
  readonly expectedExtraData: Uint8Array
  readonly certified: PublicArea
}): { readonly findings: readonly Finding[] } {
  const { magic, type } = peekAttest(input.attest)
  const kind = [
    magic === TPM_GENERATED
      ? passed('certify.magic')
      : failed('certify.magic', 'CERTIFY_MAGIC', hex(TPM_GENERATED), hex(magic)),
    type === ATTEST_TYPES.certify
      ? passed('certify.type')
      : failed('certify.type', 'CERTIFY_TYPE', hex(ATTEST_TYPES.certify), hex(type)),
  ]
  if (kind.some((finding) => !finding.ok)) return { findings: kind }
  const attest = parseAttest(input.attest)
  if (attest.type !== 'certify') throw new TypeError('the type was compared before')
  const name = nameOf(input.certified)
  return {
    findings: [
      ...kind,
      ...verifySignature('certify', input.ak, parseSignature(input.signature), input.attest),
      timingSafeEqual(attest.extraData, input.expectedExtraData)
        ? passed('certify.nonce')
        : failed(
            'certify.nonce',
            'CERTIFY_NONCE',
            toHex(input.expectedExtraData),
            toHex(attest.extraData),
          ),
      timingSafeEqual(attest.name, name)
        ? passed('certify.name')
        : failed('certify.name', 'CERTIFY_NAME', toHex(name), toHex(attest.name)),
    ],
  }
}

function hex(value: number): string {
  return `0x${value.toString(16)}`
}
