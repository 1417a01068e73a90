import type { Kysely, Migration } from 'kysely'

/** Attestation keys and endorsement keys that no host may enrol with. */
export const revokedKeysMigration: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    await db.schema
      .createTable('attestation_revoked_keys')
      .addColumn('key_id', 'text', (column) => column.primaryKey())
      .addColumn('reason', 'text', (column) => column.notNull())
      .addColumn('revoked_at_ms', 'bigint', (column) => column.notNull())
      .execute()
  },
}
