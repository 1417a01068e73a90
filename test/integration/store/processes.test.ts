import { expect, test } from 'vitest'
import { failures } from '../../../src/core/finding.js'
import {
  type FoundationTables,
  listAudit,
  openStore,
  recordOnce,
  type Store,
  verifyAudit,
} from '../../../src/store/index.js'
import { startWriter } from './processes.js'
import { append, auditEntry, openTestStore, type Tx, temporaryFolder } from './support.js'

const CHAIN = 'attestation'

async function writesOf(store: Store): Promise<string[]> {
  const rows = await store
    .tables<FoundationTables>()
    .selectFrom('once_records')
    .select('key')
    .where('kind', '=', 'write')
    .execute()
  return rows.map(({ key }) => key).sort()
}

test('processes that write at once lose no record, no count and no order', async () => {
  await using opened = await openTestStore()
  const { store, file } = opened
  await store.transaction((tx: Tx) => recordOnce(tx, 'counter', 'of all', 0))
  const writers = [1, 2, 3].map(() => startWriter(file, 'count', 60))
  for (let number = 0; number < 60; number += 1) await append(store, auditEntry(number))
  for (const { end } of writers) {
    expect(await end).toMatchObject({ code: 0, lines: { length: 61 } })
  }
  const { records, findings } = await verifyAudit(store, CHAIN)
  expect(records).toBe(240)
  expect(failures(findings)).toEqual([])
  const counter = await store
    .tables<FoundationTables>()
    .selectFrom('once_records')
    .select('expires_at_ms')
    .where('kind', '=', 'counter')
    .executeTakeFirstOrThrow()
  expect(counter.expires_at_ms).toBe(180)
})

test('processes that start at once on a new database all come up', async () => {
  for (let round = 0; round < 2; round += 1) {
    using folder = temporaryFolder()
    const file = folder.file('sigillo.db')
    const ends = await Promise.all([1, 2, 3, 4].map(() => startWriter(file, 'append', 1).end))
    expect(ends.map(({ code }) => code)).toEqual([0, 0, 0, 0])
    await using store = await openStore({ file })
    expect(await verifyAudit(store, CHAIN)).toMatchObject({ records: 4 })
  }
})

test('a process that is killed while it writes loses nothing it acknowledged, and leaves nothing half', async () => {
  using folder = temporaryFolder()
  const file = folder.file('sigillo.db')
  const acknowledged: string[] = []
  for (const linesBeforeKill of [1, 2, 3, 10, 50, 200]) {
    const writer = startWriter(file, 'append', 100_000)
    let seen = 0
    writer.lines.on('line', () => {
      seen += 1
      if (seen === linesBeforeKill) writer.kill()
    })
    const { lines, signal } = await writer.end
    expect(signal).toBe('SIGKILL')
    acknowledged.push(...lines.filter((line) => line !== 'open'))

    await using store = await openStore({ file })
    const kept = await writesOf(store)
    expect(kept).toEqual(expect.arrayContaining(acknowledged))
    const { records, findings } = await verifyAudit(store, CHAIN)
    expect(failures(findings)).toEqual([])
    expect(records).toBe(kept.length)
    const audited = new Set<string>()
    for (let after = 0; after < records; after += 1000) {
      for (const record of await listAudit(store, { chain: CHAIN, afterSeq: after, limit: 1000 })) {
        audited.add(`${record.actor.slice('process:'.length)}.${record.detail['number']}`)
      }
    }
    expect([...audited].sort()).toEqual(kept)
  }
})
