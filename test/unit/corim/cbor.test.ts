import { describe, expect, test } from 'vitest'
import { fromHex } from '../../../src/core/bytes.js'
import { CborFloat, type CborItem, CborTag, parseCbor } from '../../../src/corim/cbor.js'

const LIMITS = { maxOctets: 1000, maxDepth: 4, maxItems: 20 }
const read = (hex: string): CborItem => parseCbor(fromHex(hex), LIMITS)

describe('data of RFC 8949, appendix A', () => {
  test.each<[string, CborItem]>([
    ['00', 0],
    ['17', 23],
    ['1818', 24],
    ['1903e8', 1000],
    ['1a000f4240', 1_000_000],
    ['1b000000e8d4a51000', 1_000_000_000_000],
    ['1bffffffffffffffff', 18_446_744_073_709_551_615n],
    ['20', -1],
    ['3863', -100],
    ['3903e7', -1000],
    ['3bffffffffffffffff', -18_446_744_073_709_551_616n],
    ['f4', false],
    ['f5', true],
    ['f6', null],
    ['40', new Uint8Array()],
    ['4401020304', Uint8Array.of(1, 2, 3, 4)],
    ['60', ''],
    ['62c3bc', '\u00fc'],
    ['64f0908591', '\u{10151}'],
    ['80', []],
    ['8301820203820405', [1, [2, 3], [4, 5]]],
    ['a0', new Map()],
    [
      'a26161016162820203',
      new Map<string, CborItem>([
        ['a', 1],
        ['b', [2, 3]],
      ]),
    ],
    ['c11a514b67b0', new CborTag(1, 1_363_896_240)],
    ['d74401020304', new CborTag(23, Uint8Array.of(1, 2, 3, 4))],
  ])('%s', (hex, item) => {
    expect(read(hex)).toEqual(item)
  })

  test.each([
    ['f90000', 0],
    ['f93c00', 1],
    ['f93e00', 1.5],
    ['f97bff', 65_504],
    ['f90001', 2 ** -24],
    ['f90400', 2 ** -14],
    ['f9c400', -4],
    ['fa47c35000', 100_000],
    ['fb3ff199999999999a', 1.1],
    ['fbc010666666666666', -4.1],
  ])('%s is a float, and no integer', (hex, value) => {
    expect(read(hex)).toEqual(new CborFloat(value))
  })
})

test.each([
  ['nothing', ''],
  ['an argument that is cut off', '19ff'],
  ['text that is cut off', '6261'],
  ['an array that is cut off', '8201'],
  ['a map that is cut off', 'a101'],
  ['a length beyond memory', '5b7fffffffffffffff'],
  ['a length of 2^64 - 1', '9bffffffffffffffff'],
  ['a tag without item', 'c1'],
  ['a tag of 2^64 - 1', 'dbffffffffffffffff00'],
  ['reserved additional information', '1c'],
  ['indefinite octets', '5f4100ff'],
  ['an indefinite array', '9f01ff'],
  ['an indefinite map', 'bf0101ff'],
  ['a break alone', 'ff'],
  ['an integer in a longer form', '1817'],
  ['a length in a longer form', '580100'],
  ['a wide integer in a longer form', '1b00000000ffffffff'],
  ['undefined', 'f7'],
  ['an unassigned simple value', 'e0'],
  ['a simple value in two octets', 'f820'],
  ['infinity', 'f97c00'],
  ['minus infinity', 'faff800000'],
  ['a number that is none', 'fb7ff8000000000000'],
  ['text that is not UTF-8', '61ff'],
  ['a key twice', 'a201000100'],
  ['a text key twice', 'a2616100616100'],
  ['octets as key', 'a1410000'],
  ['an array as key', 'a18000'],
  ['a float as key', 'a1f9000000'],
  ['octets after the item', '0000'],
])('refuses %s', (_, hex) => {
  expect(() => read(hex)).toThrow(expect.objectContaining({ code: 'CORIM_CBOR' }))
})

test('takes 1 and "1" for two keys', () => {
  expect(read('a20100613100')).toEqual(
    new Map<number | string, number>([
      [1, 0],
      ['1', 0],
    ]),
  )
})

test.each([
  ['octets', `5903e8${'00'.repeat(1000)}`],
  ['depth', '818181818100'],
  ['items', `98ff${'00'.repeat(255)}`],
])('refuses more %s than the limit', (_, hex) => {
  expect(() => read(hex)).toThrow(expect.objectContaining({ code: 'CORIM_TOO_LARGE' }))
})

test('reads up to the limits', () => {
  expect(read('8181818100')).toEqual([[[[0]]]])
  expect(read(`93${'00'.repeat(19)}`)).toHaveLength(19)
})
