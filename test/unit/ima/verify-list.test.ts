import { describe, expect, test } from 'vitest'
import { toHex, utf8 } from '../../../src/core/bytes.js'
import {
  extendIma,
  type ImaProgress,
  readImaList,
  startOfIma,
  verifyImaList,
} from '../../../src/ima/index.js'
import { imaListOf, type MeasuredFile } from '../../helpers/ima-list.js'

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
    expect(verdict.proved.map(({ path, index }) => [index, path])).toEqual([[2, C.path]])
    expect(verdict.progress?.entries).toBe(3)
    const none = await verifyImaList(new Uint8Array(), { from, quoted: from.value })
    expect(none).toMatchObject({ proved: [], progress: { entries: 2 } })
  })

  test('that measured nothing at all is refused', async () => {
    for (const list of [new Uint8Array(), imaListOf([A])]) {
      const from = startOfIma('sha256')
      const verdict = await verifyImaList(list, { from, quoted: new Uint8Array(32) })
      expect(verdict.findings).toMatchObject([{ ok: false, code: 'IMA_MISSING', pcr: 10 }])
      expect(verdict.progress).toBeUndefined()
    }
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
})
