import { createHash, createSign, generateKeyPairSync } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { concat, toHex, utf8 } from '../../../src/core/bytes.js'
import {
  extendIma,
  type ImaPolicy,
  type ImaProgress,
  judgeImaEntries,
  readImaList,
  readImaSigner,
  startOfIma,
  verifyImaList,
} from '../../../src/ima/index.js'
import { fileDigest, imaListOf, type MeasuredFile, sized, u32 } from '../../helpers/ima-list.js'

const QUOTE = { bank: 'sha256', pcrValues: new Map<number, Uint8Array>() } as const
const NOTHING: ImaPolicy = { allow: [], exclude: [], allowViolations: false, signers: [] }

/** The same list as text. */
function textOf(files: readonly MeasuredFile[]): Uint8Array {
  const lines = [...readImaList(imaListOf(files))].map((entry) => {
    const signature = entry.signature ? toHex(entry.signature) : ''
    return `10 ${toHex(entry.templateHash)} ima-sig sha256:${toHex(entry.digest.digest)} ${entry.path} ${signature}\n`
  })
  return utf8(lines.join(''))
}

function valueAfter(
  files: readonly MeasuredFile[],
  extension: 'own-digest' | 'padded-sha1' = 'own-digest',
  from = startOfIma('sha256'),
): ImaProgress {
  let progress = from
  for (const entry of readImaList(imaListOf(files)))
    progress = extendIma(progress, entry, extension)
  return progress
}

const A = { path: '/usr/bin/a' }
const B = { path: '/usr/bin/b with blanks' }
const C = { path: '/usr/bin/c' }

describe('a list', () => {
  test('is the same as text and as octets', () => {
    const files = [A, B, { ...C, violation: true }]
    expect([...readImaList(textOf(files))]).toEqual([...readImaList(imaListOf(files))])
  })

  test.each(['own-digest', 'padded-sha1'] as const)(
    'is proved by the value that it leads to (%s)',
    async (extension) => {
      const { value } = valueAfter([A, B, C], extension)
      const verdict = await verifyImaList(imaListOf([A, B, C]), {
        from: startOfIma('sha256'),
        quoted: value,
      })
      expect(verdict.proved.map(({ path }) => path)).toEqual([A.path, B.path, C.path])
      expect(verdict.progress).toEqual({ bank: 'sha256', entries: 3, value })
      expect(verdict.later).toBe(0)
    },
  )

  test('that grew since the quote is proved as far as the quote goes', async () => {
    const quoted = valueAfter([A, B]).value
    const verdict = await verifyImaList(imaListOf([A, B, C]), {
      from: startOfIma('sha256'),
      quoted,
    })
    expect(verdict.proved).toHaveLength(2)
    expect(verdict).toMatchObject({ later: 1, progress: { entries: 2 } })
  })

  test('goes on where it ended before, and may have nothing new', async () => {
    const from = valueAfter([A, B])
    const quoted = valueAfter([C], 'own-digest', from).value
    const verdict = await verifyImaList(imaListOf([C]), { from, quoted })
    expect(verdict.proved.map(({ path }) => path)).toEqual([C.path])
    expect(verdict.progress?.entries).toBe(3)
    const none = await verifyImaList(new Uint8Array(), { from, quoted: from.value })
    expect(none).toMatchObject({ proved: [], progress: { entries: 2 } })
  })

  test.each([
    ['an entry left out', [A, C]],
    ['an entry put in', [A, { path: '/evil' }, B, C]],
    ['two entries exchanged', [B, A, C]],
    ['another digest', [A, { ...B, content: 'x' }, C]],
    ['another path', [A, { path: '/usr/bin/other', content: B.path }, C]],
    ['a violation made of an entry', [A, { ...B, violation: true }, C]],
    ['the end cut off', [A, B]],
    ['nothing', []],
  ])('is not proved with %s', async (_, files) => {
    const quoted = valueAfter([A, B, C]).value
    const verdict = await verifyImaList(imaListOf(files), { from: startOfIma('sha256'), quoted })
    expect(verdict.findings).toMatchObject([{ ok: false, code: 'IMA_REPLAY', pcr: 10 }])
    expect(verdict).toMatchObject({ proved: [] })
    expect(verdict.progress).toBeUndefined()
  })

  test.each([
    [
      'an unknown template',
      utf8(`10 ${'ab'.repeat(20)} ima-own sha256:00 /x\n`),
      'IMALOG_TEMPLATE',
    ],
    [
      'another PCR than there is',
      utf8(`99 ${'ab'.repeat(20)} ima-ng sha256:00 /x\n`),
      'IMALOG_ENTRY',
    ],
    ['no digest', utf8(`10 ${'ab'.repeat(20)} ima-ng sha256 /x\n`), 'IMALOG_ENTRY'],
    ['no path', utf8(`10 ${'ab'.repeat(20)} ima-ng sha256:00 \n`), 'IMALOG_ENTRY'],
    [
      'a size that is larger than the list',
      concat(u32(10), new Uint8Array(20), sized(utf8('ima-ng')), u32(1000)),
      'DECODE_TRUNCATED',
    ],
    [
      'a size beyond all limits',
      concat(u32(10), new Uint8Array(20), sized(utf8('ima-ng')), u32(0xffff_ffff)),
      'IMALOG_TOO_LARGE',
    ],
    [
      'octets after the fields',
      concat(u32(10), new Uint8Array(20), sized(utf8('ima-ng')), sized(new Uint8Array(9))),
      'DECODE_TRAILING',
    ],
  ])('with %s cannot be read', (_, list, code) => {
    expect(() => [...readImaList(list)]).toThrow(expect.objectContaining({ code }))
  })
})

