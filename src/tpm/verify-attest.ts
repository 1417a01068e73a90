import { timingSafeEqual, toHex } from '../core/bytes.js'
import { type Finding, failed, passed } from '../core/finding.js'
import { ATTEST_TYPES, type Attest, parseAttest, peekAttest, TPM_GENERATED } from './attest.js'
import type { PublicArea } from './public-area.js'
import { parseSignature, type Signature, type SignedSubject, verifySignature } from './signature.js'

/** What a TPM signed, and what it must be. */
export interface AttestInput {
  /** TPMS_ATTEST */
  readonly attest: Uint8Array
  /** TPMT_SIGNATURE */
  readonly signature: Uint8Array
  readonly ak: PublicArea
  /** Qualifying data that the structure must carry, whole. */
  readonly expectedExtraData: Uint8Array
}

const CODES = {
  quote: { magic: 'QUOTE_MAGIC', type: 'QUOTE_TYPE', nonce: 'QUOTE_NONCE' },
  certify: { magic: 'CERTIFY_MAGIC', type: 'CERTIFY_TYPE', nonce: 'CERTIFY_NONCE' },
} as const

/**
 * Checks what quotes and certifications have in common: magic, type, signature and qualifying data.
 *
 * A structure of another type has nothing more to compare and is not handed on.
 *
 * @returns every check that could be made, and the structure where it is of type `subject`
 * @throws DecodeError where structure or signature cannot be read, or octets follow them
 * @see TPM 2.0 Library, Part 1, clause 31 (Attestation); Part 2, clause 10.12.12
 */
export function verifyAttest<S extends SignedSubject>(
  subject: S,
  input: AttestInput,
): {
  readonly findings: readonly Finding[]
  readonly attest?: Attest & { readonly type: S }
  readonly signature: Signature
} {
  const { magic, type } = peekAttest(input.attest)
  const signature = parseSignature(input.signature)
  const findings: Finding[] = [
    same(`${subject}.magic`, CODES[subject].magic, TPM_GENERATED, magic),
    same(`${subject}.type`, CODES[subject].type, ATTEST_TYPES[subject], type),
    ...verifySignature(subject, input.ak, signature, input.attest),
  ]
  if (type !== ATTEST_TYPES[subject]) return { findings, signature }
  const attest = parseAttest(input.attest)
  if (!isOf(subject, attest)) throw new TypeError('the type was compared before')
  const { extraData } = attest
  const check = `${subject}.nonce`
  findings.push(
    timingSafeEqual(extraData, input.expectedExtraData)
      ? passed(check)
      : failed(check, CODES[subject].nonce, toHex(input.expectedExtraData), toHex(extraData)),
  )
  return { findings, attest, signature }
}

function isOf<S extends SignedSubject>(
  subject: S,
  attest: Attest,
): attest is Attest & { readonly type: S } {
  return attest.type === subject
}

function same(
  check: string,
  code: 'QUOTE_MAGIC' | 'QUOTE_TYPE' | 'CERTIFY_MAGIC' | 'CERTIFY_TYPE',
  expected: number,
  found: number,
): Finding {
  return found === expected ? passed(check) : failed(check, code, hex(expected), hex(found))
}

function hex(value: number): string {
  return `0x${value.toString(16)}`
}
