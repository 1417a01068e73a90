import { type Kysely, type Migration, sql } from 'kysely'

/** Which wrapped keys there are of each version of a primary key, and versions that are to be destroyed. */
export const keyReferencesMigration: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    const versions = () => db.schema.alterTable('key_provider_versions')
    await versions().addColumn('destroy_at_ms', 'bigint').execute()

    // The one tree of the table is in the order in which keys come: by version, then those that were wrapped together.
    await db.schema
      .createTable('key_references')
      .addColumn('provider_id', 'text', (column) =>
        column.notNull().references('key_provider_providers.provider_id'),
      )
      .addColumn('version', 'integer', (column) => column.notNull())
      // the random identifier in the header of the wrapped key
      .addColumn('dek_id', 'text', (column) => column.notNull())
      .addPrimaryKeyConstraint('key_references_key', ['provider_id', 'version', 'dek_id'])
      .modifyEnd(sql`without rowid`)
      .execute()
  },
}
