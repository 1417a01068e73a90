import type { Kysely, Transaction } from 'kysely'
import { expect, test } from 'vitest'
import { type FoundationTables, openStore } from '../../../src/store/index.js'
import { keptQuery, type Parameters } from '../../../src/store/kept-query.js'

interface Entry {
  readonly key: string
  readonly untilMs: number
}

const insert = keptQuery((db: Kysely<FoundationTables>, parameter: Parameters<Entry>) =>
  db
    .insertInto('once_records')
    .values({ kind: 'test', key: parameter('key'), expires_at_ms: parameter('untilMs') })
    .onConflict((conflict) => conflict.columns(['kind', 'key']).doNothing()),
)

const select = keptQuery(
  (db: Kysely<FoundationTables>, parameter: Parameters<Pick<Entry, 'untilMs'>>) =>
    db
      .selectFrom('once_records')
      .select('key')
      .where('expires_at_ms', '>', parameter('untilMs'))
      .orderBy('key')
      .limit(2),
)

test('a query that is kept takes other values each time', async () => {
  await using store = await openStore({ file: ':memory:' })
  const [rows, again] = await store.transaction(async (tx: Transaction<FoundationTables>) => {
    for (const [key, untilMs] of [
      ['a', 10],
      ['b', 20],
      ['c', 30],
    ] as const) {
      expect((await insert(tx, { key, untilMs })).numAffectedRows).toBe(1n)
    }
    expect((await insert(tx, { key: 'c', untilMs: 40 })).numAffectedRows).toBe(0n)
    return [(await select(tx, { untilMs: 15 })).rows, (await select(tx, { untilMs: 5 })).rows]
  })
  expect(rows).toEqual([{ key: 'b' }, { key: 'c' }])
  expect(again).toEqual([{ key: 'a' }, { key: 'b' }])
})

test('a query that is kept refuses to run without one of its values', async () => {
  await using store = await openStore({ file: ':memory:' })
  const without = store.transaction(async (tx: Transaction<FoundationTables>) =>
    select(tx, {} as { untilMs: number }),
  )
  await expect(without).rejects.toThrow('no value for the parameter untilMs')
})
