import { type Kysely, type Migration, sql } from 'kysely'

/** A root key may have several seals: each a row of its own; the one that it had so far becomes the first. */
export const rootKeySealsMigration: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    await db.schema
      .createTable('root_key_seals')
      .addColumn('seal_id', 'text', (column) => column.primaryKey())
      .addColumn('root_key', 'text', (column) => column.notNull().references('root_keys.name'))
      .addColumn('kind', 'text', (column) => column.notNull())
      .addColumn('parameters', 'text', (column) => column.notNull())
      .addColumn('sealed', 'blob', (column) => column.notNull())
      .addColumn('created_at_ms', 'bigint', (column) => column.notNull())
      .execute()
    await db.schema
      .createIndex('root_key_seals_of_key')
      .on('root_key_seals')
      .column('root_key')
      .execute()
    await sql`
      insert into root_key_seals (seal_id, root_key, kind, parameters, sealed, created_at_ms)
      select name || '-passphrase', name, 'passphrase', parameters, sealed, created_at_ms
      from root_keys
    `.execute(db)
    await db.schema
      .alterTable('root_keys')
      .addColumn('generation', 'integer', (column) => column.notNull().defaultTo(1))
      .execute()
    await db.schema.alterTable('root_keys').dropColumn('parameters').execute()
    await db.schema.alterTable('root_keys').dropColumn('sealed').execute()
  },
}
