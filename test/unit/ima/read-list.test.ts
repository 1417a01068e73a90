import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { concat, toHex, utf8 } from '../../../src/core/bytes.js'
import {
  hasOwnHash,
  IMA_LIMITS,
  type ImaEntry,
  readImaList,
  skipImaEntries,
} from '../../../src/ima/index.js'
import { sized, u32 } from '../../helpers/ima-list.js'
import {
  binaryList,
  digestField,
  type Measurement,
  numberField,
  pathField,
  textLine,
} from './build-list.js'

const SHA256 = createHash('sha256').update('file').digest()
const SHA512 = createHash('sha512').update('file').digest()
const HEX = toHex(SHA256)
const NG = digestField('sha256', SHA256)
const PATH = pathField('/usr/bin/a')
const NONE = new Uint8Array()
const SIGNATURE = Uint8Array.of(3, 2, 4, 1, 2, 3, 4, 0, 1, 9)
const DER = Uint8Array.of(0x30, 0x03, 1, 2, 3)

const read = (list: Uint8Array): readonly ImaEntry[] => [...readImaList(list)]

interface Case extends Measurement {
  /** Digest and fields behind the path as the text list has them. */
  readonly digest?: string
  readonly texts?: readonly string[]
  readonly expected?: Partial<ImaEntry>
}

const TEMPLATES: readonly (readonly [name: string, entry: Case])[] = [
  ['ima-ng', { template: 'ima-ng', fields: [NG, PATH] }],
  [
    'ima-ng with SHA-512',
    {
      template: 'ima-ng',
      fields: [digestField('sha512', SHA512), PATH],
      digest: `sha512:${toHex(SHA512)}`,
      expected: { digest: { kind: 'file', algorithm: 'sha512', digest: new Uint8Array(SHA512) } },
    },
  ],
  [
    'ima-sig',
    {
      template: 'ima-sig',
      fields: [NG, PATH, SIGNATURE],
      texts: [toHex(SIGNATURE)],
      expected: { signature: SIGNATURE },
    },
  ],
  ['ima-sig without a signature', { template: 'ima-sig', fields: [NG, PATH, NONE], texts: [''] }],
  [
    'ima-buf',
    {
      template: 'ima-buf',
      fields: [NG, PATH, DER],
      texts: [toHex(DER)],
      expected: { buffer: DER },
    },
  ],
  [
    'ima-modsig',
    {
      template: 'ima-modsig',
      fields: [NG, PATH, SIGNATURE, digestField('sha512', SHA512), DER],
      texts: [toHex(SIGNATURE), `sha512:${toHex(SHA512)}`, toHex(DER)],
      expected: { signature: SIGNATURE, moduleSignature: DER },
    },
  ],
  [
    'ima-modsig of a file without signatures',
    { template: 'ima-modsig', fields: [NG, PATH, NONE, NONE, NONE], texts: ['', '', ''] },
  ],
  [
    'ima-ngv2',
    {
      template: 'ima-ngv2',
      fields: [digestField('ima:sha256', SHA256), PATH],
      digest: `ima:sha256:${HEX}`,
    },
  ],
  [
    'ima-sigv2 with fs-verity',
    {
      template: 'ima-sigv2',
      fields: [digestField('verity:sha256', SHA256), PATH, SIGNATURE],
      digest: `verity:sha256:${HEX}`,
      texts: [toHex(SIGNATURE)],
      expected: {
        signature: SIGNATURE,
        digest: { kind: 'verity', algorithm: 'sha256', digest: new Uint8Array(SHA256) },
      },
    },
  ],
  [
    'evm-sig',
    {
      template: 'evm-sig',
      fields: [
        ...[NG, PATH, SIGNATURE, pathField('security.selinux|security.ima'), u32(7), DER],
        ...[numberField(1000, 4), numberField(65_534, 4), numberField(0o100_755, 2)],
      ],
      texts: [
        ...[toHex(SIGNATURE), 'security.selinux|security.ima', '07000000', toHex(DER)],
        ...['1000', '65534', '33261'],
      ],
    },
  ],
  [
    'a list of fields',
    {
      template: 'd-ng|n-ng|imode|sig',
      fields: [NG, PATH, numberField(0, 2), SIGNATURE],
      texts: ['0', toHex(SIGNATURE)],
      expected: { signature: SIGNATURE },
    },
  ],
]

