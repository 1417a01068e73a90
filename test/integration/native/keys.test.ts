import { constants, randomBytes, verify } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { openTpm } from '../../../native/index.js'
import { concat, toHex } from '../../../src/core/bytes.js'
import {
  type AttestationKeyKind,
  attestationKeyTemplate,
  bindingKeyTemplate,
  type KeyBlob,
  type LoadedKey,
  nameOf,
  parseAttest,
  parsePublicArea,
  parseSignature,
  pcrDigest,
  policyPcrDigest,
  publicKeyOf,
  STORAGE_PRIMARY_TEMPLATE,
  type Tpm,
} from '../../../src/tpm/index.js'
import { startBareTpm } from '../../helpers/bare-swtpm.js'
import { handlesLeft, tpm2 } from './tpm2-tools.js'

const PCRS = [0, 4, 7]

describe('keys in a TPM', () => {
  test('a key is the same key when it is loaded again under the same primary', async () => {
    await using software = await startBareTpm()
    const { blob, name } = await (async () => {
      await using tpm = await openTpm(software)
      const parent = await tpm.createPrimary('endorsement', STORAGE_PRIMARY_TEMPLATE)
      const made = await tpm.create(parent, attestationKeyTemplate('ecc-p256'))
      return { blob: made, name: (await tpm.load(parent, made)).name }
    })()
    await using tpm = await openTpm(software)
    const parent = await tpm.createPrimary('endorsement', STORAGE_PRIMARY_TEMPLATE)
    const again = await tpm.load(parent, blob)
    expect(toHex(again.name)).toBe(toHex(name))
    expect(toHex(again.name)).toBe(toHex(nameOf(parsePublicArea(again.publicArea))))
  })

  test('a key does not load under another primary, or with another public area', async () => {
    await using software = await startBareTpm()
    await using tpm = await openTpm(software)
    const parent = await tpm.createPrimary('endorsement', STORAGE_PRIMARY_TEMPLATE)
    const other = await tpm.createPrimary('owner', STORAGE_PRIMARY_TEMPLATE)
    const blob = await tpm.create(parent, attestationKeyTemplate('ecc-p256'))
    const { publicBlob } = await tpm.create(parent, attestationKeyTemplate('ecc-p256'))
    await expect(tpm.load(other, blob)).rejects.toMatchObject({ code: 'TPM_RC' })
    await expect(tpm.load(parent, { ...blob, publicBlob })).rejects.toMatchObject({
      code: 'TPM_RC',
    })
    const trailing: KeyBlob = { ...blob, privateBlob: concat(blob.privateBlob, Uint8Array.of(0)) }
    await expect(tpm.load(parent, trailing)).rejects.toMatchObject({ code: 'DECODE_VALUE' })
  })

  test('a key that was flushed is not to be used', async () => {
    await using software = await startBareTpm()
    await using tpm = await openTpm(software)
    const parent = await tpm.createPrimary('endorsement', STORAGE_PRIMARY_TEMPLATE)
    await tpm.flush(parent)
    const creating = tpm.create(parent, attestationKeyTemplate('ecc-p256'))
    await expect(creating).rejects.toMatchObject({ code: 'TPM_RC' })
    await expect(tpm.flush(parent)).rejects.toMatchObject({ code: 'TPM_RC' })
  })

  test('a refusal names the response code and the parameter of the standard', async () => {
    await using software = await startBareTpm()
    await using tpm = await openTpm(software)
    const template = attestationKeyTemplate('ecc-p256')
    // TPM2_CreatePrimary makes no child of a key that cannot be one: a restricted signing key is no parent
    const signing = await tpm.createPrimary('endorsement', template)
    await expect(tpm.create(signing, template)).rejects.toMatchObject({
      code: 'TPM_RC',
      // TPM_RC_TYPE, handle 1
      rc: 0x18a,
      message: expect.stringMatching(/^Create: tpm:handle\(1\):.*0x18a\)?$/),
    })
  })

  test('the slots of the TPM are named when they are full', async () => {
    await using software = await startBareTpm()
    await using tpm = await openTpm(software)
    for (let slots = 3; slots > 0; slots -= 1) {
      await tpm.createPrimary('endorsement', STORAGE_PRIMARY_TEMPLATE)
    }
    const fourth = tpm.createPrimary('endorsement', STORAGE_PRIMARY_TEMPLATE)
    // TPM_RC_OBJECT_MEMORY
    await expect(fourth).rejects.toMatchObject({ code: 'TPM_RC', rc: 0x902 })
  })
})

