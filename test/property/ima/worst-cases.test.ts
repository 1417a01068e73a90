import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { concat, utf8 } from '../../../src/core/bytes.js'
import { isPlatformError } from '../../../src/core/errors.js'
import {
  extendIma,
  type ImaPolicy,
  judgeImaEntries,
  readImaList,
  startOfIma,
} from '../../../src/ima/index.js'
import { sized, u32 } from '../../helpers/ima-list.js'
import { fastest, limitOf } from '../../helpers/mutants.js'
import { measuredBoot, saySkipped, sharedVectors } from '../../helpers/vectors.js'
import { binaryList, digestField, pathField } from '../../unit/ima/build-list.js'
import { BINARY, POLICY, TEXT } from './samples.js'

/** Lists of 64 KiB, made to be slow. */
const SIZE = 64 * 1024
const HASH = 'ab'.repeat(20)
const DIGEST = 'cd'.repeat(32)

function filled(piece: Uint8Array): Uint8Array {
  const copies = Math.floor(SIZE / piece.length)
  return new Uint8Array(Buffer.concat(Array.from({ length: copies }, () => piece)))
}
const line = (template: string, rest: string) => utf8(`10 ${HASH} ${template} ${rest}\n`)
const long = (text: string) => text.repeat(Math.floor((SIZE - 400) / text.length))

const CASES: readonly (readonly [name: string, list: Uint8Array])[] = [
  ['every template as octets', filled(BINARY)],
  ['every template as text', filled(TEXT)],
  ['a real machine', filled(measuredBoot('01-uki-sb-off', 'ascii_runtime_measurements'))],
  [
    'the smallest entries',
    filled(concat(u32(10), new Uint8Array(20), sized(utf8('ima')), new Uint8Array(20), u32(0))),
  ],
  ['the smallest lines', filled(line('ima', `${'00'.repeat(20)} a`))],
  ['blanks', line('ima-sig', `sha256:${DIGEST} ${long(' ')}`)],
  ['words', line('ima-sig', `sha256:${DIGEST} /a ${long('a ')}`)],
  ['colons', line('ima-ng', `${long(':')} /a`)],
  ['one long digest', line('ima-ng', `sha256:${long('00')} /a`)],
  ['one long path', line('ima-ng', `sha256:${DIGEST} /${long('a')}`)],
  ['one long signature', line('ima-sig', `sha256:${DIGEST} /a ${long('00')}`)],
  ['one long signature that is none', line('ima-sig', `sha256:${DIGEST} /a ${long('00')}x`)],
  ['one long template', line(long('d-ng|'), `sha256:${DIGEST} /a`)],
  ['no line', utf8(`10 ${long('ab')}`)],
  ['empty lines', utf8(long('\n'))],
  ['digits', utf8(long('10 '))],
]

function read(list: Uint8Array): void {
  try {
    for (const _ of readImaList(list));
  } catch (error) {
    if (!isPlatformError(error)) throw error
  }
}

test.each(CASES)('64 KiB of %s are read in time', (_, list) => {
  expect(list.length).toBeLessThanOrEqual(SIZE)
  expect(fastest(limitOf(list), () => read(list))).toBeLessThan(limitOf(list))
})

test('a real list of 826 entries is read and replayed in time', () => {
  const shared = sharedVectors('attestation/keylime_rust-keylime/keylime-agent/test-data/ima')
  if (!shared) return saySkipped('attestation: the time that a real list takes', 1)
  const list = new Uint8Array(readFileSync(join(shared, 'ascii_runtime_measurements')))
  const replay = () => {
    let progress = startOfIma('sha256')
    for (const entry of readImaList(list)) progress = extendIma(progress, entry, 'own-digest')
  }
  expect(fastest(2 * limitOf(list), replay)).toBeLessThan(2 * limitOf(list))
})

test('judging takes its turns where paths and patterns were made to be slow', async () => {
  const path = `/${'ab'.repeat(2000)}`
  const file = {
    template: 'ima-ng',
    fields: [digestField('sha256', new Uint8Array(32)), pathField(path)],
  }
  const entries = [...readImaList(binaryList(Array.from({ length: 64 }, () => file)))]
  const exclude = Array.from({ length: 64 }, (_, index) => `*ab*ab*${index}`)
  const policy: ImaPolicy = { ...POLICY, exclude, signers: [] }
  let longest = 0
  let begin = performance.now()
  const pause = async () => {
    longest = Math.max(longest, performance.now() - begin)
    begin = performance.now()
  }
  await judgeImaEntries(entries, policy, { bank: 'sha256', pcrValues: new Map() }, pause)
  expect(longest).toBeLessThan(1000)
})
