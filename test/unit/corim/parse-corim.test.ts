import { describe, expect, test } from 'vitest'
import { CORIM_LIMITS, parseCorim } from '../../../src/corim/index.js'
import {
  cbor,
  corim,
  corimMap,
  ENVIRONMENT,
  map,
  measured,
  moduleTag,
  ONE_STATE,
  pcr,
  sha256,
  tagged,
  time,
  triple,
  uri,
  uuid,
  type Writable,
} from '../../helpers/corim.js'

const UUID_TEXT = '07070707-0707-0707-0707-070707070707'

describe('a manifest', () => {
  test('is read with all that its map has', () => {
    const octets = corim([ONE_STATE], {
      0: new Uint8Array(16).fill(7),
      2: [
        map({ 0: uri('https://acme.example/a') }),
        map({ 0: [uri('tag:b'), uri('tag:c')], 1: [1, sha256('b')] }),
      ],
      3: uri('tag:github.com/parallaxsecond,2023-03-03:tpm'),
      4: map({ 0: time('2026-01-01'), 1: time('2027-01-01') }),
      5: [map({ 0: 'ACME', 1: uri('https://acme.example'), 2: [1, 2] })],
    })
    expect(parseCorim(octets)).toMatchObject({
      id: { kind: 'uuid', text: UUID_TEXT },
      dependentRims: ['https://acme.example/a', 'tag:b', 'tag:c'],
      profile: 'tag:github.com/parallaxsecond,2023-03-03:tpm',
      validity: { notBeforeMs: Date.parse('2026-01-01'), notAfterMs: Date.parse('2027-01-01') },
      entities: [
        {
          name: 'ACME',
          uri: 'https://acme.example',
          roles: ['manifest-creator', 'manifest-signer'],
        },
      ],
      tags: [{ kind: 'comid', id: { kind: 'text', text: 'tag 1' }, version: 0 }],
    })
  })

  test('is read inside the outer tag of older drafts', () => {
    const octets = cbor(tagged(500, tagged(501, corimMap([ONE_STATE]))))
    expect(parseCorim(octets)).toEqual(parseCorim(corim([ONE_STATE])))
  })

  test('names tags of other kinds and triples of other kinds, which are not read', () => {
    const other = moduleTag([triple([pcr(0, 'a')])], {
      1: map({ 0: 'tag 2', 1: 3 }),
      4: map({ 0: [triple([pcr(0, 'a')])], 3: [[ENVIRONMENT, [tagged(554, 'PEM')]]] }),
    })
    const coswid = tagged(505, cbor(map({ 0: 'software' })))
    const cotl = tagged(508, cbor(map({ 0: map({ 0: 'list' }) })))
    expect(parseCorim(corim([other, coswid, cotl])).tags).toMatchObject([
      { kind: 'comid', version: 3, otherTriples: ['attest-key-triples'] },
      { kind: 'coswid' },
      { kind: 'cotl' },
    ])
  })

  test('leaves out the reference values of a tag that another replaces', () => {
    const newer = moduleTag([triple([pcr(0, 'new')])], {
      1: map({ 0: 'tag 2' }),
      3: [map({ 0: 'tag 1', 1: 1 })],
    })
    const values = parseCorim(corim([ONE_STATE, newer])).referenceValues
    expect(values.map(({ tagId }) => tagId.text)).toEqual(['tag 2'])
  })

  test('keeps the reference values of a tag that another supplements', () => {
    const more = moduleTag([triple([pcr(7, 'more')])], {
      1: map({ 0: 'tag 2' }),
      3: [map({ 0: 'tag 1', 1: 0 })],
    })
    expect(parseCorim(corim([ONE_STATE, more])).referenceValues).toHaveLength(2)
  })
})