describe('quotes', () => {
  test.each<AttestationKeyKind>(['ecc-p256', 'ecc-p384', 'rsa-2048', 'rsa-2048-pss'])(
    'a quote by a %s key is signed by it over the nonce and the PCRs',
    async (kind) => {
      await using software = await startBareTpm()
      await using tpm = await openTpm(software)
      const { key } = await makeAttestationKey(tpm, kind)
      const nonce = randomBytes(32)
      await tpm.pcrExtend(4, [{ bank: 'sha256', digest: randomBytes(32) }])
      const { attest, signature } = await tpm.quote({
        ...{ key, qualifyingData: nonce, bank: 'sha256', pcrs: PCRS },
      })
      expect(isSignedBy(key, attest, signature)).toBe(true)
      const altered = Uint8Array.from(attest)
      altered[altered.length - 1] = (altered[altered.length - 1] ?? 0) ^ 1
      expect(isSignedBy(key, altered, signature)).toBe(false)

      const quote = parseAttest(attest)
      expect(quote).toMatchObject({ type: 'quote', selections: [{ bank: 'sha256', pcrs: PCRS }] })
      expect(toHex(quote.extraData)).toBe(toHex(nonce))
      const values = await tpm.pcrRead('sha256', PCRS)
      const { hash } = parseSignature(signature)
      const digest = pcrDigest(
        hash,
        PCRS.map((pcr) => values.get(pcr) ?? new Uint8Array()),
      )
      expect(quote.type === 'quote' && toHex(quote.pcrDigest)).toBe(toHex(digest))
    },
  )

  test('a nonce of more than 32 octets is not quoted', async () => {
    await using software = await startBareTpm()
    await using tpm = await openTpm(software)
    const { key } = await makeAttestationKey(tpm, 'ecc-p256')
    const quoting = tpm.quote({ key, qualifyingData: randomBytes(33), bank: 'sha256', pcrs: PCRS })
    await expect(quoting).rejects.toThrow(TypeError)
  })

  test('a bank that is not active is not quoted and not read', async () => {
    await using software = await startBareTpm()
    await tpm2('pcrallocate', ['sha256:all+sha384:none+sha512:none+sha1:none'], software.tcti)
    await software.restart()
    await using tpm = await openTpm(software)
    const { key } = await makeAttestationKey(tpm, 'ecc-p256')
    const qualifyingData = randomBytes(32)
    const quoting = tpm.quote({ key, qualifyingData, bank: 'sha384', pcrs: PCRS })
    await expect(quoting).rejects.toMatchObject({ code: 'TPM_ANSWER' })
    await expect(tpm.pcrRead('sha384', PCRS)).rejects.toMatchObject({ code: 'TPM_BANK' })
  })

  test('500 quotes leave no session and no object in the TPM', async () => {
    await using software = await startBareTpm()
    {
      await using tpm = await openTpm(software)
      const { key } = await makeAttestationKey(tpm, 'ecc-p256')
      for (let count = 0; count < 500; count += 1) {
        await tpm.quote({ key, qualifyingData: randomBytes(32), bank: 'sha256', pcrs: PCRS })
      }
    }
    expect(await handlesLeft(software.tcti)).toEqual([])
  })
})

describe('certification', () => {
  test('an attestation key certifies the name of a binding key', async () => {
    await using software = await startBareTpm()
    await using tpm = await openTpm(software)
    const { key, parent } = await makeAttestationKey(tpm, 'ecc-p256')
    const policy = policyPcrDigest({ bank: 'sha256', pcrs: PCRS }, randomBytes(32))
    const binding = await tpm.load(parent, await tpm.create(parent, bindingKeyTemplate(policy)))
    const nonce = randomBytes(20)
    const { attest, signature } = await tpm.certify(binding, key, nonce)
    expect(isSignedBy(key, attest, signature)).toBe(true)
    const certified = parseAttest(attest)
    expect(certified.type === 'certify' && toHex(certified.name)).toBe(toHex(binding.name))
    expect(toHex(certified.extraData)).toBe(toHex(nonce))
  })

  test('a certification of another key than the one that was named is refused', async () => {
    await using software = await startBareTpm()
    await using tpm = await openTpm(software)
    const { key, parent } = await makeAttestationKey(tpm, 'ecc-p256')
    const mistaken: LoadedKey = { ...parent, name: key.name }
    const certifying = tpm.certify(mistaken, key, randomBytes(20))
    await expect(certifying).rejects.toMatchObject({ code: 'TPM_ANSWER' })
  })
})

async function makeAttestationKey(
  tpm: Tpm,
  kind: AttestationKeyKind,
): Promise<{ readonly parent: LoadedKey; readonly key: LoadedKey }> {
  const parent = await tpm.createPrimary('endorsement', STORAGE_PRIMARY_TEMPLATE)
  const key = await tpm.load(parent, await tpm.create(parent, attestationKeyTemplate(kind)))
  return { parent, key }
}

/** By node:crypto, from r and s or the RSA signature as the TPM gave them. */
function isSignedBy({ publicArea }: LoadedKey, attest: Uint8Array, octets: Uint8Array): boolean {
  const signature = parseSignature(octets)
  const area = parsePublicArea(publicArea)
  const key = publicKeyOf(area)
  if (signature.kind === 'ecdsa') {
    const size = area.type === 'ecc' && area.curve === 'P-384' ? 48 : 32
    const padded = (value: Uint8Array) => concat(new Uint8Array(size - value.length), value)
    const ieee = concat(padded(signature.r), padded(signature.s))
    return verify(signature.hash, attest, { key, dsaEncoding: 'ieee-p1363' }, ieee)
  }
  const padding =
    signature.kind === 'rsassa' ? constants.RSA_PKCS1_PADDING : constants.RSA_PKCS1_PSS_PADDING
  return verify(signature.hash, attest, { key, padding }, signature.signature)
}
