import { expect, test } from 'vitest'
import { parseReferenceJson } from '../../../src/corim/index.js'

const DIGEST = 'ab'.repeat(32)
const FILE = {
  name: 'rack-7',
  bank: 'sha256',
  pcrs: { '0': [DIGEST], '23': ['cd'.repeat(32), DIGEST] },
  source: 'measured in the lab',
  notBefore: '2026-01-01T00:00:00Z',
  notAfter: '2027-01-01T00:00:00.500Z',
}
const read = (changes: Readonly<Record<string, unknown>>) =>
  parseReferenceJson(JSON.stringify({ ...FILE, ...changes }))

test('reference values are read with their dates', () => {
  expect(read({})).toEqual({
    name: 'rack-7',
    bank: 'sha256',
    pcrs: new Map([
      [0, [DIGEST]],
      [23, ['cd'.repeat(32), DIGEST]],
    ]),
    source: 'measured in the lab',
    notBeforeMs: Date.parse('2026-01-01'),
    notAfterMs: Date.parse('2027-01-01T00:00:00.500Z'),
  })
})

test('source and dates may be left out', () => {
  const short = { name: 'a', bank: 'sha384', pcrs: { '4': ['00'.repeat(48)] } }
  expect(parseReferenceJson(JSON.stringify(short))).toEqual({
    name: 'a',
    bank: 'sha384',
    pcrs: new Map([[4, ['00'.repeat(48)]]]),
  })
})

test.each<[string, Readonly<Record<string, unknown>>]>([
  ['without a name', { name: undefined }],
  ['with a name that is none', { name: 'Rack 7' }],
  ['with an unknown bank', { bank: 'sha1' }],
  ['with an unknown member', { note: 'x' }],
  ['without PCRs', { pcrs: {} }],
  ['with PCR 24', { pcrs: { '24': [DIGEST] } }],
  ['with PCR 00', { pcrs: { '00': [DIGEST] } }],
  ['with a PCR without digests', { pcrs: { '0': [] } }],
  ['with a digest twice', { pcrs: { '0': [DIGEST, DIGEST] } }],
  ['with a digest in upper case', { pcrs: { '0': [DIGEST.toUpperCase()] } }],
  ['with a digest of another bank', { pcrs: { '0': ['ab'.repeat(48)] } }],
  ['with a digest of odd length', { pcrs: { '0': [`${DIGEST}a`] } }],
  ['with a time of another form', { notAfter: '2027-01-01' }],
  ['with a day that is none', { notAfter: '2027-02-30T00:00:00Z' }],
  ['with an hour that is none', { notAfter: '2027-02-03T25:00:00Z' }],
  ['with an end before its beginning', { notAfter: '2025-01-01T00:00:00Z' }],
])('refuses reference values %s', (_, changes) => {
  expect(() => read(changes)).toThrow(expect.objectContaining({ code: 'REFERENCE_VALUES' }))
})

test.each([
  ['two members of one name', '{"name": "a", "name": "b"}'],
  ['what is not JSON', '{'],
  ['a prototype', '{"__proto__": {}}'],
])('refuses %s', (_, text) => {
  expect(() => parseReferenceJson(text)).toThrow(expect.objectContaining({ code: 'DECODE_VALUE' }))
})

test('refuses more than the limits', () => {
  expect(() => parseReferenceJson(' '.repeat(262_145))).toThrow(
    expect.objectContaining({ code: 'REFERENCE_VALUES' }),
  )
  expect(() => parseReferenceJson('[[[[]]]]')).toThrow(
    expect.objectContaining({ code: 'DECODE_TOO_LARGE' }),
  )
})
