import { expect, test } from 'vitest'
import { concat, fromHex } from '../../../src/core/bytes.js'
import { encodeAttest, parseAttest, TPM_GENERATED } from '../../../src/tpm/index.js'

const quote = {
  magic: TPM_GENERATED,
  type: 'quote',
  qualifiedSigner: fromHex(`000b${'11'.repeat(32)}`),
  extraData: fromHex('5e'.repeat(32)),
  clockInfo: { clock: 0x0102030405060708n, resetCount: 7, restartCount: 9, safe: true },
  firmwareVersion: 0x2019_1023_0016_3636n,
  selections: [{ bank: 'sha256', pcrs: [0, 4, 7] }],
  pcrDigest: fromHex('22'.repeat(32)),
} as const
const octets = encodeAttest(quote)

/** Magic 0, type 4, qualifiedSigner 6, extraData 42, clock 76, counts 84 and 88, safe 92, firmware 93, selections 101. */
const SAFE_OFFSET = 92

test('reads every member of a quote', () => {
  expect(parseAttest(octets)).toEqual(quote)
})

test('hands a wrong magic on: the verifier reports it', () => {
  expect(parseAttest(octets.with(0, 0x00)).magic).toBe(0x00544347)
})

test('refuses a clock that is neither safe nor unsafe', () => {
  expect(octets[SAFE_OFFSET]).toBe(1)
  expect(() => parseAttest(octets.with(SAFE_OFFSET, 2))).toThrow(
    expect.objectContaining({ code: 'DECODE_VALUE' }),
  )
})

test.each([0x8014, 0x8015, 0x8016, 0x8019, 0x801c, 0x0018])(
  'refuses to read an attestation of type 0x%s, which nothing here asks for',
  (type) => {
    const other = octets.with(4, type >> 8).with(5, type & 0xff)
    expect(() => parseAttest(other)).toThrow(expect.objectContaining({ code: 'DECODE_VALUE' }))
  },
)

test.each([
  ['signer', 6],
  ['nonce', 42],
  ['PCR digest', 111],
])('refuses a %s larger than any TPM makes, before reading it', (_, offset) => {
  const other = octets.with(offset, 0xff)
  expect(() => parseAttest(other)).toThrow(expect.objectContaining({ code: 'DECODE_TOO_LARGE' }))
})

test('refuses octets behind the structure', () => {
  expect(() => parseAttest(concat(octets, Uint8Array.of(0)))).toThrow(
    expect.objectContaining({ code: 'DECODE_TRAILING' }),
  )
})

test('refuses a structure that is cut short anywhere', () => {
  for (let length = 0; length < octets.length; length += 1) {
    expect(() => parseAttest(octets.subarray(0, length))).toThrow(
      expect.objectContaining({ code: 'DECODE_TRUNCATED' }),
    )
  }
})