describe('a list', () => {
  test.each(TEMPLATES)('of %s is the same as text and as octets', (_, entry) => {
    const text = textLine(
      entry,
      entry.digest ?? `sha256:${HEX}`,
      '/usr/bin/a',
      ...(entry.texts ?? []),
    )
    const [found] = read(binaryList([entry]))
    expect(read(utf8(text))).toEqual([found])
    expect(found).toMatchObject({
      pcr: 10,
      index: 0,
      template: entry.template,
      path: '/usr/bin/a',
      violation: false,
      digest: { kind: 'file', algorithm: 'sha256', digest: new Uint8Array(SHA256) },
      ...entry.expected,
    })
    expect(found && hasOwnHash(found)).toBe(true)
  })

  test('of the legacy template hashes its path padded to 256 octets', () => {
    const digest = new Uint8Array(20).fill(7)
    const data = concat(digest, utf8('/init'), new Uint8Array(251))
    const hash = createHash('sha1').update(data).digest()
    const octets = concat(u32(10), hash, sized(utf8('ima')), digest, sized(utf8('/init')))
    const text = utf8(`10 ${toHex(hash)} ima ${toHex(digest)} /init\n`)
    expect(read(text)).toEqual(read(octets))
    const [entry] = read(octets)
    expect(entry).toMatchObject({ path: '/init', digest: { algorithm: 'sha1', digest } })
    expect(toHex(entry?.templateData ?? NONE)).toBe(toHex(data))
    expect(entry && hasOwnHash(entry)).toBe(true)
  })

  test('may have digests of a bank in place of SHA-1', () => {
    const entries = TEMPLATES.map(([, entry]) => entry)
    const list = binaryList(entries, 'sha256')
    expect(read(list).map(({ templateData }) => toHex(templateData))).toEqual(
      read(binaryList(entries)).map(({ templateData }) => toHex(templateData)),
    )
    expect(read(list).every(hasOwnHash)).toBe(true)
    expect(skipImaEntries(list, entries.length)).toHaveLength(0)
    expect(skipImaEntries(list, entries.length + 1)).toBeUndefined()
  })

  test('may have any path, but for one with a newline in a text list', () => {
    const odd = concat(utf8('/a\n10 '), Uint8Array.of(0xff, 0xfe), utf8(' b'), Uint8Array.of(0))
    const next: Measurement = { template: 'ima-ng', fields: [NG, PATH] }
    const entries = read(binaryList([{ template: 'ima-ng', fields: [NG, odd] }, next]))
    expect(entries.map(({ path }) => path)).toEqual(['/a\n10 \ufffd\ufffd b', '/usr/bin/a'])
    const blanks: Measurement = { template: 'ima-sig', fields: [NG, pathField('/a b  c '), NONE] }
    const text = utf8(textLine(blanks, `sha256:${HEX}`, '/a b  c ', ''))
    expect(read(text)).toEqual(read(binaryList([blanks])))
    const latin = concat(utf8('/'), Uint8Array.of(0xe9, 0x20, 0xe8))
    const named = { ...blanks, fields: [NG, concat(latin, Uint8Array.of(0)), NONE] }
    const [head = '', tail = ''] = textLine(named, `sha256:${HEX}`, '|', '').split('|')
    expect(read(concat(utf8(head), latin, utf8(tail)))).toEqual(read(binaryList([named])))
  })

  test('may have a violation with the zeros that older kernels write', () => {
    const entry = { template: 'ima-ng', fields: [digestField('sha256', new Uint8Array(20)), PATH] }
    expect(read(binaryList([{ ...entry, violation: true }]))[0]?.violation).toBe(true)
    expect(() => read(binaryList([entry]))).toThrow(
      expect.objectContaining({ code: 'IMALOG_ENTRY' }),
    )
  })

  test('goes on with the index that it is told', () => {
    const list = binaryList([{ template: 'ima-ng', fields: [NG, PATH] }])
    expect([...readImaList(list, IMA_LIMITS, 41)][0]?.index).toBe(41)
  })

  test('of nothing has no entries', () => {
    expect(read(NONE)).toEqual([])
  })
})

