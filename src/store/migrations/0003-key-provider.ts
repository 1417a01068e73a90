import type { Kysely, Migration } from 'kysely'

/** Tables of the key provider. */
export const keyProviderMigration: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    await db.schema
      .createTable('key_provider_providers')
      .addColumn('provider_id', 'text', (column) => column.primaryKey())
      .addColumn('name', 'text', (column) => column.notNull().unique())
      .addColumn('settings', 'text', (column) => column.notNull())
      .addColumn('created_at_ms', 'bigint', (column) => column.notNull())
      .execute()

    await db.schema
      .createTable('key_provider_versions')
      .addColumn('provider_id', 'text', (column) =>
        column.notNull().references('key_provider_providers.provider_id'),
      )
      .addColumn('version', 'integer', (column) => column.notNull())
      .addColumn('state', 'text', (column) => column.notNull())
      .addColumn('created_at_ms', 'bigint', (column) => column.notNull())
      .addColumn('sealed', 'blob', (column) => column.notNull())
      .addPrimaryKeyConstraint('key_provider_versions_key', ['provider_id', 'version'])
      .execute()
  },
}
