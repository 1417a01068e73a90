import { expect, test } from 'vitest'
import { toHex } from '../../../src/core/bytes.js'
import { parseCorim, pcrReferenceValues } from '../../../src/corim/index.js'
import {
  corim,
  map,
  measured,
  moduleTag,
  pcr,
  sha256,
  sha384,
  tagged,
  triple,
  type Writable,
} from '../../helpers/corim.js'

const valuesOf = (...triples: readonly Writable[]) =>
  pcrReferenceValues(parseCorim(corim([moduleTag(triples)])), { bank: 'sha256' })
const hex = (content: string) => toHex(sha256(content))

test('measurements with an unsigned integer as key are PCRs', () => {
  expect(valuesOf(triple([pcr(4, 'loader'), pcr(0, 'firmware')]))).toEqual({
    bank: 'sha256',
    pcrs: new Map([
      [0, [hex('firmware')]],
      [4, [hex('loader')]],
    ]),
    states: [
      {
        environment: 'ACME, Rack 7',
        pcrs: new Map([
          [4, hex('loader')],
          [0, hex('firmware')],
        ]),
      },
    ],
    unused: [],
  })
})

test('integrity registers with an unsigned integer are PCRs, whatever the key of the measurement', () => {
  const registers = new Map<number | string, Writable>([
    [7, [[1, sha256('a')]]],
    ['7', [[1, sha256('b')]]],
  ])
  const { pcrs, unused } = valuesOf(triple([map({ 1: map({ 14: registers }) })]))
  expect(pcrs).toEqual(new Map([[7, [hex('a')]]]))
  expect(unused).toEqual([expect.stringContaining('register "7" is not the index of a PCR')])
})

test('states of one environment are told apart, and their values listed together', () => {
  const { pcrs, states } = valuesOf(
    triple([pcr(0, 'old'), pcr(4, 'same')]),
    triple([pcr(0, 'new'), pcr(4, 'same')]),
  )
  expect(pcrs).toEqual(
    new Map([
      [0, [hex('old'), hex('new')]],
      [4, [hex('same')]],
    ]),
  )
  expect(states.map((state) => state.pcrs.get(0))).toEqual([hex('old'), hex('new')])
})

test('the bank chooses among the digests of a measurement', () => {
  const both = measured(0, {
    2: [
      [1, sha256('a')],
      [7, sha384('a')],
    ],
  })
  const manifest = parseCorim(corim([moduleTag([triple([both])])]))
  expect(pcrReferenceValues(manifest, { bank: 'sha256' }).pcrs.get(0)).toEqual([hex('a')])
  expect(pcrReferenceValues(manifest, { bank: 'sha384' }).pcrs.get(0)).toEqual([toHex(sha384('a'))])
  for (const bank of ['sha1', 'sha512'] as const) {
    const { pcrs, states, unused } = pcrReferenceValues(manifest, { bank })
    expect(pcrs.size + states.length).toBe(0)
    expect(unused).toEqual([expect.stringContaining(`has no ${bank} digest for PCR 0`)])
  }
})

test('a name and a version describe, and demand nothing', () => {
  const described = measured(0, { 0: map({ 0: '1.0' }), 2: [[1, sha256('a')]], 11: 'firmware' })
  expect(valuesOf(triple([described]))).toMatchObject({ unused: [] })
})

test('two digests for one PCR in one state leave the state out', () => {
  const { states, unused } = valuesOf(triple([pcr(0, 'a'), pcr(4, 'b'), pcr(0, 'c')]))
  expect(states).toEqual([])
  expect(unused).toEqual([
    'reference value 0 (ACME, Rack 7): two digests for PCR 0, which cannot both be met',
  ])
})

test('one digest for one PCR twice in one state is one', () => {
  expect(valuesOf(triple([pcr(0, 'a'), pcr(0, 'a')]))).toMatchObject({ unused: [] })
})

const DIGESTS = [[1, sha256('a')]]
test.each<[string, Writable]>([
  ['has no key', map({ 1: map({ 2: DIGESTS }) })],
  ['text firmware is not the index of a PCR', measured('firmware', { 2: DIGESTS })],
  ['there is no PCR 24', measured(24, { 2: DIGESTS })],
  ['has no digest for PCR 0', measured(0, { 11: 'name alone' })],
  ['has no sha256 digest for PCR 0', measured(0, { 2: [[7, sha384('a')]] })],
  ['has no sha256 digest for PCR 0', measured(0, { 2: [[6, Uint8Array.of(1, 2, 3, 4)]] })],
  ['demands svn', measured(0, { 1: 1, 2: DIGESTS })],
  ['demands flags', measured(0, { 2: DIGESTS, 3: map({ 3: false }) })],
  ['demands raw-value', measured(0, { 2: DIGESTS, 4: tagged(560, Uint8Array.of(1)) })],
  [
    'demands authorized-by',
    map({ 0: 0, 1: map({ 2: DIGESTS }), 2: [tagged(560, Uint8Array.of(1))] }),
  ],
  [
    'has digests of its own beside those of registers',
    measured(0, { 2: DIGESTS, 14: map({ 1: DIGESTS }) }),
  ],
])('a measurement that cannot be used is told: %s', (why, measurement) => {
  const { pcrs, unused } = valuesOf(triple([measurement, pcr(7, 'used')]))
  expect([...pcrs.keys()]).toEqual([7])
  expect(unused).toEqual([
    expect.stringContaining(`reference value 0 (ACME, Rack 7), measurement 0: ${why}`),
  ])
})

test('a manifest that is of no use is told of in few words', () => {
  const keys = Array.from({ length: 150 }, (_, index) => pcr(24 + index, 'a'))
  const { unused } = valuesOf(triple(keys))
  expect(unused).toHaveLength(101)
  expect(unused.at(-1)).toBe('and 50 more')
})
