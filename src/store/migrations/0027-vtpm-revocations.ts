import type { Kysely, Migration } from 'kysely'

/** Certificates of virtual TPMs that were taken back, and the lists that say so. */
export const vtpmRevocationsMigration: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    await db.schema
      .createTable('control_plane_vtpm_revocations')
      .addColumn('fingerprint', 'text', (column) => column.primaryKey())
      .addColumn('serial', 'text', (column) => column.notNull())
      .addColumn('not_after_ms', 'bigint', (column) => column.notNull())
      .addColumn('reason', 'text', (column) => column.notNull())
      .addColumn('revoked_at_ms', 'bigint', (column) => column.notNull())
      .execute()

    // Written by the service that has the authority, read by all.
    await db.schema
      .createTable('published_revocation_lists')
      .addColumn('issuer_fingerprint', 'text', (column) => column.primaryKey())
      .addColumn('number', 'bigint', (column) => column.notNull())
      .addColumn('list', 'blob', (column) => column.notNull())
      .addColumn('next_update_ms', 'bigint', (column) => column.notNull())
      .execute()
  },
}
