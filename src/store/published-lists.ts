import type { Transaction } from 'kysely'
import type { FoundationTables } from './tables.js'

/** The revocation list of an authority of this site, as it was signed. */
export interface PublishedList {
  /** SHA-256 of the certificate of the authority, hexadecimal. */
  readonly issuerFingerprint: string
  /** Rises with each list. */
  readonly number: number
  /** DER */
  readonly list: Uint8Array
  readonly nextUpdateMs: number
}

/**
 * Puts a list in the place of the one before it. The service that has the authority alone does, in the transaction that
 * revokes: whoever reads lists in a transaction of its own sees a revocation at once.
 */
export async function publishList(
  tx: Transaction<FoundationTables>,
  { issuerFingerprint, number, list, nextUpdateMs }: PublishedList,
): Promise<void> {
  const columns = { number, list, next_update_ms: nextUpdateMs }
  await tx
    .insertInto('published_revocation_lists')
    .values({ issuer_fingerprint: issuerFingerprint, ...columns })
    .onConflict((conflict) => conflict.column('issuer_fingerprint').doUpdateSet(columns))
    .execute()
}

/** The lists of all authorities of this site. */
export async function readPublishedLists(
  tx: Transaction<FoundationTables>,
): Promise<readonly PublishedList[]> {
  const rows = await tx
    .selectFrom('published_revocation_lists')
    .selectAll()
    .orderBy('issuer_fingerprint')
    .execute()
  return rows.map((row) => ({
    issuerFingerprint: row.issuer_fingerprint,
    number: row.number,
    list: new Uint8Array(row.list),
    nextUpdateMs: row.next_update_ms,
  }))
}
