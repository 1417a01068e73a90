import type { Kysely, Transaction } from 'kysely'
import { keptQuery, type Parameters } from './kept-query.js'
import type { Store } from './store.js'
import type { FoundationTables } from './tables.js'

/**
 * Records that something was used: a nonce, the identifier of a proof.
 *
 * @param kind keeps keys of different uses apart
 * @param expiresAtMs until when the key must be remembered: not before it is refused for its age anyway
 * @returns false where it was used before
 */
export async function recordOnce(
  tx: Transaction<FoundationTables>,
  kind: string,
  key: string,
  expiresAtMs: number,
): Promise<boolean> {
  const { numAffectedRows } = await insertOnce(tx, { kind, key, expiresAtMs })
  return (numAffectedRows ?? 0n) > 0n
}

interface OnceKey {
  readonly kind: string
  readonly key: string
}

const insertOnce = keptQuery(
  (
    db: Kysely<FoundationTables>,
    parameter: Parameters<OnceKey & { readonly expiresAtMs: number }>,
  ) =>
    db
      .insertInto('once_records')
      .values({
        kind: parameter('kind'),
        key: parameter('key'),
        expires_at_ms: parameter('expiresAtMs'),
      })
      .onConflict((conflict) => conflict.columns(['kind', 'key']).doNothing()),
)

/** Whether something was recorded by `recordOnce` and is still remembered. */
export async function wasRecorded(
  tx: Transaction<FoundationTables>,
  kind: string,
  key: string,
): Promise<boolean> {
  const { rows } = await selectOnce(tx, { kind, key })
  return rows.length > 0
}

const selectOnce = keptQuery((db: Kysely<FoundationTables>, parameter: Parameters<OnceKey>) =>
  db
    .selectFrom('once_records')
    .select('key')
    .where('kind', '=', parameter('kind'))
    .where('key', '=', parameter('key')),
)

/** Forgets what need not be remembered any longer; returns how many. */
export async function purgeExpired(store: Store, nowMs: number): Promise<number> {
  const result = await store.transaction((tx: Transaction<FoundationTables>) =>
    tx.deleteFrom('once_records').where('expires_at_ms', '<', nowMs).executeTakeFirst(),
  )
  return Number(result.numDeletedRows)
}
