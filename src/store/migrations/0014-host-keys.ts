import type { Kysely, Migration } from 'kysely'

/** Key providers whose keys the control plane delivers to hosts, and what is known of each delivery. */
export const hostKeysMigration: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    await db.schema
      .createTable('control_plane_key_providers')
      .addColumn('provider_id', 'text', (column) => column.primaryKey())
      .addColumn('name', 'text', (column) => column.notNull().unique())
      .addColumn('kind', 'text', (column) => column.notNull())
      .addColumn('tpm_required', 'integer', (column) => column.notNull())
      .addColumn('state', 'text', (column) => column.notNull())
      .addColumn('created_at_ms', 'bigint', (column) => column.notNull())
      .addColumn('backup_max_age_days', 'integer')
      // SHA-256 and newest version of a backup that was made and not yet said to be written
      .addColumn('pending_backup', 'text')
      .addColumn('backed_up_at_ms', 'bigint')
      .addColumn('warned_at_ms', 'bigint')
      .addColumn('key_servers', 'text')
      .addColumn('sealed_key_servers', 'blob')
      .execute()
    await db.schema
      .createTable('control_plane_key_provider_clusters')
      .addColumn('provider_id', 'text', (column) => column.notNull())
      .addColumn('cluster', 'text', (column) => column.notNull())
      .addPrimaryKeyConstraint('control_plane_key_provider_clusters_key', [
        'provider_id',
        'cluster',
      ])
      .execute()

    // Native: a version of the key derivation key, sealed. Standard: the id of a key at the key server, and no key.
    await db.schema
      .createTable('control_plane_host_keys')
      .addColumn('provider_id', 'text', (column) => column.notNull())
      .addColumn('version', 'integer', (column) => column.notNull())
      .addColumn('created_at_ms', 'bigint', (column) => column.notNull())
      .addColumn('usable_at_ms', 'bigint')
      .addColumn('sealed', 'blob')
      .addColumn('key_id', 'text')
      .addColumn('cluster', 'text')
      .addColumn('use_kind', 'text')
      .addColumn('use_id', 'text')
      .addColumn('described_at_ms', 'bigint')
      .addPrimaryKeyConstraint('control_plane_host_keys_key', ['provider_id', 'version'])
      .execute()
    await db.schema
      .createIndex('control_plane_host_keys_of_use')
      .on('control_plane_host_keys')
      .columns(['provider_id', 'cluster', 'use_kind', 'use_id'])
      .execute()

    await db.schema
      .createTable('control_plane_key_deliveries')
      .addColumn('provider_id', 'text', (column) => column.notNull())
      .addColumn('version', 'integer', (column) => column.notNull())
      .addColumn('host_id', 'text', (column) => column.notNull())
      .addColumn('state', 'text', (column) => column.notNull())
      .addColumn('code', 'text')
      .addColumn('at_ms', 'bigint', (column) => column.notNull())
      .addPrimaryKeyConstraint('control_plane_key_deliveries_key', [
        'provider_id',
        'version',
        'host_id',
      ])
      .execute()
    await db.schema
      .createIndex('control_plane_key_deliveries_of_host')
      .on('control_plane_key_deliveries')
      .columns(['host_id'])
      .execute()
    await db.schema
      .createIndex('control_plane_key_deliveries_in_state')
      .on('control_plane_key_deliveries')
      .columns(['state', 'at_ms'])
      .execute()

    // Rises with each change that hosts have to learn of.
    await db.schema
      .createTable('control_plane_host_key_revision')
      .addColumn('id', 'integer', (column) => column.primaryKey())
      .addColumn('revision', 'integer', (column) => column.notNull())
      .execute()

    await db.schema.alterTable('control_plane_events').addColumn('detail', 'text').execute()
  },
}
