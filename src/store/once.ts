import type { Transaction } from 'kysely'
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
  const result = await tx
    .insertInto('once_records')
    .values({ kind, key, expires_at_ms: expiresAtMs })
    .onConflict((conflict) => conflict.columns(['kind', 'key']).doNothing())
    .executeTakeFirst()
  return (result.numInsertedOrUpdatedRows ?? 0n) > 0n
}

/** Whether something was recorded by `recordOnce` and is still remembered. */
export async function wasRecorded(
  tx: Transaction<FoundationTables>,
  kind: string,
  key: string,
): Promise<boolean> {
  const row = await tx
    .selectFrom('once_records')
    .select('key')
    .where('kind', '=', kind)
    .where('key', '=', key)
    .executeTakeFirst()
  return row !== undefined
}

/** Forgets what need not be remembered any longer; returns how many. */
export async function purgeExpired(store: Store, nowMs: number): Promise<number> {
  const result = await store.transaction((tx: Transaction<FoundationTables>) =>
    tx.deleteFrom('once_records').where('expires_at_ms', '<', nowMs).executeTakeFirst(),
  )
  return Number(result.numDeletedRows)
}
