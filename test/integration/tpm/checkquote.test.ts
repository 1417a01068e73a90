import { execFile } from 'node:child_process'
import { generateKeyPairSync, sign } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { fromBase64url, toHex } from '../../../src/core/bytes.js'
import { failures } from '../../../src/core/finding.js'
import {
  type Attest,
  attestationKeyTemplate,
  encodeAttest,
  encodeSignature,
  type PublicArea,
  parsePublicArea,
  pcrDigest,
  TPM_GENERATED,
  verifyQuote,
} from '../../../src/tpm/index.js'

const run = promisify(execFile)

const NONCE = new Uint8Array(32).fill(0x5e)
const SELECTION = { bank: 'sha256', pcrs: [0, 7] } as const
const VALUES = new Map(SELECTION.pcrs.map((pcr) => [pcr, new Uint8Array(32).fill(pcr)]))

/** An ordinary RSA key: no TPM ever had it. */
const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
const ak = publicArea()

const sound: Attest = {
  magic: TPM_GENERATED,
  type: 'quote',
  qualifiedSigner: new Uint8Array(34),
  extraData: NONCE,
  clockInfo: { clock: 1n, resetCount: 1, restartCount: 0, safe: true },
  firmwareVersion: 0n,
  selections: [SELECTION],
  pcrDigest: pcrDigest('sha256', [...VALUES.values()]),
}

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sgl-'))
  await writeFile(join(folder, 'ak.pem'), publicKey.export({ type: 'spki', format: 'pem' }))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

function publicArea(): PublicArea {
  const template = parsePublicArea(attestationKeyTemplate('rsa-2048'))
  if (template.type !== 'rsa') throw new TypeError('an RSA template')
  return { ...template, modulus: fromBase64url(publicKey.export({ format: 'jwk' }).n ?? '') }
}

function signed(attest: Uint8Array) {
  const signature = new Uint8Array(sign('sha256', attest, privateKey))
  return { attest, signature: encodeSignature({ kind: 'rsassa', hash: 'sha256', signature }) }
}

/** Whether `tpm2_checkquote` of tpm2-tools 5.4 accepts it. */
async function acceptedByTool(
  { attest, signature }: ReturnType<typeof signed>,
  nonce: Uint8Array,
): Promise<boolean> {
  const path = (name: string) => join(folder, name)
  await writeFile(path('msg'), attest)
  await writeFile(path('sig'), signature)
  const key = ['-u', path('ak.pem'), '-g', 'sha256', '-q', toHex(nonce)]
  return run('tpm2_checkquote', [...key, '-m', path('msg'), '-s', path('sig')]).then(
    () => true,
    () => false,
  )
}

function codes(bundle: ReturnType<typeof signed>, nonce = NONCE): readonly string[] {
  const input = { ...bundle, ak, expectedExtraData: nonce, selection: SELECTION, pcrValues: VALUES }
  return failures(verifyQuote(input).findings).map(({ code }) => code)
}

describe('beside tpm2_checkquote', () => {
  test('both accept the signature and nonce of a sound structure', async () => {
    const bundle = signed(encodeAttest(sound))
    expect(await acceptedByTool(bundle, NONCE)).toBe(true)
    expect(codes(bundle)).toEqual([])
  })

  test('both refuse another nonce', async () => {
    const bundle = signed(encodeAttest(sound))
    const nonce = NONCE.with(0, 0)
    expect(await acceptedByTool(bundle, nonce)).toBe(false)
    expect(codes(bundle, nonce)).toEqual(['QUOTE_NONCE'])
  })

  // CVE-2024-29038
  test.each([0xdeadbeef, 0, 0x474354ff])(
    'the tool accepts what no TPM made, with magic %i; Sigillo refuses it',
    async (magic) => {
      const bundle = signed(encodeAttest({ ...sound, magic }))
      expect(await acceptedByTool(bundle, NONCE)).toBe(true)
      expect(codes(bundle)).toEqual(['QUOTE_MAGIC'])
    },
  )
})