describe('a list cannot be read', () => {
  const hash = 'ab'.repeat(20)
  const line = (rest: string) => utf8(`10 ${hash} ${rest}\n`)
  const raw = (template: string, ...fields: readonly Uint8Array[]) =>
    binaryList([{ template, fields }])

  test.each([
    ['an unknown template', line(`ima-own sha256:${HEX} /a`), 'IMALOG_TEMPLATE'],
    ['a template of an unknown field', line(`d-ng|n-ng|own sha256:${HEX} /a x`), 'IMALOG_TEMPLATE'],
    [
      'a template with a field twice',
      raw('d-ng|n-ng|sig|sig', NG, PATH, NONE, NONE),
      'IMALOG_TEMPLATE',
    ],
    ['a template whose path is first', raw('n-ng|d-ng', PATH, NG), 'IMALOG_TEMPLATE'],
    [
      'a template with another digest first',
      raw('d-modsig|n-ng|d-ng', NG, PATH, NG),
      'IMALOG_TEMPLATE',
    ],
    ['a template with two digests', raw('d-ng|n-ng|d-ngv2', NG, PATH, NG), 'IMALOG_TEMPLATE'],
    [
      'a template that is a property of every object',
      line(`constructor sha256:${HEX} /a`),
      'IMALOG_TEMPLATE',
    ],
    ['an unknown algorithm', line(`ima-ng unknown:${HEX} /a`), 'IMALOG_ENTRY'],
    ['no algorithm', line(`ima-ng ${HEX} /a`), 'IMALOG_ENTRY'],
    ['a digest of another size', line('ima-ng sha256:00 /a'), 'IMALOG_ENTRY'],
    [
      'a digest of fs-verity in a template without',
      line(`ima-ng verity:sha256:${HEX} /a`),
      'IMALOG_ENTRY',
    ],
    ['a digest without its kind', line(`ima-ngv2 sha256:${HEX} /a`), 'IMALOG_ENTRY'],
    ['a digest of another kind', line(`ima-ngv2 other:sha256:${HEX} /a`), 'IMALOG_ENTRY'],
    ['a digest in capitals', line(`ima-ng sha256:${HEX.toUpperCase()} /a`), 'IMALOG_ENTRY'],
    ['a legacy digest of MD5', line(`ima ${'00'.repeat(16)} /a`), 'IMALOG_ENTRY'],
    ['a signature that is not hexadecimal', line(`ima-sig sha256:${HEX} /a xyz`), 'IMALOG_ENTRY'],
    ['too few fields', line(`ima-sig sha256:${HEX} /a`), 'IMALOG_ENTRY'],
    ['no path', line(`ima-ng sha256:${HEX} `), 'IMALOG_ENTRY'],
    ['a mode that is too large', line(`d-ng|n-ng|imode sha256:${HEX} /a 65536`), 'IMALOG_ENTRY'],
    ['a number with a zero before it', line(`d-ng|n-ng|iuid sha256:${HEX} /a 01`), 'IMALOG_ENTRY'],
    ['a PCR that there is not', utf8(`99 ${hash} ima-ng sha256:${HEX} /a\n`), 'IMALOG_ENTRY'],
    ['an empty line', utf8('10 \n\n'), 'IMALOG_ENTRY'],
    ['a digest without its NUL', raw('ima-ng', utf8('sha256:'), PATH), 'IMALOG_ENTRY'],
    ['a field too many', raw('ima-ng', NG, PATH, NONE), 'DECODE_TRAILING'],
    ['a field too few', raw('ima-sig', NG, PATH), 'DECODE_TRUNCATED'],
    ['an entry cut off', raw('ima-ng', NG, PATH).subarray(0, -1), 'DECODE_TRUNCATED'],
    [
      'a kernel of the other byte order',
      concat(Uint8Array.of(0, 0, 0, 10), new Uint8Array(40)),
      'IMALOG_ENTRY',
    ],
    [
      'a name of a template beyond all limits',
      concat(u32(10), new Uint8Array(20), u32(0xffff_ffff)),
      'IMALOG_TOO_LARGE',
    ],
    [
      'a size beyond all limits',
      concat(u32(10), new Uint8Array(20), sized(utf8('ima-ng')), u32(0xffff_ffff)),
      'IMALOG_TOO_LARGE',
    ],
    ['a line beyond all limits', utf8(`10 ${' '.repeat(200_000)}`), 'IMALOG_TOO_LARGE'],
  ])('with %s', (_, list, code) => {
    expect(() => read(list)).toThrow(expect.objectContaining({ code }))
  })

  test('with more octets or entries than it may have, told where', () => {
    const entry: Measurement = { template: 'ima-ng', fields: [NG, PATH] }
    const list = binaryList([entry, entry, entry])
    const limited = (limits: Partial<typeof IMA_LIMITS>) => [
      ...readImaList(list, { ...IMA_LIMITS, ...limits }),
    ]
    expect(limited({ maxEntries: 3, maxOctets: list.length })).toHaveLength(3)
    expect(() => limited({ maxOctets: list.length - 1 })).toThrow(
      expect.objectContaining({ code: 'IMALOG_TOO_LARGE', offset: 0 }),
    )
    expect(() => limited({ maxEntries: 2 })).toThrow(
      expect.objectContaining({ code: 'IMALOG_TOO_LARGE', offset: (list.length / 3) * 2 }),
    )
    const last = concat(list, Uint8Array.of(10, 0))
    expect(() => read(last)).toThrow(
      expect.objectContaining({ code: 'DECODE_TRUNCATED', offset: list.length }),
    )
  })

  test('with a digest that is very long, however deep the stack is', () => {
    const list = line(`ima-ng sha256:${'00'.repeat(65_000)} /a`)
    const deep = (calls: number): readonly ImaEntry[] => (calls > 0 ? deep(calls - 1) : read(list))
    expect(() => deep(4000)).toThrow(expect.objectContaining({ code: 'IMALOG_ENTRY' }))
  })
})
