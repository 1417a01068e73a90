import type { Kysely, Migration } from 'kysely'

/** Keys that reference values may be signed with. */
export const referenceSignersMigration: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    await db.schema
      .createTable('attestation_reference_signers')
      .addColumn('signer_id', 'text', (column) => column.primaryKey())
      .addColumn('pem', 'text', (column) => column.notNull())
      .addColumn('note', 'text', (column) => column.notNull())
      .addColumn('added_at_ms', 'bigint', (column) => column.notNull())
      .execute()
  },
}