describe('a reference value', () => {
  test('has environment and measurements in typed form', () => {
    const environment = map({
      0: map({ 0: tagged(111, Uint8Array.of(0x60, 0x86, 0x48, 1)), 1: 'ACME', 2: 'R', 3: 1, 4: 2 }),
      1: tagged(550, new Uint8Array(7).fill(1)),
      2: tagged(560, Uint8Array.of(1, 2)),
    })
    const digests = [
      [1, sha256('a')],
      ['my-hash', Uint8Array.of(9)],
    ]
    const octets = corim([
      moduleTag([
        triple(
          [
            measured('kernel', {
              0: map({ 0: '1.2.3', 1: 16_384 }),
              1: tagged(553, 4),
              2: digests,
              3: map({ 1: true, 3: false }),
              11: 'vmlinuz',
            }),
            measured(uuid(7), {
              14: new Map<number | string, Writable>([
                [5, digests],
                ['5', digests],
              ]),
            }),
            measured(tagged(111, Uint8Array.of(0x2a, 3)), {
              1: 5,
              4: tagged(560, Uint8Array.of(1)),
            }),
          ],
          environment,
        ),
      ]),
    ])
    const [value] = parseCorim(octets).referenceValues
    expect(value?.environment).toEqual({
      classId: { kind: 'oid', text: '2.16.840.1' },
      vendor: 'ACME',
      model: 'R',
      layer: 1,
      index: 2,
      instance: { kind: 'ueid', text: '01010101010101' },
      group: { kind: 'octets', text: '0102' },
    })
    const read = [
      { alg: '1', hash: 'sha256', value: sha256('a') },
      { alg: 'my-hash', value: Uint8Array.of(9) },
    ]
    expect(value?.measurements).toEqual([
      {
        key: { kind: 'text', text: 'kernel' },
        version: '1.2.3',
        svn: { svn: 4, minimum: true },
        digests: read,
        flags: new Map([
          ['is-secure', true],
          ['is-debug', false],
        ]),
        name: 'vmlinuz',
        others: [],
      },
      {
        key: { kind: 'uuid', text: UUID_TEXT },
        digests: [],
        integrityRegisters: new Map<number | string, unknown>([
          [5, read],
          ['5', read],
        ]),
        others: [],
      },
      {
        key: { kind: 'oid', text: '1.2.3' },
        digests: [],
        svn: { svn: 5, minimum: false },
        others: ['raw-value'],
      },
    ])
  })
})

const withMeasurement = (measurement: Writable) => corim([moduleTag([triple([measurement])])])
const withDigests = (digests: Writable) => withMeasurement(measured(0, { 2: digests }))
const withEnvironment = (environment: Writable) =>
  corim([moduleTag([triple([pcr(0, 'a')], environment)])])
const withModule = (members: Readonly<Record<string, Writable>>) =>
  corim([moduleTag([triple([pcr(0, 'a')])], members)])

test.each<[string, Uint8Array]>([
  ['without an id', corim([ONE_STATE], { 0: undefined })],
  ['with an id of another length', corim([ONE_STATE], { 0: new Uint8Array(15) })],
  ['with an empty id', corim([ONE_STATE], { 0: '' })],
  ['with control characters in its id', corim([ONE_STATE], { 0: 'a\u001b[2J' })],
  ['without tags', corim([])],
  ['with a member of a profile', corim([ONE_STATE], { '-1': 'foo' })],
  ['with an unknown member', corim([ONE_STATE], { 6: 'foo' })],
  ['with an unknown kind of tag', corim([tagged(507, cbor(map({})))])],
  ['with a tag that holds no octets', corim([tagged(506, map({}))])],
  ['with two tags of one identity', corim([ONE_STATE, ONE_STATE])],
  ['with a role that is none', corim([ONE_STATE], { 5: [map({ 0: 'A', 2: [0] })] })],
  [
    'with two signers',
    corim([ONE_STATE], { 5: [map({ 0: 'A', 2: [2] }), map({ 0: 'B', 2: [2] })] }),
  ],
  ['with a validity without end', corim([ONE_STATE], { 4: map({ 0: time('2026-01-01') }) })],
  [
    'with a validity that ends before it begins',
    corim([ONE_STATE], { 4: map({ 0: time('2026-01-02'), 1: time('2026-01-01') }) }),
  ],
  ['with a time before 1970', corim([ONE_STATE], { 4: map({ 1: tagged(1, -1) }) })],
  ['with a time as text', corim([ONE_STATE], { 4: map({ 1: tagged(0, '2026-01-01T00:00:00Z') }) })],
  ['with a profile that is plain text', corim([ONE_STATE], { 3: 'tag:a' })],
  ['with a locator without address', corim([ONE_STATE], { 2: [map({})] })],
  ['with a module without identity', withModule({ 1: undefined })],
  ['with a module without triples', withModule({ 4: map({}) })],
  ['with an unknown kind of triple', withModule({ 4: map({ 7: [1] }) })],
  ['with an empty list of triples', withModule({ 4: map({ 0: [] }) })],
  ['with an unknown relation of tags', withModule({ 3: [map({ 0: 'a', 1: 2 })] })],
  ['with a triple of three', corim([moduleTag([[ENVIRONMENT, [pcr(0, 'a')], 1]])])],
  ['with a triple without measurements', corim([moduleTag([triple([])])])],
  ['with an empty environment', withEnvironment(map({}))],
  ['with an empty class', withEnvironment(map({ 0: map({}) }))],
  ['with a model without vendor', withEnvironment(map({ 0: map({ 2: 'R' }) }))],
  ['with a class of an unknown kind', withEnvironment(map({ 0: map({ 0: tagged(1, 5) }) }))],
  [
    'with a class that is a UEID',
    withEnvironment(map({ 0: map({ 0: tagged(550, new Uint8Array(8)) }) })),
  ],
  ['with a UEID of 6 octets', withEnvironment(map({ 1: tagged(550, new Uint8Array(6)) }))],
  ['with a UUID of 15 octets', withEnvironment(map({ 1: tagged(37, new Uint8Array(15)) }))],
  [
    'with an OID that is cut off',
    withEnvironment(map({ 0: map({ 0: tagged(111, Uint8Array.of(0x86)) }) })),
  ],
  [
    'with an OID in a longer form',
    withEnvironment(map({ 0: map({ 0: tagged(111, Uint8Array.of(0x2a, 0x80, 1)) }) })),
  ],
  ['with a measurement without values', withMeasurement(measured(0, {}))],
  ['with an unknown value', withMeasurement(measured(0, { 12: 1 }))],
  ['with a value of a profile', withMeasurement(measured(0, { '-1': 1 }))],
  ['with a negative key', withMeasurement(measured(-1, { 1: 1 }))],
  ['with no digests in a list', withDigests([])],
  ['with a digest of another length', withDigests([[1, new Uint8Array(31)]])],
  ['with a digest without value', withDigests([[1]])],
  ['with an empty digest', withDigests([['my-hash', new Uint8Array()]])],
  [
    'with two digests of one algorithm',
    withDigests([
      [1, sha256('a')],
      [1, sha256('b')],
    ]),
  ],
  [
    'with two digests of one algorithm by two names',
    withDigests([
      [1, sha256('a')],
      ['sha-256', sha256('b')],
    ]),
  ],
  ['with empty registers', withMeasurement(measured(0, { 14: map({}) }))],
  [
    'with a negative register',
    withMeasurement(measured(0, { 14: map({ '-1': [[1, sha256('a')]] }) })),
  ],
  ['with an unknown flag', withMeasurement(measured(0, { 3: map({ 11: true }) }))],
  ['with a flag that is a number', withMeasurement(measured(0, { 3: map({ 1: 1 }) }))],
  ['with a negative security version', withMeasurement(measured(0, { 1: -1 }))],
  ['with a security version in another tag', withMeasurement(measured(0, { 1: tagged(551, 1) }))],
])('refuses a manifest %s', (_, octets) => {
  expect(() => parseCorim(octets)).toThrow(expect.objectContaining({ code: 'CORIM_VALUE' }))
})

