// A process of its own that writes to a store: `writer.ts <file> <mode> <count>`. Prints one line for each commit.
import { writeSync } from 'node:fs'
import type { Transaction } from 'kysely'
import {
  appendAudit,
  type FoundationTables,
  openStore,
  recordOnce,
} from '../../../src/store/index.js'
import { auditEntry } from './support.js'

const [file, mode, count] = process.argv.slice(2)
if (file === undefined) throw new TypeError('expected a file')

const acknowledge = (line: string | number): void => {
  writeSync(1, `${line}\n`)
}

await using store = await openStore({ file })
acknowledge('open')
for (let number = 0; number < Number(count); number += 1) {
  await store.transaction(async (tx: Transaction<FoundationTables>) => {
    if (mode === 'count') await addOne(tx)
    await appendAudit(tx, auditEntry(number, { actor: `process:${process.pid}` }))
    await recordOnce(tx, 'write', `${process.pid}.${number}`, number)
  })
  acknowledge(`${process.pid}.${number}`)
}

/** Reads, waits a turn, writes what it read plus one: wrong as soon as another process can come between. */
async function addOne(tx: Transaction<FoundationTables>): Promise<void> {
  const { expires_at_ms: value } = await tx
    .selectFrom('once_records')
    .select('expires_at_ms')
    .where('kind', '=', 'counter')
    .executeTakeFirstOrThrow()
  await new Promise((resolve) => setImmediate(resolve))
  await tx
    .updateTable('once_records')
    .set({ expires_at_ms: value + 1 })
    .where('kind', '=', 'counter')
    .execute()
}
