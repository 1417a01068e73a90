import type { Kysely, Migration } from 'kysely'

/** Which wrapped keys there are of each version of a primary key, and versions that are to be destroyed. */
export const keyReferencesMigration: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    const versions = () => db.schema.alterTable('key_provider_versions')
    await versions().addColumn('destroy_at_ms', 'bigint').execute()

    await db.schema
      .createTable('key_references')
      .addColumn('provider_id', 'text', (column) =>
        column.notNull().references('key_provider_providers.provider_id'),
      )
      // the random identifier in the header of the wrapped key
      .addColumn('dek_id', 'text', (column) => column.notNull())
      .addColumn('version', 'integer', (column) => column.notNull())
      .addPrimaryKeyConstraint('key_references_key', ['provider_id', 'dek_id'])
      .execute()
    await db.schema
      .createIndex('key_references_by_version')
      .on('key_references')
      .columns(['provider_id', 'version'])
      .execute()
  },
}
