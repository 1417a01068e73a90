import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { toHex, utf8 } from '../../../src/core/bytes.js'
import { isPlatformError } from '../../../src/core/errors.js'
import { failures } from '../../../src/core/finding.js'
import {
  extendIma,
  type ImaEntry,
  judgeImaEntries,
  readImaList,
  startOfIma,
  verifyImaList,
} from '../../../src/ima/index.js'
import { binaryList, digestField, pathField, textLine } from '../../unit/ima/build-list.js'
import { POLICY } from './samples.js'

const runs = process.env['SLOW'] === '1' ? 20_000 : 1_000
const HASH = 'ab'.repeat(20)

/** Reads octets, replays and judges what was read; nothing but refusals of ours may come out. */
async function judge(octets: Uint8Array): Promise<void> {
  try {
    const entries = [...readImaList(octets)]
    let progress = startOfIma('sha256')
    for (const entry of entries) progress = extendIma(progress, entry, 'own-digest')
    await verifyImaList(octets, { from: startOfIma('sha256'), quoted: progress.value })
    await judgeImaEntries(entries, POLICY, { bank: 'sha256', pcrValues: new Map() })
  } catch (error) {
    if (!isPlatformError(error)) throw error
  }
}

const octets = (maxLength: number) => fc.uint8Array({ maxLength })
/** A path as the kernel has it: no NUL, blanks as underscores; no newline, which the text list cannot have. */
const anyPath = fc
  .string({ unit: 'grapheme', minLength: 1, maxLength: 30 })
  .filter((path) => !/[\0\n]/.test(path))
const anyFile = fc.record({
  path: anyPath,
  digest: fc.uint8Array({ minLength: 32, maxLength: 32 }),
  signature: octets(40),
  violation: fc.boolean(),
})
type AnyFile = typeof anyFile extends fc.Arbitrary<infer F> ? F : never

const entryOf = ({ path, digest, signature, violation }: AnyFile) => ({
  template: 'ima-sig',
  fields: [digestField('sha256', digest), pathField(path), signature],
  violation,
})
const octetsOf = (files: readonly AnyFile[]) => binaryList(files.map(entryOf))
const textOf = (files: readonly AnyFile[]) =>
  utf8(
    files
      .map((file) =>
        textLine(entryOf(file), `sha256:${toHex(file.digest)}`, file.path, toHex(file.signature)),
      )
      .join(''),
  )
const comparable = (entries: Iterable<ImaEntry>) =>
  JSON.stringify([...entries], (_, value) => (value instanceof Uint8Array ? toHex(value) : value))

describe('reading', () => {
  test('any octets ends with a list or a refusal', async () => {
    await fc.assert(fc.asyncProperty(octets(600), judge), { numRuns: runs })
  })

  test('any octets behind the head of an entry ends with a list or a refusal', async () => {
    const head = binaryList([{ template: 'ima-sig', fields: [] }]).subarray(0, -4)
    await fc.assert(
      fc.asyncProperty(octets(300), (rest) => judge(Buffer.concat([head, rest]))),
      { numRuns: runs },
    )
  })

  test('any text behind the head of a line ends with a list or a refusal', async () => {
    const template = fc.constantFrom('ima', 'ima-ng', 'ima-sig', 'ima-modsig', 'evm-sig')
    const word = fc.constantFrom(' ', ':', 'sha256:', 'ab', '/a', '\n10 ', '0', HASH)
    const text = fc.array(fc.oneof(word, fc.string({ maxLength: 5 })), { maxLength: 20 })
    await fc.assert(
      fc.asyncProperty(template, text, (name, words) =>
        judge(utf8(`10 ${HASH} ${name} ${words.join('')}`)),
      ),
      { numRuns: runs },
    )
  })

  test('text finds what was measured, as octets do', () => {
    fc.assert(
      fc.property(fc.array(anyFile, { maxLength: 10 }), (files) => {
        expect(comparable(readImaList(textOf(files)))).toBe(
          comparable(readImaList(octetsOf(files))),
        )
      }),
      { numRuns: runs / 4 },
    )
  })
})

describe('a list', () => {
  test('is proved up to any of its entries, at once or in two parts', async () => {
    const input = fc.tuple(fc.array(anyFile, { minLength: 2, maxLength: 8 }), fc.nat(), fc.nat())
    await fc.assert(
      fc.asyncProperty(input, async ([files, one, other]) => {
        const count = 1 + (one % files.length)
        const first = 1 + (other % count)
        const upTo = (end: number) => {
          let progress = startOfIma('sha256')
          for (const entry of readImaList(octetsOf(files.slice(0, end)))) {
            progress = extendIma(progress, entry, 'own-digest')
          }
          return progress
        }
        const { value: quoted } = upTo(count)
        const whole = await verifyImaList(octetsOf(files), { from: startOfIma('sha256'), quoted })
        expect(whole.proved).toHaveLength(count)
        const rest = await verifyImaList(octetsOf(files.slice(first)), {
          from: upTo(first),
          quoted,
        })
        expect(failures(rest.findings)).toEqual([])
        expect(rest.progress).toEqual(whole.progress)
        expect(rest.proved.map(({ index }) => index)).toEqual(
          whole.proved.slice(first).map(({ index }) => index),
        )
      }),
      { numRuns: runs / 4 },
    )
  })
})
