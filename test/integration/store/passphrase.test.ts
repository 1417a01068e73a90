import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { sql } from 'kysely'
import { beforeAll, describe, expect, test } from 'vitest'
import { toHex, utf8 } from '../../../src/core/bytes.js'
import { Secret } from '../../../src/core/secret.js'
import { readSecretFile } from '../../../src/core/secret-file.js'
import { passphraseSealer } from '../../../src/seals/index.js'
import {
  createRootKey,
  type FoundationTables,
  openStore,
  readRootKey,
  type Store,
  unsealRootKey,
} from '../../../src/store/index.js'
import { NOW_MS, openTestStore, temporaryFolder } from './support.js'

const PASSPHRASE = 'correct horse battery staple'
const NAME = 'attestation'

const sealer = (text: string) => passphraseSealer(new Secret(utf8(text)))

describe('the root key of a service', () => {
  test('comes back under its passphrase after a restart, and opens what it sealed', async () => {
    using folder = temporaryFolder()
    const file = folder.file('sigillo.db')
    let sealed: Uint8Array
    {
      await using store = await openStore({ file })
      expect((await readRootKey(store, NAME)) !== undefined).toBe(false)
      using rootKey = await createRootKey(store, NAME, [sealer(PASSPHRASE)], NOW_MS)
      sealed = rootKey.seal('p', utf8('c'), Uint8Array.of(1, 2, 3))
      expect((await readRootKey(store, NAME)) !== undefined).toBe(true)
    }
    await using store = await openStore({ file })
    using rootKey = await unsealRootKey(store, NAME, sealer(PASSPHRASE))
    expect(rootKey.open('p', utf8('c'), sealed).use(toHex)).toBe('010203')
  })

  test('is another one for each service, under the same passphrase', async () => {
    await using opened = await openTestStore()
    using one = await createRootKey(opened.store, 'attestation', [sealer(PASSPHRASE)], NOW_MS)
    using other = await createRootKey(opened.store, 'key-provider', [sealer(PASSPHRASE)], NOW_MS)
    const sealed = one.seal('p', utf8('c'), Uint8Array.of(1))
    expect(() => other.open('p', utf8('c'), sealed)).toThrow(
      expect.objectContaining({ code: 'ROOT_KEY_OPEN' }),
    )
  })

  test('is made once, also by several at the same time, and never replaced', async () => {
    await using opened = await openTestStore()
    const { store } = opened
    const attempts = await Promise.allSettled(
      [1, 2, 3].map(() => createRootKey(store, NAME, [sealer(PASSPHRASE)], NOW_MS)),
    )
    const made = attempts.flatMap((attempt) =>
      attempt.status === 'fulfilled' ? [attempt.value] : [],
    )
    const refused = attempts.flatMap((attempt) =>
      attempt.status === 'rejected' ? [attempt.reason] : [],
    )
    expect(made).toHaveLength(1)
    expect(refused).toEqual([1, 2].map(() => expect.objectContaining({ code: 'CONFLICT' })))
    const sealed = made[0]?.seal('p', utf8('c'), Uint8Array.of(7))
    using again = await unsealRootKey(store, NAME, sealer(PASSPHRASE))
    expect(again.open('p', utf8('c'), sealed ?? new Uint8Array()).use(toHex)).toBe('07')
  })

  test.each(['', 'x', 'fifteen letters', 'ä'.repeat(15), '🔑'.repeat(15), 'x'.padEnd(40, '\0')])(
    'is not made under a passphrase of fewer than 16 characters: %j',
    async (passphrase) => {
      await using store = await openStore({ file: ':memory:' })
      await expect(createRootKey(store, NAME, [sealer(passphrase)], NOW_MS)).rejects.toMatchObject({
        code: 'ROOT_KEY_PASSPHRASE',
      })
      expect((await readRootKey(store, NAME)) !== undefined).toBe(false)
    },
  )

  test('is made under a passphrase of 16 characters', async () => {
    await using store = await openStore({ file: ':memory:' })
    using _rootKey = await createRootKey(store, NAME, [sealer('ä'.repeat(16))], NOW_MS)
    expect((await readRootKey(store, NAME)) !== undefined).toBe(true)
  })

  test('is not in the database in the clear, nor is its passphrase', async () => {
    await using store = await openStore({ file: ':memory:' })
    using _rootKey = await createRootKey(store, NAME, [sealer(PASSPHRASE)], NOW_MS)
    const { sealed, parameters } = await rowOf(store)
    expect(sealed.length).toBe(12 + 32 + 16)
    expect(JSON.parse(parameters)).toEqual({
      kind: 'passphrase',
      N: 131_072,
      r: 8,
      p: 1,
      salt: expect.stringMatching(/^[\w-]{22}$/),
      rootKey: NAME,
      generation: 1,
    })
  })
})

