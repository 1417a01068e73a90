import { describe, expect, test } from 'vitest'
import { PlatformError } from '../../../src/core/errors.js'
import { failures } from '../../../src/core/finding.js'
import {
  appendAudit,
  createOperator,
  isUniqueViolation,
  openStore,
  purgeExpired,
  recordOnce,
  verifyAudit,
} from '../../../src/store/index.js'
import { append, auditEntry, NOW_MS, openTestStore, type Tx } from './support.js'

const nextTurn = () => new Promise((resolve) => setImmediate(resolve))

describe('a transaction', () => {
  test('that throws changes nothing and passes on what was thrown', async () => {
    await using opened = await openTestStore()
    const { store } = opened
    const mistake = new PlatformError('CONFLICT', 'expected another state')
    const attempt = store.transaction(async (tx: Tx) => {
      await appendAudit(tx, auditEntry(1))
      await recordOnce(tx, 'nonce', 'a', NOW_MS)
      throw mistake
    })
    await expect(attempt).rejects.toBe(mistake)
    expect(await verifyAudit(store, 'attestation')).toMatchObject({ records: 0 })
    expect(await store.transaction((tx: Tx) => recordOnce(tx, 'nonce', 'a', NOW_MS))).toBe(true)
  })

  test('goes on after a key that was there, and tells that apart from other failures', async () => {
    await using opened = await openTestStore()
    const { store } = opened
    await store.transaction(async (tx: Tx) => {
      const row = { service: 'attestation', name: 'a', sealed: Uint8Array.of(1) }
      const insert = () => tx.insertInto('service_keys').values(row).execute()
      await insert()
      expect(isUniqueViolation(await insert().catch((error: unknown) => error))).toBe(true)
      await recordOnce(tx, 'nonce', 'a', NOW_MS)
    })
    expect(await store.transaction((tx: Tx) => recordOnce(tx, 'nonce', 'a', NOW_MS))).toBe(false)
    for (const other of [undefined, null, 'SQLITE_CONSTRAINT_UNIQUE', new TypeError('x')]) {
      expect(isUniqueViolation(other)).toBe(false)
    }
  })

  test('is alone from its first read: hundreds that check and then write lose nothing', async () => {
    await using opened = await openTestStore()
    const { store } = opened
    await Promise.all(
      Array.from({ length: 300 }, (_, number) =>
        store.transaction(async (tx: Tx) => {
          if (number % 7 === 0) await nextTurn()
          await appendAudit(tx, auditEntry(number))
        }),
      ),
    )
    const { records, findings } = await verifyAudit(store, 'attestation')
    expect(records).toBe(300)
    expect(failures(findings)).toEqual([])
  })

  test('and queries outside of it do not see its writes before they are committed', async () => {
    await using opened = await openTestStore()
    const { store } = opened
    const order: string[] = []
    const writing = store.transaction(async (tx: Tx) => {
      await recordOnce(tx, 'nonce', 'a', NOW_MS)
      await nextTurn()
      order.push('written')
    })
    const reading = purgeExpired(store, NOW_MS + 1).then((purged) => order.push(`purged ${purged}`))
    await Promise.all([writing, reading])
    expect(order).toEqual(['written', 'purged 1'])
  })

  test('keeps other work of the process waiting for no longer than one of its like', async () => {
    await using opened = await openTestStore()
    const { store } = opened
    let committed = 0
    let committedAtTurn: number | undefined
    const all = Array.from({ length: 100 }, async (_, number) => {
      await append(store, auditEntry(number))
      committed += 1
    })
    setImmediate(() => {
      committedAtTurn = committed
    })
    await Promise.all(all)
    expect(committedAtTurn).toBeLessThan(10)
  })
})

describe('a store that was closed', () => {
  test('refuses transactions, also one that is under way, of which nothing remains', async () => {
    await using opened = await openTestStore()
    const store = await openStore({ file: opened.file })
    const attempt = store.transaction(async (tx: Tx) => {
      await recordOnce(tx, 'nonce', 'a', NOW_MS)
      await store[Symbol.asyncDispose]()
      await recordOnce(tx, 'nonce', 'b', NOW_MS)
    })
    await expect(attempt).rejects.toMatchObject({ code: 'STORE_IO' })
    await expect(append(store, auditEntry(1))).rejects.toMatchObject({ code: 'STORE_IO' })
    expect(await opened.store.transaction((tx: Tx) => recordOnce(tx, 'nonce', 'a', NOW_MS))).toBe(
      true,
    )
  })
})

describe('a store in memory', () => {
  test('keeps the same promises while it lasts', async () => {
    await using store = await openStore({ file: ':memory:' })
    await append(store, auditEntry(1))
    await createOperator(store, {
      name: 'admin',
      role: 'administrator',
      services: [],
      nowMs: NOW_MS,
    })
    expect(await verifyAudit(store, 'attestation')).toMatchObject({ records: 1 })
  })
})

describe('what may be used once', () => {
  test('is used once by fifty at the same time', async () => {
    await using opened = await openTestStore()
    const { store } = opened
    const answers = await Promise.all(
      Array.from({ length: 50 }, () =>
        store.transaction((tx: Tx) => recordOnce(tx, 'dpop', 'proof-1', NOW_MS)),
      ),
    )
    expect(answers.filter((first) => first)).toHaveLength(1)
  })

  test('is remembered for its kind, octet by octet', async () => {
    await using opened = await openTestStore()
    const use = (kind: string, key: string) =>
      opened.store.transaction((tx: Tx) => recordOnce(tx, kind, key, NOW_MS))
    expect(await use('nonce', 'a')).toBe(true)
    for (const other of ['A', 'a ', 'a\0', 'á', '']) expect(await use('nonce', other)).toBe(true)
    expect(await use('dpop', 'a')).toBe(true)
    expect(await use('nonce', 'a')).toBe(false)
  })

  test('is forgotten after its time, not before', async () => {
    await using opened = await openTestStore()
    const { store } = opened
    const use = (key: string, expiresAtMs: number) =>
      store.transaction((tx: Tx) => recordOnce(tx, 'nonce', key, expiresAtMs))
    await use('a', NOW_MS)
    await use('b', NOW_MS + 1)
    expect(await purgeExpired(store, NOW_MS)).toBe(0)
    expect(await use('a', NOW_MS)).toBe(false)
    expect(await purgeExpired(store, NOW_MS + 1)).toBe(1)
    expect(await use('a', NOW_MS)).toBe(true)
    expect(await use('b', NOW_MS + 1)).toBe(false)
  })
})
