import { randomBytes } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { openTpm } from '../../../native/index.js'
import { toHex } from '../../../src/core/bytes.js'
import { failures } from '../../../src/core/finding.js'
import {
  type AttestationKeyKind,
  attestationKeyTemplate,
  bindingKeyTemplate,
  type HashName,
  type LoadedKey,
  nameOf,
  parsePublicArea,
  pcrDigest,
  policyPcrDigest,
  STORAGE_PRIMARY_TEMPLATE,
  type Tpm,
  verifyAttestationKey,
  verifyBindingKey,
  verifyCertify,
  verifyQuote,
} from '../../../src/tpm/index.js'
import { startBareTpm } from '../../helpers/bare-swtpm.js'

const KINDS: readonly AttestationKeyKind[] = [
  ...(['ecc-p256', 'ecc-p384', 'rsa-2048', 'rsa-2048-pss', 'rsa-3072'] as const),
]
const BANKS: readonly HashName[] = ['sha256', 'sha384', 'sha512']
const PCRS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 14, 16, 23]

async function makeKey(
  tpm: Tpm,
  template: Uint8Array,
): Promise<{ readonly key: LoadedKey; readonly parent: LoadedKey }> {
  const parent = await tpm.createPrimary('endorsement', STORAGE_PRIMARY_TEMPLATE)
  return { parent, key: await tpm.load(parent, await tpm.create(parent, template)) }
}

/** A fresh quote and what a verifier compares it with. */
async function quoteOf(tpm: Tpm, key: LoadedKey, bank: HashName) {
  const expectedExtraData = randomBytes(32)
  const quoted = await tpm.quote({ key, qualifyingData: expectedExtraData, bank, pcrs: PCRS })
  const pcrValues = await tpm.pcrRead(bank, PCRS)
  const ak = parsePublicArea(key.publicArea)
  return { ...quoted, ak, expectedExtraData, selection: { bank, pcrs: PCRS }, pcrValues }
}

const codesOf = (input: Parameters<typeof verifyQuote>[0]) =>
  failures(verifyQuote(input).findings).map(({ code }) => code)

describe.each(KINDS)('a TPM with an attestation key %s', (kind) => {
  test('makes quotes that are accepted in every bank, and refused for another', async () => {
    await using software = await startBareTpm()
    await using tpm = await openTpm(software)
    const { key } = await makeKey(tpm, attestationKeyTemplate(kind))
    const ak = parsePublicArea(key.publicArea)
    expect(failures(verifyAttestationKey(ak))).toEqual([])
    expect(toHex(nameOf(ak))).toBe(toHex(key.name))
    const { activeBanks } = await tpm.properties()
    for (const bank of BANKS.filter((name) => activeBanks.includes(name))) {
      const quote = await quoteOf(tpm, key, bank)
      expect(codesOf(quote)).toEqual([])
      const nonce = { ...quote, expectedExtraData: randomBytes(32) }
      expect(codesOf(nonce)).toEqual(['QUOTE_NONCE'])
      const selection = { bank, pcrs: PCRS.slice(1) }
      expect(codesOf({ ...quote, selection })).toContain('QUOTE_SELECTION')
      await tpm.pcrExtend(16, [{ bank, digest: pcrDigest(bank, []) }])
      const later = { ...quote, pcrValues: await tpm.pcrRead(bank, PCRS) }
      expect(codesOf(later)).toEqual(['QUOTE_PCR_DIGEST'])
    }
  })

  test('certifies a binding key of its own, and a certification of another is refused', async () => {
    await using software = await startBareTpm()
    await using tpm = await openTpm(software)
    const { key: signer, parent } = await makeKey(tpm, attestationKeyTemplate(kind))
    const selection = { bank: 'sha256', pcrs: [0, 7] } as const
    const values = await tpm.pcrRead('sha256', selection.pcrs)
    const policy = policyPcrDigest(selection, pcrDigest('sha256', [...values.values()]))
    const blob = await tpm.create(parent, bindingKeyTemplate(policy))
    const binding = await tpm.load(parent, blob)
    const publicArea = parsePublicArea(binding.publicArea)
    expect(failures(verifyBindingKey({ publicArea, expectedAuthPolicy: policy }))).toEqual([])

    const nonce = randomBytes(32)
    const ak = parsePublicArea(signer.publicArea)
    const certification = await tpm.certify(binding, signer, nonce)
    const input = { ...certification, ak, expectedExtraData: nonce, certified: publicArea }
    const codes = (changed: Partial<typeof input>) =>
      failures(verifyCertify({ ...input, ...changed }).findings).map(({ code }) => code)
    expect(codes({})).toEqual([])
    expect(codes({ certified: ak })).toEqual(['CERTIFY_NAME'])
    expect(codes({ expectedExtraData: randomBytes(32) })).toEqual(['CERTIFY_NONCE'])
    const quote = await quoteOf(tpm, signer, 'sha256')
    expect(codesOf({ ...quote, ...certification })).toContain('QUOTE_TYPE')
    expect(codes(quote)).toContain('CERTIFY_TYPE')
  })
})

test('a quote of one TPM is refused under the key of another', async () => {
  await using first = await startBareTpm()
  await using second = await startBareTpm()
  await using tpm = await openTpm(first)
  await using other = await openTpm(second)
  const { key } = await makeKey(tpm, attestationKeyTemplate('ecc-p256'))
  const { key: foreign } = await makeKey(other, attestationKeyTemplate('ecc-p256'))
  const quote = await quoteOf(tpm, key, 'sha256')
  const ak = parsePublicArea(foreign.publicArea)
  expect(codesOf({ ...quote, ak })).toEqual(['QUOTE_SIGNATURE'])
})

test('a TPM that dies in a loop of quotes fails the one under way, and every one after it', async () => {
  await using software = await startBareTpm()
  await using tpm = await openTpm(software)
  const { key } = await makeKey(tpm, attestationKeyTemplate('ecc-p256'))
  const request = { key, qualifyingData: new Uint8Array(32), bank: 'sha256', pcrs: PCRS } as const
  const refusals: unknown[] = []
  let made = 0
  let killed: Promise<void> | undefined
  while (refusals.length < 3) {
    const quoting = tpm.quote(request)
    if (made === 50) killed ??= software.kill()
    await quoting.then(
      () => {
        made += 1
      },
      (error: unknown) => refusals.push(error),
    )
  }
  await killed
  expect(made).toBeGreaterThanOrEqual(50)
  for (const refusal of refusals) expect(refusal).toMatchObject({ code: 'TPM_UNREACHABLE' })
})
