import { expect, test } from 'vitest'
import { fromHex, toHex } from '../../../src/core/bytes.js'
import { encodePcrSelections, parsePcrSelections, pcrDigest } from '../../../src/tpm/index.js'

test('writes PCR 0, 7 and 23 of one bank as a bitmap of three octets', () => {
  expect(toHex(encodePcrSelections([{ bank: 'sha256', pcrs: [0, 7, 23] }]))).toBe(
    '00000001000b03810080',
  )
})

test('reads indexes in ascending order and banks in the order of the list', () => {
  expect(parsePcrSelections(fromHex('00000002000c03000001000b03810000'))).toEqual([
    { bank: 'sha384', pcrs: [16] },
    { bank: 'sha256', pcrs: [0, 7] },
  ])
})

test('reads an empty selection: the verifier compares it', () => {
  expect(parsePcrSelections(fromHex('00000001000b03000000'))).toEqual([
    { bank: 'sha256', pcrs: [] },
  ])
})

test.each([
  ['a bitmap of four octets', '00000001000b0481000000', 'DECODE_VALUE'],
  ['a bitmap of two octets', '00000001000b028100', 'DECODE_VALUE'],
  ['a bank twice', '00000002000b03810000000b03000001', 'DECODE_VALUE'],
  ['a bank that is not known', '00000001001203810000', 'DECODE_VALUE'],
  ['more banks than a TPM has', '00000011', 'DECODE_VALUE'],
  ['four thousand million banks', 'ffffffff', 'DECODE_VALUE'],
  ['a list that ends early', '00000002000b03810000', 'DECODE_TRUNCATED'],
  ['octets behind the list', '00000001000b0381000000', 'DECODE_TRAILING'],
])('refuses a selection with %s', (_, hex, code) => {
  expect(() => parsePcrSelections(fromHex(hex))).toThrow(expect.objectContaining({ code }))
})

test.each([-1, 24, 1.5])('does not select PCR %d', (pcr) => {
  expect(() => encodePcrSelections([{ bank: 'sha256', pcrs: [pcr] }])).toThrow(TypeError)
})

test('hashes values one after another', () => {
  const zeros = new Uint8Array(32)
  // SHA-256 of 64 zero octets
  expect(toHex(pcrDigest('sha256', [zeros, zeros]))).toBe(
    'f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b',
  )
})
