import { describe, expect, test } from 'vitest'
import { fromHex } from '../../../src/core/bytes.js'
import { failures } from '../../../src/core/finding.js'
import {
  attestationKeyTemplate,
  bindingKeyTemplate,
  EK_TEMPLATES,
  hasRocaFingerprint,
  type ObjectAttribute,
  type PublicArea,
  parsePublicArea,
  STORAGE_PRIMARY_TEMPLATE,
  verifyAttestationKey,
  verifyBindingKey,
  verifyEndorsementKey,
} from '../../../src/tpm/index.js'
import { forgeKey, type SigningScheme } from './forge.js'
import { rocaModulus } from './roca-modulus.js'

const ECDSA = { kind: 'ecdsa', hash: 'sha256' } as const satisfies SigningScheme
const RSASSA = { kind: 'rsassa', hash: 'sha256' } as const satisfies SigningScheme

type RsaArea = PublicArea & { readonly type: 'rsa' }
type EccArea = PublicArea & { readonly type: 'ecc' }

function asRsa(area: PublicArea): RsaArea {
  if (area.type !== 'rsa') throw new TypeError('an RSA key')
  return area
}

function asEcc(area: PublicArea): EccArea {
  if (area.type !== 'ecc') throw new TypeError('an ECC key')
  return area
}

const rsaArea = (): RsaArea => asRsa(forgeKey(2048, RSASSA).area)
const eccArea = (curve: 'P-256' | 'P-384' = 'P-256') => asEcc(forgeKey(curve, ECDSA).area)

function flipped<A extends PublicArea>(area: A, attribute: ObjectAttribute): A {
  const value = !area.attributes[attribute]
  return { ...area, attributes: { ...area.attributes, [attribute]: value } }
}

const ALL_ATTRIBUTES = Object.keys(eccArea().attributes) as readonly ObjectAttribute[]

