import { expect, test } from 'vitest'
import { concat, fromHex, toHex } from '../../../src/core/bytes.js'
import {
  attestationKeyTemplate,
  EK_TEMPLATES,
  encodePublicArea,
  encodeTpm2bPublic,
  nameOf,
  parsePublicArea,
  parseTpm2bPublic,
  publicKeyOf,
} from '../../../src/tpm/index.js'
import { softwareKey } from '../../helpers/software-key.js'

const template = parsePublicArea(attestationKeyTemplate('ecc-p256'))
const area = newEccArea()
const octets = encodePublicArea(area)

function newEccArea() {
  const key = softwareKey(template).area
  if (key.type !== 'ecc') throw new TypeError('an ECC key')
  return key
}

/** Octets of the P-256 attestation key: type 0, nameAlg 2, attributes 4, policy 8, symmetric 10, scheme 12, curve 16. */
function patched(offset: number, hex: string): Uint8Array {
  const copy = octets.slice()
  copy.set(fromHex(hex), offset)
  return copy
}

test('reads the public area of an attestation key', () => {
  expect(parsePublicArea(octets)).toMatchObject({
    type: 'ecc',
    nameAlg: 'sha256',
    curve: 'P-256',
    scheme: { kind: 'ecdsa', hash: 'sha256' },
    attributes: { restricted: true, sign: true, decrypt: false, fixedTPM: true },
  })
})

test('reads a public area with its size before it', () => {
  expect(parseTpm2bPublic(encodeTpm2bPublic(area))).toEqual(area)
})

test.each([
  ['a keyed hash object', patched(0, '0008')],
  ['a symmetric key', patched(0, '0025')],
  ['a name algorithm that is not known', patched(2, '0012')],
  ['no name algorithm', patched(2, '0010')],
  ['a reserved attribute', patched(4, '80000000')],
  ['a storage cipher other than AES', patched(10, '0026')],
  ['the scheme ECDAA', patched(12, '001a')],
  ['a scheme with an unknown hash', patched(14, '0012')],
  ['the curve P-192', patched(16, '0001')],
  ['the curve P-224', patched(16, '0002')],
  ['the curve BN-256', patched(16, '0010')],
  ['the curve SM2', patched(16, '0020')],
  ['a key derivation scheme', patched(18, '0020')],
])('refuses to read %s', (_, wrong) => {
  expect(() => parsePublicArea(wrong)).toThrow(expect.objectContaining({ code: 'DECODE_VALUE' }))
})

test('refuses octets behind a public area, inside and outside of its size', () => {
  const trailing = expect.objectContaining({ code: 'DECODE_TRAILING' })
  expect(() => parsePublicArea(concat(octets, Uint8Array.of(0)))).toThrow(trailing)
  expect(() => parseTpm2bPublic(concat(encodeTpm2bPublic(area), Uint8Array.of(0)))).toThrow(
    trailing,
  )
})

test('refuses a public area that is cut short anywhere', () => {
  for (let length = 0; length < octets.length; length += 1) {
    expect(() => parsePublicArea(octets.subarray(0, length))).toThrow(
      expect.objectContaining({ code: 'DECODE_TRUNCATED' }),
    )
  }
})

test.each([
  ['policy', 8],
  ['coordinate', 20],
])('refuses a %s larger than any TPM has, before reading it', (_, offset) => {
  expect(() => parsePublicArea(patched(offset, 'ffff'))).toThrow(
    expect.objectContaining({ code: 'DECODE_TOO_LARGE' }),
  )
})

test('computes the same name of octets and of what was read from them', () => {
  expect(toHex(nameOf(octets))).toBe(toHex(nameOf(area)))
  expect(toHex(nameOf(octets))).toMatch(/^000b[0-9a-f]{64}$/)
  expect(nameOf(EK_TEMPLATES.eccP384.area)).toHaveLength(2 + 48)
})

test('gives another name to a key with another attribute', () => {
  const other = { ...area, attributes: { ...area.attributes, restricted: false } }
  expect(toHex(nameOf(other))).not.toBe(toHex(nameOf(area)))
})

test('accepts a coordinate without the leading zeros that TPMs may leave out', () => {
  for (;;) {
    const key = newEccArea()
    if (key.x[0] !== 0) continue
    const short = { ...key, x: key.x.subarray(key.x.findIndex((octet) => octet !== 0)) }
    expect(publicKeyOf(short).equals(publicKeyOf(key))).toBe(true)
    return
  }
})

test('refuses a point that is not on its curve', () => {
  const y = area.y.slice()
  y[31] = (y[31] ?? 0) ^ 1
  expect(() => publicKeyOf({ ...area, y })).toThrow(
    expect.objectContaining({ code: 'TPM_KEY_INVALID' }),
  )
})

test('refuses a coordinate longer than its field', () => {
  const x = concat(Uint8Array.of(0), area.x)
  expect(() => publicKeyOf({ ...area, x })).toThrow(
    expect.objectContaining({ code: 'TPM_KEY_INVALID' }),
  )
})

const rsa = parsePublicArea(attestationKeyTemplate('rsa-2048'))

function modulus(bits: number): Uint8Array {
  const value = new Uint8Array(bits / 8).fill(0x55)
  value[0] = 0xc5
  return value
}

test.each([
  [{ keyBits: 1024, modulus: modulus(1024) }, 'TPM_KEY_WEAK'],
  [{ keyBits: 2056, modulus: modulus(2056) }, 'TPM_KEY_WEAK'],
  [{ exponent: 3, modulus: modulus(2048) }, 'TPM_KEY_WEAK'],
  [{ modulus: modulus(1024) }, 'TPM_KEY_INVALID'],
  [{ modulus: modulus(2048).fill(0, 0, 1) }, 'TPM_KEY_INVALID'],
  [{}, 'TPM_KEY_INVALID'],
])('refuses an RSA key that is too weak or of another length than said (%#)', (change, code) => {
  if (rsa.type !== 'rsa') throw new TypeError('an RSA key')
  expect(() => publicKeyOf({ ...rsa, ...change })).toThrow(expect.objectContaining({ code }))
})

test.each([0, 65537])('takes exponent %i for 65537', (exponent) => {
  if (rsa.type !== 'rsa') throw new TypeError('an RSA key')
  const key = publicKeyOf({ ...rsa, exponent, modulus: modulus(2048) })
  expect(key.asymmetricKeyDetails).toMatchObject({ modulusLength: 2048, publicExponent: 65537n })
})
