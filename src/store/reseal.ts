import type { Kysely, Transaction } from 'kysely'
import { PlatformError } from '../core/errors.js'
import { ANSWER_PURPOSE, answerContext } from './idempotent-answers.js'
import type { RootKey } from './root-key.js'
import { SERVICE_KEY_PURPOSE, serviceKeyContext } from './service-keys.js'
import type { FoundationTables } from './tables.js'

export type SealedRow = Readonly<Record<string, unknown>>

/** A column whose octets are sealed under the root key of a service: what a change of the key has to seal again. */
export interface SealedColumn {
  readonly table: string
  readonly column: string
  /** Columns that name one row. */
  readonly keys: readonly string[]
  /** Which rows are of the service, in a table that it shares with others. */
  readonly where?: readonly [column: string, value: string]
  readonly purpose: string
  readonly contextOf: (row: SealedRow) => Uint8Array
}

/** What every service keeps sealed in the tables that all share. */
export function sharedSealedColumns(service: string): readonly SealedColumn[] {
  const where = ['service', service] as const
  return [
    {
      ...{ table: 'service_keys', column: 'sealed', keys: ['service', 'name'], where },
      purpose: SERVICE_KEY_PURPOSE,
      contextOf: (row) => serviceKeyContext(service, textOf(row, 'name')),
    },
    {
      ...{ table: 'idempotent_answers', column: 'sealed', keys: ['service', 'scope', 'key'] },
      where,
      purpose: ANSWER_PURPOSE,
      contextOf: (row) => answerContext(service, textOf(row, 'scope'), textOf(row, 'key')),
    },
  ]
}

/** The text in a column that has no other values. */
export function textOf(row: SealedRow, column: string): string {
  const value = row[column]
  if (typeof value !== 'string') throw new TypeError(`${column} is no text`)
  return value
}

/**
 * Seals every record of these columns again: opened with `from`, sealed under `to`.
 *
 * @returns how many there were
 * @throws PlatformError `ROOT_KEY_OPEN` at the first that does not open, naming its table
 */
export async function resealRecords(
  tx: Transaction<FoundationTables>,
  columns: readonly SealedColumn[],
  from: RootKey,
  to: RootKey,
): Promise<number> {
  const tables = tx as unknown as Kysely<Record<string, Record<string, unknown>>>
  let resealed = 0
  for (const { table, column, keys, where, purpose, contextOf } of columns) {
    let query = tables.selectFrom(table).selectAll().where(column, 'is not', null)
    if (where) query = query.where(where[0], '=', where[1])
    for (const row of await query.execute()) {
      // Of a key that was destroyed no octets are left.
      if ((row[column] as Uint8Array).length === 0) continue
      const context = contextOf(row)
      using secret = openRecord(from, purpose, context, row[column], table)
      const sealed = secret.use((octets) => to.seal(purpose, context, octets))
      let update = tables.updateTable(table).set({ [column]: sealed })
      for (const key of keys) update = update.where(key, '=', row[key])
      await update.execute()
      resealed += 1
    }
  }
  return resealed
}

function openRecord(
  key: RootKey,
  purpose: string,
  context: Uint8Array,
  sealed: unknown,
  table: string,
) {
  try {
    return key.open(purpose, context, new Uint8Array(sealed as Uint8Array))
  } catch (cause) {
    throw new PlatformError('ROOT_KEY_OPEN', `a record of ${table} does not open`, { cause })
  }
}