describe('a root key is not opened', () => {
  let file: string

  // One key for all of them: making and opening one takes a third of a second each.
  beforeAll(async () => {
    const folder = temporaryFolder()
    file = folder.file('sigillo.db')
    await using store = await openStore({ file })
    using _rootKey = await createRootKey(store, NAME, [sealer(PASSPHRASE)], NOW_MS)
    return () => folder[Symbol.dispose]()
  })

  test('where there is none', async () => {
    await using store = await openStore({ file })
    await expect(unsealRootKey(store, 'other', sealer(PASSPHRASE))).rejects.toMatchObject({
      code: 'NOT_FOUND',
    })
  })

  test.each(['', `${PASSPHRASE} `, `${PASSPHRASE}\n`, PASSPHRASE.toUpperCase()])(
    'by another passphrase: %j',
    async (passphrase) => {
      await using store = await openStore({ file })
      await expect(unsealRootKey(store, NAME, sealer(passphrase))).rejects.toMatchObject(REFUSED)
    },
  )

  const flip = (octet: number) => (row: Row) => ({
    sealed: row.sealed.map((value, at) => (at === octet ? value ^ 0x80 : value)),
  })
  const set = (change: object) => (row: Row) => ({
    parameters: JSON.stringify({ ...JSON.parse(row.parameters), ...change }),
  })
  const changes: readonly [string, string, (row: Row) => Partial<Row>][] = [
    ['the IV was changed', 'ROOT_KEY_UNSEAL', flip(0)],
    ['the key was changed', 'ROOT_KEY_UNSEAL', flip(12)],
    ['the tag was changed', 'ROOT_KEY_UNSEAL', flip(59)],
    ['the end was cut off', 'SEAL_RECORD', ({ sealed }) => ({ sealed: sealed.subarray(0, -1) })],
    [
      'an octet was added',
      'SEAL_RECORD',
      ({ sealed }) => ({ sealed: new Uint8Array([...sealed, 0]) }),
    ],
    ['nothing is left', 'SEAL_RECORD', () => ({ sealed: new Uint8Array() })],
    ['the salt was changed', 'ROOT_KEY_UNSEAL', set({ salt: 'A'.repeat(22) })],
    ['the salt is too short', 'SEAL_RECORD', set({ salt: 'AAAA' })],
    ['the cost was lowered', 'SEAL_RECORD', set({ N: 1024 })],
    ['the cost was raised beyond memory', 'SEAL_RECORD', set({ N: 2 ** 30 })],
    ['the cost is text', 'SEAL_RECORD', set({ N: '131072' })],
    ['the kind is unknown', 'SEAL_RECORD', set({ kind: 'none' })],
    ['there is a further parameter', 'SEAL_RECORD', set({ more: 1 })],
    ['the parameters are not JSON', 'SEAL_RECORD', () => ({ parameters: '{' })],
    ['it is the seal of another service', 'SEAL_FOREIGN', set({ rootKey: 'key-provider' })],
    ['it is a seal of an earlier key', 'SEAL_FOREIGN', set({ generation: 0 })],
    ['it no longer says of what it is', 'ROOT_KEY_UNSEAL', set({ rootKey: undefined })],
  ]
  test.each(changes)('where %s: %s', async (_, code, change) => {
    await using store = await openStore({ file })
    const row = await rowOf(store)
    const tables = store.tables<FoundationTables>()
    await tables
      .updateTable('root_key_seals')
      .set({ ...row, ...change(row) })
      .execute()
    await expect(unsealRootKey(store, NAME, sealer(PASSPHRASE))).rejects.toMatchObject({ code })
    await tables.updateTable('root_key_seals').set(row).execute()
  })

  test('and still is by its own passphrase afterwards', async () => {
    await using store = await openStore({ file })
    using rootKey = await unsealRootKey(store, NAME, sealer(PASSPHRASE))
    expect(rootKey.seal('p', utf8('c'), new Uint8Array())).toHaveLength(45)
  })
})

describe('a secret in a file', () => {
  test('is read without the line feed at its end, and with everything else', () => {
    using folder = temporaryFolder()
    const read = (text: string) => {
      writeFileSync(folder.file('secret'), text, { mode: 0o600 })
      return readSecretFile(folder.file('secret')).use((octets) => Buffer.from(octets).toString())
    }
    expect(read('abc\n')).toBe('abc')
    expect(read('abc')).toBe('abc')
    expect(read('abc\n\n')).toBe('abc\n')
    expect(read(' abc \r\n')).toBe(' abc \r')
    expect(read('x'.repeat(1024))).toHaveLength(1024)
  })

  test.each(['640', '604', '660', '610', '601', '777'])(
    'is refused where others may touch the file (%s)',
    (mode) => {
      using folder = temporaryFolder()
      writeFileSync(folder.file('secret'), 'abc')
      chmodSync(folder.file('secret'), Number.parseInt(mode, 8))
      expect(() => readSecretFile(folder.file('secret'))).toThrow(
        expect.objectContaining({ code: 'FILE_MODE' }),
      )
    },
  )

  test.each([
    ['is empty', ''],
    ['is an empty line', '\n'],
    ['is larger than 1024 octets', 'x'.repeat(1025)],
  ])('is refused where the file %s', (_, text) => {
    using folder = temporaryFolder()
    writeFileSync(folder.file('secret'), text, { mode: 0o600 })
    expect(() => readSecretFile(folder.file('secret'))).toThrow(
      expect.objectContaining({ code: 'CONFIG_UNREADABLE' }),
    )
  })

  test('is refused where the path is a link, a folder or nothing', () => {
    using folder = temporaryFolder()
    writeFileSync(folder.file('secret'), 'abc', { mode: 0o600 })
    symlinkSync(folder.file('secret'), folder.file('link'))
    mkdirSync(folder.file('folder'), { mode: 0o700 })
    for (const name of ['link', 'folder', 'nothing']) {
      expect(() => readSecretFile(folder.file(name)), name).toThrow(
        expect.objectContaining({ code: 'CONFIG_UNREADABLE' }),
      )
    }
  })
})

type Row = FoundationTables['root_key_seals']

const REFUSED = {
  code: 'ROOT_KEY_UNSEAL',
  message: `the passphrase does not open root key ${NAME}`,
}

async function rowOf(store: Store): Promise<Row> {
  const { rows } = await sql<Row>`select * from root_key_seals`.execute(store.tables())
  const [row] = rows
  if (!row) throw new Error('expected a root key')
  return row
}
