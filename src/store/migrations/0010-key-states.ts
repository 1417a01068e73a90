import type { Kysely, Migration } from 'kysely'

/** When a version of a primary key came into its state. */
export const keyStatesMigration: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    await db.schema
      .alterTable('key_provider_versions')
      .addColumn('changed_at_ms', 'bigint')
      .execute()
  },
}