describe('an attestation key', () => {
  const codesOf = (area: PublicArea) => failures(verifyAttestationKey(area)).map(({ code }) => code)

  test.each([
    [2048, 'rsassa'],
    [2048, 'rsapss'],
    [3072, 'rsassa'],
    ['P-256', 'ecdsa'],
    ['P-384', 'ecdsa'],
  ] as const)('is accepted: %s with %s', (size, kind) => {
    for (const hash of ['sha256', 'sha384', 'sha512'] as const) {
      expect(codesOf(forgeKey(size, { kind, hash }).area)).toEqual([])
    }
  })

  test('is refused without `restricted`: it would sign a quote that somebody made up', () => {
    expect(codesOf(flipped(eccArea(), 'restricted'))).toEqual(['AK_RESTRICTED'])
  })

  test.each(['sign', 'fixedTPM', 'fixedParent', 'sensitiveDataOrigin'] as const)(
    'is refused without %s',
    (attribute) => {
      expect(codesOf(flipped(eccArea(), attribute))).toEqual(['AK_ATTRIBUTES'])
    },
  )

  test('is refused where it decrypts', () => {
    expect(codesOf(flipped(eccArea(), 'decrypt'))).toEqual(['AK_ATTRIBUTES'])
  })

  test('is refused where it can be given to another TPM', () => {
    expect(codesOf(flipped(eccArea(), 'encryptedDuplication'))).toEqual(['AK_ATTRIBUTES'])
  })

  test('is refused where it signs certificate requests', () => {
    expect(codesOf(flipped(eccArea(), 'x509sign'))).toEqual(['AK_ATTRIBUTES'])
  })

  test.each(['stClear', 'userWithAuth', 'adminWithPolicy', 'noDA'] as const)(
    'may have %s or not',
    (attribute) => {
      expect(codesOf(flipped(eccArea(), attribute))).toEqual([])
    },
  )

  test('is refused without a scheme, so that no message chooses it', () => {
    expect(codesOf({ ...eccArea(), scheme: { kind: 'null' } })).toEqual(['AK_SCHEME'])
  })

  test.each([
    { kind: 'oaep', hash: 'sha256' },
    { kind: 'rsassa', hash: 'sha1' },
    { kind: 'rsapss', hash: 'sha1' },
    ECDSA,
  ] as const)('of RSA is refused with $kind and $hash', (scheme) => {
    expect(codesOf({ ...rsaArea(), scheme })).toEqual(['AK_SCHEME'])
  })

  test.each([{ kind: 'ecdsa', hash: 'sha1' }, RSASSA] as const)(
    'of ECC is refused with $kind and $hash',
    (scheme) => {
      expect(codesOf({ ...eccArea(), scheme })).toEqual(['AK_SCHEME'])
    },
  )

  test('is refused with a name of SHA-1', () => {
    expect(codesOf({ ...eccArea(), nameAlg: 'sha1' })).toEqual(['TPM_KEY_WEAK'])
  })

  test('of RSA is refused with 1024 bits', () => {
    const modulus = rsaArea().modulus.subarray(0, 128)
    expect(codesOf({ ...rsaArea(), keyBits: 1024, modulus })).toEqual(['TPM_KEY_WEAK'])
  })

  test.each([1, 3, 17, 65539, 0xffff_ffff])('of RSA is refused with exponent %i', (exponent) => {
    expect(codesOf({ ...rsaArea(), exponent })).toEqual(['TPM_KEY_WEAK'])
  })

  test('of RSA is refused with a modulus of another length than it says', () => {
    const { modulus } = rsaArea()
    const short = Uint8Array.from(modulus)
    short[0] = 0x7f
    expect(codesOf({ ...rsaArea(), modulus: modulus.subarray(1) })).toEqual(['TPM_KEY_INVALID'])
    expect(codesOf({ ...rsaArea(), modulus: short })).toEqual(['TPM_KEY_INVALID'])
    expect(codesOf({ ...rsaArea(), modulus: new Uint8Array() })).toEqual(['TPM_KEY_INVALID'])
  })

  test('of RSA is refused with the fingerprint of CVE-2017-15361', () => {
    expect(codesOf({ ...rsaArea(), modulus: rocaModulus() })).toEqual(['TPM_KEY_ROCA'])
  })

  test('of ECC is refused with a point beside its curve, on another one, or at infinity', () => {
    const { x, y } = eccArea()
    const zero = new Uint8Array(32)
    expect(codesOf({ ...eccArea(), x: y, y: x })).toEqual(['TPM_KEY_INVALID'])
    expect(codesOf({ ...eccArea(), curve: 'P-384' })).toEqual(['TPM_KEY_INVALID'])
    expect(codesOf({ ...eccArea('P-384'), curve: 'P-256' })).toEqual(['TPM_KEY_INVALID'])
    expect(codesOf({ ...eccArea(), x: zero, y: zero })).toEqual(['TPM_KEY_INVALID'])
    const empty = new Uint8Array()
    expect(codesOf({ ...eccArea(), x: empty, y: empty })).toEqual(['TPM_KEY_INVALID'])
  })

  test('is no storage key, no template and no endorsement key', () => {
    expect(codesOf(parsePublicArea(STORAGE_PRIMARY_TEMPLATE))).toContain('AK_ATTRIBUTES')
    expect(codesOf(parsePublicArea(attestationKeyTemplate('ecc-p256')))).toEqual([
      'TPM_KEY_INVALID',
    ])
    expect(codesOf(EK_TEMPLATES.rsa2048.area)).toContain('AK_ATTRIBUTES')
  })
})

