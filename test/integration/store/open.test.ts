import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { dirname } from 'node:path'
import { sql } from 'kysely'
import { describe, expect, test } from 'vitest'
import { openStore, type Store } from '../../../src/store/index.js'
import { append, auditEntry, openRaw, openTestStore, temporaryFolder } from './support.js'

const PAGE_OCTETS = 4096

const modeOf = (path: string): string => (statSync(path).mode & 0o777).toString(8)

async function pragma(store: Store, name: string): Promise<unknown> {
  const { rows } = await sql.raw<object>(`pragma ${name}`).execute(store.tables())
  return Object.values(rows[0] ?? {})[0]
}

async function alter(file: string, ...statements: readonly string[]): Promise<void> {
  await using store = await openStore({ file })
  for (const statement of statements) await sql.raw(statement).execute(store.tables())
}

describe('a new database', () => {
  test('is for its owner alone: folder 0700, and every file in it 0600', async () => {
    using folder = temporaryFolder()
    const file = folder.file('made/sigillo.db')
    await using store = await openStore({ file })
    await append(store, auditEntry(1))
    expect(modeOf(dirname(file))).toBe('700')
    const names = readdirSync(dirname(file)).sort()
    expect(names).toEqual(['sigillo.db', 'sigillo.db-shm', 'sigillo.db-wal'])
    for (const name of names) expect(modeOf(`${dirname(file)}/${name}`), name).toBe('600')
  })

  test('keeps that whatever mask the process has', async () => {
    using folder = temporaryFolder()
    const before = process.umask(0)
    try {
      await using _store = await openStore({ file: folder.file('made/sigillo.db') })
      expect(modeOf(folder.file('made'))).toBe('700')
      expect(modeOf(folder.file('made/sigillo.db'))).toBe('600')
    } finally {
      process.umask(before)
    }
  })

  test('commits to the disk, keeps foreign keys, and maps no memory', async () => {
    await using opened = await openTestStore()
    const { store } = opened
    expect(await pragma(store, 'journal_mode')).toBe('wal')
    expect(await pragma(store, 'synchronous')).toBe(2)
    expect(await pragma(store, 'foreign_keys')).toBe(1)
    expect(await pragma(store, 'busy_timeout')).toBe(10_000)
    expect(await pragma(store, 'secure_delete')).toBe(1)
    expect(await pragma(store, 'trusted_schema')).toBe(0)
    expect((await pragma(store, 'mmap_size')) ?? 0).toBe(0)
  })

  test('has what was committed when it is opened again', async () => {
    using folder = temporaryFolder()
    const file = folder.file('sigillo.db')
    {
      await using store = await openStore({ file })
      await append(store, auditEntry(1))
    }
    await using store = await openStore({ file })
    expect(await append(store, auditEntry(2))).toMatchObject({ seq: 2 })
  })

  test('may be closed twice', async () => {
    await using opened = await openTestStore()
    await opened.store[Symbol.asyncDispose]()
  })
})

describe('a database is refused', () => {
  test('when a newer program made it, and is left as it is', async () => {
    using folder = temporaryFolder()
    const file = folder.file('sigillo.db')
    await alter(file, `insert into kysely_migration values ('0099-future', '2030-01-01')`)
    const before = readFileSync(file)
    await expect(openStore({ file })).rejects.toMatchObject({
      code: 'STORE_SCHEMA',
      message: expect.stringContaining('0099-future'),
    })
    expect(readFileSync(file)).toEqual(before)
  })

  test('when it is no database', async () => {
    using folder = temporaryFolder()
    const file = folder.file('sigillo.db')
    writeFileSync(file, 'text, not a database. '.repeat(500))
    await expect(openStore({ file })).rejects.toMatchObject({ code: 'STORE_IO' })
  })

  test.each([2, 5, 9])('when page %d of it is damaged', async (page) => {
    using folder = temporaryFolder()
    const file = folder.file('sigillo.db')
    await alter(file)
    const octets = readFileSync(file)
    octets.fill(0xa5, (page - 1) * PAGE_OCTETS, page * PAGE_OCTETS)
    writeFileSync(file, octets)
    await expect(openStore({ file })).rejects.toMatchObject({ code: 'STORE_IO' })
  })

  test('when its end was cut off', async () => {
    using folder = temporaryFolder()
    const file = folder.file('sigillo.db')
    await alter(file)
    truncateSync(file, statSync(file).size - 2 * PAGE_OCTETS)
    await expect(openStore({ file })).rejects.toMatchObject({ code: 'STORE_IO' })
  })

  test('when its path is a symbolic link, a folder or a pipe', async () => {
    using folder = temporaryFolder()
    await alter(folder.file('real.db'))
    symlinkSync(folder.file('real.db'), folder.file('link.db'))
    mkdirSync(folder.file('folder.db'))
    execFileSync('mkfifo', [folder.file('pipe.db')])
    for (const name of ['link.db', 'folder.db', 'pipe.db']) {
      await expect(openStore({ file: folder.file(name) }), name).rejects.toMatchObject({
        code: 'STORE_IO',
      })
    }
  })

  test.each(['777', '1777', '770', '722'])(
    'when others may write in its folder (%s)',
    async (mode) => {
      using folder = temporaryFolder()
      const file = folder.file('open/sigillo.db')
      mkdirSync(dirname(file))
      chmodSync(dirname(file), Number.parseInt(mode, 8))
      await expect(openStore({ file })).rejects.toMatchObject({ code: 'FILE_MODE' })
      expect(readdirSync(dirname(file))).toEqual([])
    },
  )
})

test('a database that others could read is closed to them when it is opened', async () => {
  using folder = temporaryFolder()
  const file = folder.file('sigillo.db')
  await alter(file)
  chmodSync(file, 0o644)
  await alter(file)
  expect(modeOf(file)).toBe('600')
})

describe('a migration that fails', () => {
  test('leaves nothing of itself nor of those before it, and the next start does all of them', async () => {
    using folder = temporaryFolder()
    const file = folder.file('sigillo.db')
    const tables = async () => {
      await using raw = openRaw(file)
      const all = await raw.db.introspection.getTables()
      return all.map(({ name }) => name).sort()
    }
    {
      await using raw = openRaw(file)
      await sql.raw('create table control_plane_events (other text)').execute(raw.db)
    }
    await expect(openStore({ file })).rejects.toThrow('already exists')
    expect(await tables()).toEqual(['control_plane_events'])
    {
      await using raw = openRaw(file)
      await sql.raw('drop table control_plane_events').execute(raw.db)
    }
    await using store = await openStore({ file })
    expect(await append(store, auditEntry(1))).toMatchObject({ seq: 1 })
    expect(await tables()).toContain('control_plane_events')
  })
})