test.each<[string, Uint8Array]>([
  ['that is signed', cbor(tagged(18, []))],
  ['without tag', cbor(corimMap([ONE_STATE]))],
  ['in an unknown tag', cbor(tagged(502, corimMap([ONE_STATE])))],
  ['in the outer tag twice', cbor(tagged(500, tagged(500, tagged(501, corimMap([ONE_STATE])))))],
])('refuses a manifest %s as another kind of data', (_, octets) => {
  expect(() => parseCorim(octets)).toThrow(expect.objectContaining({ code: 'CORIM_TYPE' }))
})

test('refuses a profile that is not understood, before anything that it could change', () => {
  const octets = corim([ONE_STATE], { 3: uri('tag:other'), '-1': 'foo' })
  expect(() => parseCorim(octets)).toThrow(expect.objectContaining({ code: 'CORIM_PROFILE' }))
  const oid = corim([ONE_STATE], { 3: tagged(111, Uint8Array.of(0x2a, 3)) })
  expect(() => parseCorim(oid)).toThrow(expect.objectContaining({ code: 'CORIM_PROFILE' }))
  expect(parseCorim(oid, CORIM_LIMITS, ['urn:oid:1.2.3']).profile).toBe('urn:oid:1.2.3')
})

test('refuses CBOR inside a tag that has two meanings', () => {
  const twice = Uint8Array.of(0xa2, 0x00, 0x60, 0x00, 0x60)
  for (const tag of [505, 506, 508]) {
    expect(() => parseCorim(corim([tagged(tag, twice)]))).toThrow(
      expect.objectContaining({ code: 'CORIM_CBOR' }),
    )
  }
})

test('refuses a manifest that is larger than the limit', () => {
  const octets = corim([ONE_STATE])
  const limits = { ...CORIM_LIMITS, maxOctets: octets.length - 1 }
  expect(() => parseCorim(octets, limits)).toThrow(
    expect.objectContaining({ code: 'CORIM_TOO_LARGE' }),
  )
})

test('says where in the manifest a refusal is', () => {
  expect(() => parseCorim(withDigests([[1, new Uint8Array(31)]]))).toThrow(
    /^corim\.tags\[0\]\.triples\.reference-triples\[0\]\.claims\[0\]\.mval\.digests\[0\]: expected a sha256 digest/,
  )
})