describe('an endorsement key', () => {
  const codesOf = (area: PublicArea) => failures(verifyEndorsementKey(area)).map(({ code }) => code)
  const rsa = (): RsaArea => ({ ...asRsa(EK_TEMPLATES.rsa2048.area), modulus: rsaArea().modulus })
  const p256 = (): EccArea => ({
    ...asEcc(EK_TEMPLATES.eccP256.area),
    x: eccArea().x,
    y: eccArea().y,
  })
  const p384 = (): EccArea => {
    const { x, y } = eccArea('P-384')
    return { ...asEcc(EK_TEMPLATES.eccP384.area), x, y }
  }

  test('of a template is accepted', () => {
    for (const area of [rsa(), p256(), p384()]) expect(codesOf(area)).toEqual([])
  })

  test('has the policy that the profile publishes', () => {
    const policyA = '837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa'
    expect(EK_TEMPLATES.rsa2048.area.authPolicy).toEqual(fromHex(policyA))
    expect(EK_TEMPLATES.eccP256.area.authPolicy).toEqual(fromHex(policyA))
  })

  test.each(ALL_ATTRIBUTES)('is refused with %s other than the template has it', (attribute) => {
    for (const area of [rsa(), p256(), p384()]) {
      expect(codesOf(flipped(area, attribute))).toEqual(['EK_TEMPLATE'])
    }
  })

  test('is refused with another policy, scheme, symmetric cipher or name algorithm', () => {
    expect(codesOf({ ...p256(), authPolicy: new Uint8Array() })).toEqual(['EK_TEMPLATE'])
    expect(codesOf({ ...p256(), authPolicy: new Uint8Array(32) })).toEqual(['EK_TEMPLATE'])
    expect(codesOf({ ...p256(), scheme: ECDSA })).toEqual(['EK_TEMPLATE'])
    expect(codesOf({ ...p256(), symmetric: { keyBits: 256 } })).toEqual(['EK_TEMPLATE'])
    const { symmetric: _, ...without } = p256()
    expect(codesOf(without)).toEqual(['EK_TEMPLATE'])
    expect(codesOf({ ...p256(), nameAlg: 'sha384' })).toEqual(['EK_TEMPLATE'])
  })

  test('is refused with the parameters of another template', () => {
    expect(codesOf({ ...p384(), curve: 'P-256', x: p256().x, y: p256().y })).toEqual([
      'EK_TEMPLATE',
    ])
    const { modulus, keyBits } = asRsa(forgeKey(3072, RSASSA).area)
    expect(codesOf({ ...rsa(), keyBits, modulus })).toEqual(['EK_TEMPLATE'])
  })

  test('is refused where its key is weak', () => {
    expect(codesOf({ ...rsa(), exponent: 3 })).toEqual(['TPM_KEY_WEAK'])
    expect(codesOf({ ...rsa(), modulus: rocaModulus() })).toEqual(['TPM_KEY_ROCA'])
    expect(codesOf(EK_TEMPLATES.eccP256.area)).toEqual(['TPM_KEY_INVALID'])
  })
})

describe('a binding key', () => {
  const policy = new Uint8Array(32).fill(9)
  const key = (): RsaArea => {
    const area = asRsa(parsePublicArea(bindingKeyTemplate(policy)))
    return { ...area, modulus: rsaArea().modulus }
  }
  const codesOf = (publicArea: PublicArea, expectedAuthPolicy = policy) =>
    failures(verifyBindingKey({ publicArea, expectedAuthPolicy })).map(({ code }) => code)

  test('of the template is accepted', () => {
    expect(codesOf(key())).toEqual([])
  })

  test.each([
    ...(['decrypt', 'fixedTPM', 'fixedParent', 'sensitiveDataOrigin'] as const),
    ...(['userWithAuth', 'sign', 'restricted', 'encryptedDuplication'] as const),
  ])('is refused with %s other than it must be', (attribute) => {
    expect(codesOf(flipped(key(), attribute))).toEqual(['BINDING_KEY_ATTRIBUTES'])
  })

  test('is refused with another policy than the one over the quoted PCRs, or none', () => {
    expect(codesOf(key(), new Uint8Array(32))).toEqual(['BINDING_KEY_POLICY'])
    const authPolicy = new Uint8Array()
    expect(codesOf({ ...key(), authPolicy })).toEqual(['BINDING_KEY_POLICY'])
  })

  test('is refused with another scheme', () => {
    const schemes = [{ kind: 'null' }, { kind: 'oaep', hash: 'sha1' }, RSASSA] as const
    for (const scheme of schemes) {
      expect(codesOf({ ...key(), scheme })).toEqual(['BINDING_KEY_SCHEME'])
    }
    const ecc = { ...eccArea(), authPolicy: policy, attributes: key().attributes }
    expect(codesOf(ecc)).toEqual(['BINDING_KEY_SCHEME'])
  })

  test('is refused where it is weak', () => {
    expect(codesOf({ ...key(), exponent: 3 })).toEqual(['TPM_KEY_WEAK'])
    expect(codesOf({ ...key(), nameAlg: 'sha1' })).toEqual(['TPM_KEY_WEAK'])
    expect(codesOf({ ...key(), modulus: rocaModulus() })).toEqual(['TPM_KEY_ROCA'])
  })
})

test('moduli of sound generators have no fingerprint of CVE-2017-15361', () => {
  expect(hasRocaFingerprint(rsaArea().modulus)).toBe(false)
  expect(hasRocaFingerprint(rocaModulus())).toBe(true)
})
