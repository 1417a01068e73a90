import type { Kysely, Migration } from 'kysely'

/** Key providers that hosts use where a request names none: of the site, and of clusters. */
export const defaultProvidersMigration: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    await db.schema
      .createTable('control_plane_default_providers')
      // Empty, which is no name of a cluster, for the site
      .addColumn('cluster', 'text', (column) => column.primaryKey())
      // A name, and no reference: the provider may be one of the key provider service
      .addColumn('provider', 'text', (column) => column.notNull())
      .addColumn('set_by', 'text', (column) => column.notNull())
      .addColumn('set_at_ms', 'bigint', (column) => column.notNull())
      .execute()
  },
}