describe('the entries of a list', () => {
  const entries = (files: readonly MeasuredFile[]) => [...readImaList(imaListOf(files))]
  const codes = (files: readonly MeasuredFile[], policy: Partial<ImaPolicy>) =>
    judgeImaEntries(entries(files), { ...NOTHING, ...policy }, QUOTE).flatMap((finding) =>
      finding.ok ? [] : [finding.code],
    )
  const allow = (path: string, ...contents: readonly string[]) => ({
    path,
    digests: new Set(
      contents.map((content) => toHex(createHash('sha256').update(content).digest())),
    ),
  })

  test('are accepted by digest under the patterns of their paths', () => {
    expect(codes([A, C], { allow: [allow('/usr/bin/*', A.path, C.path)] })).toEqual([])
    expect(codes([A], { allow: [allow('/opt/*', A.path)] })).toEqual(['IMA_NOT_ALLOWED'])
    expect(codes([{ ...A, content: 'changed' }], { allow: [allow('/usr/bin/*', A.path)] })).toEqual(
      ['IMA_NOT_ALLOWED'],
    )
    expect(codes([A], { exclude: ['/usr/*'] })).toEqual([])
  })

  test('that were changed while they were measured are violations, even if allowed', () => {
    const violated = { ...A, violation: true }
    expect(codes([violated], { allow: [allow('*', A.path)] })).toEqual(['IMA_VIOLATION'])
    expect(codes([violated], { allowViolations: true })).toEqual([])
  })

  test('are named up to a number, and counted beyond', () => {
    const many = Array.from({ length: 50 }, (_, index) => ({ path: `/f${index}` }))
    const found = codes(many, {})
    expect(found).toHaveLength(21)
    const last = judgeImaEntries(entries(many), NOTHING, QUOTE).at(-1)
    expect(last).toMatchObject({ found: '30 more' })
  })

  describe('with signatures', () => {
    const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
    const other = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey
    const pem = publicKey.export({ type: 'spki', format: 'pem' }).toString()
    const signers = [readImaSigner(pem)]
    const sign = (content: string, hash = 'sha256', number = 4) => {
      const octets = createSign(hash).update(content).sign(privateKey)
      return concat(
        Uint8Array.of(3, 2, number, 1, 2, 3, 4, octets.length >> 8, octets.length & 255),
        octets,
      )
    }

    test('of a given key are accepted', () => {
      expect(codes([{ ...A, signature: sign(A.path) }], { signers })).toEqual([])
    })

    test.each([
      ['of another file', sign('other')],
      ['with another hash than the entry', sign(A.path, 'sha512', 6)],
      ['with a wrong number of the hash', sign(A.path, 'sha256', 6)],
      ['of version 1', Uint8Array.of(3, 1, ...sign(A.path).subarray(2))],
      ['cut short', sign(A.path).subarray(0, 100)],
      ['with octets after it', concat(sign(A.path), Uint8Array.of(0))],
      ['that are a hash', concat(Uint8Array.of(4, 4), fileDigest(A))],
    ])('%s are not', (_, signature) => {
      expect(codes([{ ...A, signature }], { signers })).toEqual(['IMA_NOT_ALLOWED'])
    })

    test('of a key that was not given are not', () => {
      expect(codes([{ ...A, signature: sign(A.path) }], { signers: [other] })).toEqual([
        'IMA_NOT_ALLOWED',
      ])
      expect(() => readImaSigner('no key')).toThrow(
        expect.objectContaining({ code: 'DECODE_VALUE' }),
      )
      const weak = generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey
      expect(() => readImaSigner(weak.export({ type: 'spki', format: 'pem' }).toString())).toThrow(
        expect.objectContaining({ code: 'DECODE_VALUE' }),
      )
    })
  })
})
