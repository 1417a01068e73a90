import Database from 'better-sqlite3'
import { Kysely } from 'kysely'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { StoreDialect } from '../../../src/store/sqlite-dialect.js'

interface Tables {
  parent: { id: number }
  child: { id: number; parent: number }
}

let statements: string[]
let sqlite: Database.Database
let db: Kysely<Tables>

beforeEach(() => {
  statements = []
  sqlite = new Database(':memory:', { verbose: (sql) => statements.push(String(sql)) })
  sqlite.pragma('foreign_keys = ON')
  sqlite.exec('create table parent (id integer primary key)')
  sqlite.exec(
    'create table child (id integer primary key, parent integer references parent (id) deferrable initially deferred)',
  )
  db = new Kysely<Tables>({ dialect: new StoreDialect(sqlite) })
  statements.length = 0
})
afterEach(() => db.destroy())

const insert = (id: number, fail = false) =>
  db.transaction().execute(async (tx) => {
    await tx.insertInto('parent').values({ id }).execute()
    if (fail) throw new Error(`failed ${id}`)
    return id
  })

const commits = () => statements.filter((sql) => /^commit/i.test(sql)).length
const ids = async () =>
  (await db.selectFrom('parent').select('id').orderBy('id').execute()).map(({ id }) => id)

describe('transactions', () => {
  test('that wait for one another are committed together, and acknowledged in their order', async () => {
    const order: number[] = []
    const all = Array.from({ length: 50 }, (_, id) => insert(id).then((done) => order.push(done)))
    await Promise.all(all)
    expect(commits()).toBeLessThan(10)
    expect(order).toEqual(Array.from({ length: 50 }, (_, id) => id))
    expect(await ids()).toHaveLength(50)
  })

  test('that come one after the other are each on the disk before the next begins', async () => {
    for (let id = 0; id < 5; id += 1) await insert(id)
    expect(commits()).toBe(5)
  })

  test('are none of them acknowledged before the commit', async () => {
    const told = Array.from({ length: 10 }, (_, id) =>
      insert(id).then(() => statements.filter((sql) => /^insert/i.test(sql)).length),
    )
    const inserted = await Promise.all(told)
    const lastCommit = statements.findLastIndex((sql) => /^commit/i.test(sql))
    expect(lastCommit).toBe(statements.length - 1)
    expect(inserted[0]).toBeGreaterThan(1)
  })

  test('take back their own changes alone', async () => {
    const all = await Promise.allSettled([1, 2, 3, 4, 5].map((id) => insert(id, id % 2 === 0)))
    expect(all.map(({ status }) => status)).toEqual([
      'fulfilled',
      'rejected',
      'fulfilled',
      'rejected',
      'fulfilled',
    ])
    expect(await ids()).toEqual([1, 3, 5])
  })

  test('fail together where their commit fails, and leave nothing', async () => {
    const broken = db
      .transaction()
      .execute((tx) => tx.insertInto('child').values({ id: 1, parent: 99 }).execute())
    const all = await Promise.allSettled([insert(1), broken, insert(2)])
    expect(all.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected'])
    expect(await ids()).toEqual([])
    await expect(insert(3)).resolves.toBe(3)
    expect(await ids()).toEqual([3])
  })

  test('see what those before them in the group did', async () => {
    const seen = [1, 2, 3].map((id) =>
      db.transaction().execute(async (tx) => {
        await tx.insertInto('parent').values({ id }).execute()
        return (await tx.selectFrom('parent').select('id').execute()).length
      }),
    )
    expect(await Promise.all(seen)).toEqual([1, 2, 3])
  })

  test('are in groups of bounded size', async () => {
    await Promise.all(Array.from({ length: 200 }, (_, id) => insert(id)))
    expect(commits()).toBeGreaterThanOrEqual(3)
  })
})

test('a statement outside of a transaction is on the disk when it is answered, between groups', async () => {
  const all = [insert(1), insert(2)]
  const outside = db.insertInto('parent').values({ id: 3 }).execute()
  const after = insert(4)
  await outside
  expect(sqlite.inTransaction && statements.at(-1)?.startsWith('insert')).toBe(false)
  await Promise.all([...all, after])
  expect(await ids()).toEqual([1, 2, 3, 4])
})

test('statements are prepared once, also after the schema has changed', async () => {
  await insert(1)
  sqlite.exec('alter table parent add column note text')
  await insert(2)
  expect(await db.selectFrom('parent').selectAll().execute()).toEqual([
    { id: 1, note: null },
    { id: 2, note: null },
  ])
})
