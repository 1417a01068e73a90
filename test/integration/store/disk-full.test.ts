import { execFile } from 'node:child_process'
import { mkdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { promisify } from 'node:util'
import { sql } from 'kysely'
import { describe, expect, test } from 'vitest'
import { isPlatformError } from '../../../src/core/errors.js'
import { failures } from '../../../src/core/finding.js'
import {
  appendAudit,
  createOperator,
  type FoundationTables,
  openStore,
  recordOnce,
  type Store,
  verifyAudit,
} from '../../../src/store/index.js'
import { append, auditEntry, NOW_MS, openTestStore, type Tx, temporaryFolder } from './support.js'

const run = promisify(execFile)

const large = (number: number) => auditEntry(number, { detail: { text: 'x'.repeat(3000) } })

/** Appends until the database refuses; returns how many were acknowledged, and the refusal. */
async function appendUntilRefused(store: Store): Promise<{ count: number; error: unknown }> {
  for (let count = 0; count < 10_000; count += 1) {
    try {
      await append(store, large(count))
    } catch (error) {
      return { count, error }
    }
  }
  throw new Error('the disk never became full')
}

async function usedOnce(store: Store): Promise<string[]> {
  const rows = await store
    .tables<FoundationTables>()
    .selectFrom('once_records')
    .select('key')
    .execute()
  return rows.map(({ key }) => key)
}

/** A database that may not grow by more than a few pages. */
async function limitPages(store: Store): Promise<void> {
  const { rows } = await sql<{ page_count: number }>`pragma page_count`.execute(store.tables())
  const pages = (rows[0]?.page_count ?? 0) + 3
  await sql.raw(`pragma max_page_count = ${pages}`).execute(store.tables())
}

describe('on a disk that is full', () => {
  test('writes are refused whole, what was acknowledged stays, and work goes on once there is room', async () => {
    using folder = temporaryFolder()
    const volume = folder.file('volume')
    mkdirSync(volume)
    await run('mount', ['-t', 'tmpfs', '-o', 'size=4m,mode=0700', 'tmpfs', volume])
    try {
      await using store = await openStore({ file: `${volume}/sigillo.db` })
      for (let round = 0, acknowledged = 0; round < 3; round += 1) {
        const ballast = `${volume}/ballast`
        const { bavail, bsize } = statfsSync(volume)
        writeFileSync(ballast, new Uint8Array(Math.max(0, bavail * bsize - 200_000)))
        const { count, error } = await appendUntilRefused(store)
        expect(error).toMatchObject({ code: 'STORE_IO' })
        expect(count).toBeGreaterThan(0)
        acknowledged += count
        await expect(
          store.transaction(async (tx: Tx) => {
            await recordOnce(tx, 'nonce', `${round}`, NOW_MS)
            await appendAudit(tx, large(0))
          }),
        ).rejects.toMatchObject({ code: 'STORE_IO' })
        rmSync(ballast)

        expect(await usedOnce(store)).toEqual([])
        const { records, findings } = await verifyAudit(store, 'attestation')
        expect(failures(findings)).toEqual([])
        expect(records).toBe(acknowledged)
        expect(await append(store, large(0))).toMatchObject({ seq: acknowledged + 1 })
        acknowledged += 1
      }
    } finally {
      await run('umount', [volume])
    }
  })

  test('no database is made, and one is once there is room', async () => {
    using folder = temporaryFolder()
    const volume = folder.file('volume')
    mkdirSync(volume)
    await run('mount', ['-t', 'tmpfs', '-o', 'size=1m,mode=0700', 'tmpfs', volume])
    try {
      writeFileSync(`${volume}/ballast`, new Uint8Array(1024 * 1024 - 16_384))
      const file = `${volume}/sigillo.db`
      await expect(openStore({ file })).rejects.toMatchObject({ code: 'STORE_IO' })
      rmSync(`${volume}/ballast`)
      await using store = await openStore({ file })
      expect(await append(store, auditEntry(1))).toMatchObject({ seq: 1 })
    } finally {
      await run('umount', [volume])
    }
  })
})

describe('in a database that cannot grow', () => {
  test('a transaction that goes on after a failed write commits no part of itself', async () => {
    await using opened = await openTestStore()
    const { store } = opened
    await limitPages(store)
    const attempt = store.transaction(async (tx: Tx) => {
      await recordOnce(tx, 'nonce', 'before', NOW_MS)
      const refusal = await writeTooMuch(tx)
      expect(isPlatformError(refusal, 'STORE_IO')).toBe(true)
      await recordOnce(tx, 'nonce', 'after', NOW_MS)
    })
    await expect(attempt).rejects.toMatchObject({ code: 'STORE_IO' })
    expect(await usedOnce(store)).toEqual([])
  })

  test('a transaction that hides a failed write is not acknowledged either', async () => {
    await using opened = await openTestStore()
    const { store } = opened
    await limitPages(store)
    const attempt = store.transaction(async (tx: Tx) => {
      await recordOnce(tx, 'nonce', 'before', NOW_MS)
      await writeTooMuch(tx)
    })
    await expect(attempt).rejects.toMatchObject({ code: 'STORE_IO' })
    expect(await usedOnce(store)).toEqual([])
  })

  test('refusals outside of a transaction are the same, name their cause and show no statement', async () => {
    await using opened = await openTestStore()
    const { store } = opened
    await limitPages(store)
    const attempt = createOperator(store, {
      name: 'x'.repeat(60_000),
      role: 'auditor',
      services: [],
      nowMs: NOW_MS,
    })
    await expect(attempt).rejects.toMatchObject({
      code: 'STORE_IO',
      message: 'the database cannot be used: SQLITE_FULL',
      cause: { code: 'SQLITE_FULL' },
    })
  })
})

async function writeTooMuch(tx: Tx): Promise<unknown> {
  try {
    for (let number = 0; number < 100; number += 1) await appendAudit(tx, large(number))
    return undefined
  } catch (error) {
    return error
  }
}
