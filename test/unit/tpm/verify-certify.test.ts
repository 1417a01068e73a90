import { describe, expect, test } from 'vitest'
import { concat } from '../../../src/core/bytes.js'
import { failures } from '../../../src/core/finding.js'
import {
  type Attest,
  bindingKeyTemplate,
  encodeAttest,
  nameOf,
  parsePublicArea,
  verifyCertify,
} from '../../../src/tpm/index.js'
import {
  ATTEST_BASE,
  forgeKey,
  forgeQuote,
  NONCE,
  type SigningScheme,
  signatureBy,
} from './forge.js'

const SCHEME = { kind: 'ecdsa', hash: 'sha256' } as const satisfies SigningScheme
const ak = forgeKey('P-256', SCHEME)
const certified = parsePublicArea(bindingKeyTemplate(new Uint8Array(32).fill(1)))

type CertifyAttest = Attest & { readonly type: 'certify' }

function certification(change: Partial<CertifyAttest> = {}, scheme: SigningScheme = SCHEME) {
  const name = nameOf(certified)
  const attest = encodeAttest({
    ...ATTEST_BASE,
    type: 'certify',
    name,
    qualifiedName: name,
    ...change,
  })
  const signature = signatureBy(ak, attest, scheme)
  return { attest, signature, ak: ak.area, expectedExtraData: NONCE, certified }
}

function codesOf(input: ReturnType<typeof certification>): readonly string[] {
  return failures(verifyCertify(input).findings).map(({ code }) => code)
}

test('accepts the certification of an object by the attestation key', () => {
  expect(codesOf(certification())).toEqual([])
})

describe('refuses a certification', () => {
  test.each([0xdeadbeef, 0, 0xff544346])('with magic %i', (magic) => {
    expect(codesOf(certification({ magic }))).toEqual(['CERTIFY_MAGIC'])
  })

  test('that is a quote', () => {
    const { attest, signature } = forgeQuote(ak, SCHEME)
    expect(codesOf({ ...certification(), attest, signature })).toEqual(['CERTIFY_TYPE'])
  })

  test('that is of the creation of the object', () => {
    const name = nameOf(certified)
    const creationHash = new Uint8Array(32)
    const attest = encodeAttest({ ...ATTEST_BASE, type: 'creation', name, creationHash })
    const signature = signatureBy(ak, attest, SCHEME)
    expect(codesOf({ ...certification(), attest, signature })).toEqual(['CERTIFY_TYPE'])
  })

  test('with another nonce', () => {
    expect(codesOf(certification({ extraData: new Uint8Array(32) }))).toEqual(['CERTIFY_NONCE'])
    expect(codesOf(certification({ extraData: NONCE.subarray(1) }))).toEqual(['CERTIFY_NONCE'])
  })

  test('of another object', () => {
    const other = parsePublicArea(bindingKeyTemplate(new Uint8Array(32).fill(2)))
    expect(codesOf({ ...certification(), certified: other })).toEqual(['CERTIFY_NAME'])
    expect(codesOf(certification({ name: new Uint8Array() }))).toEqual(['CERTIFY_NAME'])
  })

  test('by another key', () => {
    const other = forgeKey('P-256', SCHEME, 1).area
    expect(codesOf({ ...certification(), ak: other })).toEqual(['CERTIFY_SIGNATURE'])
  })

  test('with another scheme than the key has', () => {
    const input = certification({}, { kind: 'ecdsa', hash: 'sha384' })
    expect(codesOf(input)).toEqual(['CERTIFY_SCHEME'])
  })

  test('with SHA-1', () => {
    const scheme = { kind: 'ecdsa', hash: 'sha1' } as const
    const input = { ...certification({}, scheme), ak: { ...ak.area, scheme } }
    expect(codesOf(input)).toEqual(['CERTIFY_HASH_WEAK'])
  })

  test('with octets after it', () => {
    const attest = concat(certification().attest, Uint8Array.of(0))
    const signature = signatureBy(ak, attest, SCHEME)
    expect(() => verifyCertify({ ...certification(), attest, signature })).toThrow(
      expect.objectContaining({ code: 'DECODE_TRAILING' }),
    )
  })
})
