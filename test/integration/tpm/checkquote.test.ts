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

/** Whether `tpm2_checkquote` of tpm2-tools 5.4 accepts it, with a file of PCRs and their values where one is given. */
async function acceptedByTool(
  { attest, signature }: ReturnType<typeof signed>,
  nonce: Uint8Array,
  pcrFile?: Uint8Array,
): Promise<boolean> {
  const path = (name: string) => join(folder, name)
  await writeFile(path('msg'), attest)
  await writeFile(path('sig'), signature)
  const args = ['-u', path('ak.pem'), '-g', 'sha256', '-q', toHex(nonce)]
  args.push('-m', path('msg'), '-s', path('sig'))
  if (pcrFile) {
    await writeFile(path('pcrs'), pcrFile)
    args.push('-f', path('pcrs'))
  }
  return run('tpm2_checkquote', args).then(
    () => true,
    () => false,
  )
}

/**
 * The file that `tpm2_quote -o` writes: C structures as they lie in memory, a TPML_PCR_SELECTION of one bank with room
 * for 16, then one TPML_DIGEST with room for 8.
 */
function pcrFileOf(pcrs: readonly number[], values: readonly Uint8Array[]): Uint8Array {
  const file = Buffer.alloc(668)
  file.writeUInt32LE(1, 0)
  file.writeUInt16LE(0x000b, 4)
  file.writeUInt8(3, 6)
  for (const pcr of pcrs)
    file.writeUInt8(file.readUInt8(7 + (pcr >> 3)) | (1 << (pcr & 7)), 7 + (pcr >> 3))
  file.writeUInt32LE(1, 132)
  file.writeUInt32LE(values.length, 136)
  for (const [index, value] of values.entries()) {
    file.writeUInt16LE(value.length, 140 + index * 66)
    file.set(value, 142 + index * 66)
  }
  return file
}

type QuoteInput = Parameters<typeof verifyQuote>[0]

function codes(
  bundle: ReturnType<typeof signed>,
  change: Partial<QuoteInput> = {},
): readonly string[] {
  const asked = { expectedExtraData: NONCE, selection: SELECTION, pcrValues: VALUES }
  return failures(verifyQuote({ ...bundle, ak, ...asked, ...change }).findings).map(
    ({ code }) => code,
  )
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
    expect(codes(bundle, { expectedExtraData: nonce })).toEqual(['QUOTE_NONCE'])
  })

  test('both refuse other values of the PCRs', async () => {
    const bundle = signed(encodeAttest(sound))
    const values = [...VALUES.values()]
    expect(await acceptedByTool(bundle, NONCE, pcrFileOf(SELECTION.pcrs, values))).toBe(true)
    const others = values.toReversed()
    expect(await acceptedByTool(bundle, NONCE, pcrFileOf(SELECTION.pcrs, others))).toBe(false)
    const pcrValues = new Map(SELECTION.pcrs.map((pcr, index) => [pcr, others[index] ?? NONCE]))
    expect(codes(bundle, { pcrValues })).toEqual(['QUOTE_PCR_DIGEST'])
  })

  // CVE-2024-29039
  test('the tool accepts values under the numbers of other PCRs; Sigillo refuses them', async () => {
    const bundle = signed(encodeAttest(sound))
    const claimed = [3, 7]
    const values = [...VALUES.values()]
    expect(await acceptedByTool(bundle, NONCE, pcrFileOf(claimed, values))).toBe(true)
    const pcrValues = new Map(claimed.map((pcr, index) => [pcr, values[index] ?? NONCE]))
    expect(codes(bundle, { selection: { bank: 'sha256', pcrs: claimed }, pcrValues })).toEqual([
      'QUOTE_SELECTION',
    ])
    expect(codes(bundle, { pcrValues })).toEqual(['QUOTE_PCR_VALUES'])
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
