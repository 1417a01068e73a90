import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { fromHex, toHex } from '../../../src/core/bytes.js'
import { DecodeError } from '../../../src/core/errors.js'
import { decodeTtlv } from '../../../src/kmip/decode.js'
import { encodeTtlv } from '../../../src/kmip/encode.js'
import { saySkipped, sharedVectors } from '../../helpers/vectors.js'

interface PykmipVector {
  readonly file: string
  readonly name: string
  readonly hex: string
  readonly wellFormed: boolean
}

interface ScalityVectors {
  readonly badTtlv: readonly { readonly section: string; readonly hex: string }[]
  readonly messages: readonly { readonly kind: string; readonly hex: string }[]
}

const folder = sharedVectors('kmip')
if (folder === undefined) saySkipped('kmip', 465)

function read<T>(path: string): T {
  return JSON.parse(readFileSync(join(folder ?? '', path), 'utf8'))
}

/** Long integers that Arsenal cannot hold, being above 2^53. The standard has 64 bits. */
const FINE_AFTER_ALL = ['42007803000000081000000000000000', '4200780300000008ffffffffffffffff']

/** What Arsenal's own tests read leniently, or as a stream, and a whole message may not be. */
const NOT_STANDARD_ARSENAL = [
  '',
  // a tag of no range of the standard
  '56000002000000040000000100000000',
  '56000006000000080000000000000001',
  // without padding
  '42000f080000000400000001',
  '42000f0a0000000400000001',
  // several items
  '42000f08000000040000000100000000'.repeat(4),
  '42000f0a000000040000000100000000'.repeat(4),
  // a big integer of no octets, and of one
  '4200780400000000',
  '420078040000000100',
  // a Boolean that is neither 0 nor 1
  '42007406000000081111111111111111',
  '42007406000000080101010101010101',
]

/** What PyKMIP has to be refused too: a Boolean of 2, and padding that is not zero. */
const NOT_STANDARD_PYKMIP = [
  '42000006000000080000000000000002',
  '4200000800000003010203ffffffffff',
  '420000050000000400000000000000ff',
  '420000020000000400000000ffffffff',
  '4200000a00000004000d2f00000000ff',
  '420000070000000b48656c6c6f20576f726c64ffffffffff',
]

test.skipIf(folder === undefined)(
  'reads the messages of Arsenal and writes them again octet by octet',
  () => {
    const { messages } = read<ScalityVectors>('scality-Arsenal/ttlv-vectors.json')
    expect(messages).toHaveLength(38)
    for (const { hex } of messages) {
      if (NOT_STANDARD_ARSENAL.includes(hex)) {
        expect(() => decodeTtlv(fromHex(hex)), hex).toThrow(DecodeError)
      } else expect(toHex(encodeTtlv(decodeTtlv(fromHex(hex))))).toBe(hex)
    }
  },
)

test.skipIf(folder === undefined)('refuses each malformed item of Arsenal', () => {
  const { badTtlv } = read<ScalityVectors>('scality-Arsenal/ttlv-vectors.json')
  expect(badTtlv).toHaveLength(82)
  for (const { hex } of badTtlv.filter(({ hex }) => !FINE_AFTER_ALL.includes(hex))) {
    expect(() => decodeTtlv(fromHex(hex)), hex).toThrow(DecodeError)
  }
})

test.skipIf(folder === undefined)(
  'reads the items of PyKMIP and writes them again octet by octet',
  () => {
    const vectors = read<readonly PykmipVector[]>('OpenKMIP-PyKMIP/ttlv-hex-vectors.json')
    const good = vectors.filter(({ wellFormed }) => wellFormed)
    expect(good).toHaveLength(335)
    for (const { file, name, hex } of good) {
      const where = `${file} ${name}`
      if (NOT_STANDARD_PYKMIP.includes(hex)) {
        expect(() => decodeTtlv(fromHex(hex)), where).toThrow(DecodeError)
        continue
      }
      expect(toHex(encodeTtlv(decodeTtlv(fromHex(hex)))), where).toBe(hex)
    }
  },
)

test.skipIf(folder === undefined)('refuses each malformed item of PyKMIP', () => {
  const vectors = read<readonly PykmipVector[]>('OpenKMIP-PyKMIP/ttlv-hex-vectors.json')
  const bad = vectors.filter(({ wellFormed }) => !wellFormed)
  expect(bad).toHaveLength(10)
  for (const { file, name, hex } of bad) {
    expect(() => decodeTtlv(fromHex(hex)), `${file} ${name}`).toThrow(DecodeError)
  }
})
