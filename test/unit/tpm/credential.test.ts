import { describe, expect, test } from 'vitest'
import { fromHex, toHex } from '../../../src/core/bytes.js'
import {
  attestationKeyTemplate,
  EK_TEMPLATES,
  makeCredential,
  nameOf,
  parsePublicArea,
} from '../../../src/tpm/index.js'
import { openCredential } from '../../helpers/open-credential.js'
import { softwareKey } from '../../helpers/software-key.js'

const AK_NAME = fromHex(`000b${'a1'.repeat(32)}`)
const SECRET = fromHex('c3'.repeat(32))

describe.each([
  ['RSA-2048 with AES-128', EK_TEMPLATES.rsa2048, 256],
  ['P-256 with AES-128', EK_TEMPLATES.eccP256, 2 * (2 + 32)],
  ['P-384 with AES-256', EK_TEMPLATES.eccP384, 2 * (2 + 48)],
] as const)('a credential for an endorsement key %s', (_, template, encryptedOctets) => {
  const ek = softwareKey(template.area)
  const credential = makeCredential({ ek: ek.area, akName: AK_NAME, secret: SECRET })

  test('opens with the endorsement key and the name it was made for', () => {
    expect(toHex(openCredential(ek.area, ek.privateKey, AK_NAME, credential))).toBe(toHex(SECRET))
  })

  test('has the sizes that a TPM expects', () => {
    const digest = template.area.nameAlg === 'sha256' ? 32 : 48
    expect(credential.encryptedSecret).toHaveLength(2 + encryptedOctets)
    expect(credential.credentialBlob).toHaveLength(2 + 2 + digest + 2 + SECRET.length)
  })

  test('does not open for another name', () => {
    const other = nameOf(parsePublicArea(attestationKeyTemplate('ecc-p256')))
    expect(() => openCredential(ek.area, ek.privateKey, other, credential)).toThrow()
  })

  test('does not open with another endorsement key', () => {
    const { privateKey } = softwareKey(template.area)
    expect(() => openCredential(ek.area, privateKey, AK_NAME, credential)).toThrow()
  })

  test('does not open after a bit of it changed', () => {
    for (let index = 2; index < credential.credentialBlob.length; index += 1) {
      const octet = credential.credentialBlob[index] ?? 0
      const credentialBlob = credential.credentialBlob.with(index, octet ^ 1)
      expect(() =>
        openCredential(ek.area, ek.privateKey, AK_NAME, { ...credential, credentialBlob }),
      ).toThrow()
    }
  })

  test('is another one each time', () => {
    const again = makeCredential({ ek: ek.area, akName: AK_NAME, secret: SECRET })
    expect(toHex(again.encryptedSecret)).not.toBe(toHex(credential.encryptedSecret))
    expect(toHex(again.credentialBlob)).not.toBe(toHex(credential.credentialBlob))
  })

  test('carries the shortest and the longest secret', () => {
    const longest = template.area.nameAlg === 'sha256' ? 32 : 48
    for (const length of [1, longest]) {
      const secret = new Uint8Array(length).fill(7)
      const made = makeCredential({ ek: ek.area, akName: AK_NAME, secret })
      expect(toHex(openCredential(ek.area, ek.privateKey, AK_NAME, made))).toBe(toHex(secret))
    }
    const secret = new Uint8Array(longest + 1)
    expect(() => makeCredential({ ek: ek.area, akName: AK_NAME, secret })).toThrow(TypeError)
  })
})

test('makes no credential for a key that is no storage key', () => {
  const { area } = softwareKey(parsePublicArea(attestationKeyTemplate('ecc-p256')))
  expect(() => makeCredential({ ek: area, akName: AK_NAME, secret: SECRET })).toThrow(
    expect.objectContaining({ code: 'TPM_KEY_INVALID' }),
  )
})

test('makes no credential for a point that is not on its curve', () => {
  const { area } = softwareKey(EK_TEMPLATES.eccP256.area)
  if (area.type !== 'ecc') throw new TypeError('an ECC key')
  const ek = { ...area, y: area.x }
  expect(() => makeCredential({ ek, akName: AK_NAME, secret: SECRET })).toThrow(
    expect.objectContaining({ code: 'TPM_KEY_INVALID' }),
  )
})

test('makes no credential for an RSA key of 1024 bits', () => {
  const { area } = EK_TEMPLATES.rsa2048
  if (area.type !== 'rsa') throw new TypeError('an RSA key')
  const ek = { ...area, keyBits: 1024, modulus: new Uint8Array(128).fill(0xff) }
  expect(() => makeCredential({ ek, akName: AK_NAME, secret: SECRET })).toThrow(
    expect.objectContaining({ code: 'TPM_KEY_WEAK' }),
  )
})
