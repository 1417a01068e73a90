import type { Kysely, Migration } from 'kysely'

/** Boot event logs apart from the bundles that they are of: a host brings the same one until it boots again. */
export const eventLogsMigration: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    await db.schema
      .createTable('attestation_event_logs')
      .addColumn('digest', 'blob', (column) => column.primaryKey())
      .addColumn('log', 'text', (column) => column.notNull())
      .execute()
    await db.schema.alterTable('attestation_bundles').addColumn('log_digest', 'blob').execute()
    await db.schema
      .createIndex('attestation_bundles_of_log')
      .on('attestation_bundles')
      .columns(['log_digest'])
      .execute()
  },
}
