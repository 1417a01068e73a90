import fc from 'fast-check'
import { expect, test } from 'vitest'
import { concat } from '../../../src/core/bytes.js'
import { isPlatformError } from '../../../src/core/errors.js'
import { ByteWriter } from '../../../src/core/reader.js'
import { imageHashesOf, parseDbxFile } from '../../../src/eventlog/index.js'
import { hashList } from './build-log.js'

const HASHES = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)]
const LISTS = hashList(HASHES)
const EXPECTED = ['01'.repeat(32), '02'.repeat(32)]

/** An update as firmware takes it, with a signature that is none: it is not looked at. */
const signed = (lists: Uint8Array, length = 40) =>
  new ByteWriter('little')
    .put(new Uint8Array(16))
    .u32(length)
    .u16(0x0200)
    .u16(0x0ef1)
    .put(new Uint8Array(32))
    .put(lists)
    .finish()

test.each([
  ['bare lists', LISTS],
  ['the variable of efivarfs', concat(Uint8Array.of(0x27, 0, 0, 0), LISTS)],
  ['a signed update', signed(LISTS)],
])('reads the hashes of %s', (_, octets) => {
  expect(imageHashesOf(parseDbxFile(octets))).toEqual(EXPECTED)
})

test('has nothing to read in an empty file, or in a variable without a value', () => {
  expect(parseDbxFile(new Uint8Array())).toEqual([])
  expect(parseDbxFile(Uint8Array.of(0x27, 0, 0, 0))).toEqual([])
})

test.each([
  ['a list that is cut short', LISTS.subarray(0, LISTS.length - 1), 'DECODE_TRUNCATED'],
  ['octets behind the last list', concat(LISTS, Uint8Array.of(0)), 'DECODE_TRUNCATED'],
  ['a signature that is longer than the file', signed(LISTS, 4_000), 'DECODE_TRUNCATED'],
  ['a signature that is shorter than its header', signed(LISTS, 7), 'DECODE_VALUE'],
  ['a signature that ends within its list', signed(LISTS, 44), 'DECODE_'],
])('refuses %s', (_, octets, code) => {
  expect(() => parseDbxFile(octets)).toThrow(
    expect.objectContaining({ code: expect.stringContaining(code) }),
  )
})

test('reads or refuses any octets', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.boolean(), (octets, isSigned) => {
      try {
        parseDbxFile(isSigned ? signed(octets, octets[0] ?? 0) : octets)
      } catch (error) {
        if (!isPlatformError(error)) throw error
      }
    }),
    { numRuns: 2_000 },
  )
})
