import { constants, publicEncrypt, randomBytes } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { openTpm, TpmError } from '../../../native/index.js'
import { toHex } from '../../../src/core/bytes.js'
import {
  attestationKeyTemplate,
  bindingKeyTemplate,
  EK_TEMPLATES,
  encodeSized,
  type LoadedKey,
  makeCredential,
  parsePublicArea,
  pcrDigest,
  policyPcrDigest,
  publicKeyOf,
  STORAGE_PRIMARY_TEMPLATE,
  type Tpm,
} from '../../../src/tpm/index.js'
import { startBareTpm } from '../../helpers/bare-swtpm.js'
import { handlesLeft, makeCredentialWithTools } from './tpm2-tools.js'

const POLICY = { bank: 'sha256', pcrs: [0, 7, 16] } as const
/** With a policy of PolicySecret, without user authorisation; and, of the high range, with it. */
const ENDORSEMENT_KEYS = ['rsa2048', 'eccP256', 'eccP384'] as const

describe('activation of a credential', () => {
  test.each(ENDORSEMENT_KEYS)(
    'opens what tpm2-tools made for the %s endorsement key',
    async (ekKind) => {
      await using software = await startBareTpm()
      await using tpm = await openTpm(software)
      const { ek, ak } = await makeIdentity(tpm, ekKind)
      const secret = randomBytes(32)
      const { credentialBlob, encryptedSecret } = await makeCredentialWithTools({
        ekPublicBlob: encodeSized(ek.publicArea),
        akName: ak.name,
        secret,
      })
      const opened = await tpm.activateCredential(ek, ak, credentialBlob, encryptedSecret)
      expect(toHex(opened)).toBe(toHex(secret))
    },
  )

  test.each(ENDORSEMENT_KEYS)(
    'opens what our verifier made for the %s endorsement key',
    async (ekKind) => {
      await using software = await startBareTpm()
      await using tpm = await openTpm(software)
      const { ek, ak } = await makeIdentity(tpm, ekKind)
      const secret = randomBytes(32)
      const { credentialBlob, encryptedSecret } = makeCredential({
        ek: parsePublicArea(ek.publicArea),
        akName: ak.name,
        secret,
      })
      const opened = await tpm.activateCredential(ek, ak, credentialBlob, encryptedSecret)
      expect(toHex(opened)).toBe(toHex(secret))
    },
  )

  test('refuses a credential for another attestation key, or altered, and works afterwards', async () => {
    await using software = await startBareTpm()
    {
      await using tpm = await openTpm(software)
      const { ek, ak } = await makeIdentity(tpm, 'rsa2048')
      const ekArea = parsePublicArea(ek.publicArea)
      const secret = randomBytes(32)
      const elsewhere = Uint8Array.from(ak.name)
      elsewhere[33] = (elsewhere[33] ?? 0) ^ 1
      const theirs = makeCredential({ ek: ekArea, akName: elsewhere, secret })
      const refused = tpm.activateCredential(ek, ak, theirs.credentialBlob, theirs.encryptedSecret)
      // TPM_RC_INTEGRITY, parameter 1
      await expect(refused).rejects.toMatchObject({ code: 'TPM_RC', rc: 0x1df })

      const ours = makeCredential({ ek: ekArea, akName: ak.name, secret })
      const altered = Uint8Array.from(ours.credentialBlob)
      altered[altered.length - 1] = (altered[altered.length - 1] ?? 0) ^ 1
      const alteredRefused = tpm.activateCredential(ek, ak, altered, ours.encryptedSecret)
      await expect(alteredRefused).rejects.toMatchObject({ code: 'TPM_RC' })
      const short = ours.credentialBlob.subarray(0, 20)
      const shortRefused = tpm.activateCredential(ek, ak, short, ours.encryptedSecret)
      await expect(shortRefused).rejects.toMatchObject({ code: 'DECODE_VALUE' })

      const opened = tpm.activateCredential(ek, ak, ours.credentialBlob, ours.encryptedSecret)
      expect(toHex(await opened)).toBe(toHex(secret))
    }
    expect(await handlesLeft(software.tcti)).toEqual([])
  })
})

describe('a binding key', () => {
  test('decrypts while the PCRs are as its policy has them', async () => {
    await using software = await startBareTpm()
    {
      await using tpm = await openTpm(software)
      const key = await makeBindingKey(tpm)
      for (let count = 0; count < 5; count += 1) {
        const secret = randomBytes(32)
        const opened = await tpm.rsaDecryptWithPcrPolicy(key, POLICY, encryptFor(key, secret))
        expect(toHex(opened)).toBe(toHex(secret))
      }
    }
    expect(await handlesLeft(software.tcti)).toEqual([])
  })

  test('does not decrypt after a PCR of its policy changed', async () => {
    await using software = await startBareTpm()
    {
      await using tpm = await openTpm(software)
      const key = await makeBindingKey(tpm)
      const ciphertext = encryptFor(key, randomBytes(32))
      await tpm.pcrExtend(16, [{ bank: 'sha256', digest: randomBytes(32) }])
      for (let count = 0; count < 5; count += 1) {
        const error = await tpm
          .rsaDecryptWithPcrPolicy(key, POLICY, ciphertext)
          .catch((thrown: unknown) => thrown)
        expect(error).toBeInstanceOf(TpmError)
        // TPM_RC_POLICY_FAIL, session 1
        expect(error).toMatchObject({ code: 'TPM_POLICY_FAIL', rc: 0x99d })
      }
    }
    expect(await handlesLeft(software.tcti)).toEqual([])
  })

  test('does not decrypt under a policy of other PCRs than its own', async () => {
    await using software = await startBareTpm()
    await using tpm = await openTpm(software)
    const key = await makeBindingKey(tpm)
    const decrypting = tpm.rsaDecryptWithPcrPolicy(
      key,
      { bank: 'sha256', pcrs: [0, 7] },
      encryptFor(key, randomBytes(32)),
    )
    await expect(decrypting).rejects.toMatchObject({ code: 'TPM_POLICY_FAIL' })
  })

  test('says so where a ciphertext is not for it, and decrypts the next one', async () => {
    await using software = await startBareTpm()
    await using tpm = await openTpm(software)
    const key = await makeBindingKey(tpm)
    const secret = randomBytes(32)
    const good = encryptFor(key, secret)
    const altered = Uint8Array.from(good)
    altered[100] = (altered[100] ?? 0) ^ 1
    const wrong = [
      altered,
      encryptFor(key, secret, 'sha1'),
      encryptFor(key, secret, 'sha256', Buffer.from('label\0')),
      good.subarray(1),
      new Uint8Array(256).fill(0xff),
    ]
    for (const ciphertext of wrong) {
      const decrypting = tpm.rsaDecryptWithPcrPolicy(key, POLICY, ciphertext)
      await expect(decrypting).rejects.toMatchObject({ code: 'TPM_DECRYPT_FAILED' })
    }
    expect(toHex(await tpm.rsaDecryptWithPcrPolicy(key, POLICY, good))).toBe(toHex(secret))
  })
})

async function makeIdentity(
  tpm: Tpm,
  ekKind: (typeof ENDORSEMENT_KEYS)[number],
): Promise<{ readonly ek: LoadedKey; readonly ak: LoadedKey }> {
  const parent = await tpm.createPrimary('endorsement', STORAGE_PRIMARY_TEMPLATE)
  const blob = await tpm.create(parent, attestationKeyTemplate('ecc-p256'))
  const ak = await tpm.load(parent, blob)
  await tpm.flush(parent)
  return { ek: await tpm.createPrimary('endorsement', EK_TEMPLATES[ekKind].publicArea), ak }
}

/** A key whose policy is `POLICY` over the values of now. */
async function makeBindingKey(tpm: Tpm): Promise<LoadedKey> {
  const values = await tpm.pcrRead(POLICY.bank, POLICY.pcrs)
  const digest = pcrDigest(
    'sha256',
    POLICY.pcrs.map((pcr) => values.get(pcr) ?? new Uint8Array()),
  )
  const parent = await tpm.createPrimary('endorsement', STORAGE_PRIMARY_TEMPLATE)
  const template = bindingKeyTemplate(policyPcrDigest(POLICY, digest))
  const key = await tpm.load(parent, await tpm.create(parent, template))
  await tpm.flush(parent)
  return key
}

function encryptFor(
  { publicArea }: LoadedKey,
  secret: Uint8Array,
  oaepHash = 'sha256',
  oaepLabel?: Buffer,
): Uint8Array {
  const key = publicKeyOf(parsePublicArea(publicArea))
  const padding = constants.RSA_PKCS1_OAEP_PADDING
  return publicEncrypt({ key, padding, oaepHash, ...(oaepLabel ? { oaepLabel } : {}) }, secret)
}
