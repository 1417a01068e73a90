import { type Kysely, type Migration, sql } from 'kysely'

/** Hosts as the control plane sees them, storage policies and who has them, tags of VMs. */
export const inventoryMigration: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    await db.schema
      .createTable('control_plane_hosts')
      .addColumn('host_id', 'text', (column) => column.primaryKey())
      .addColumn('last_seen_at_ms', 'bigint')
      // Of the TPM, as the token said when it was seen last
      .addColumn('reset_count', 'integer')
      .addColumn('encryption', 'text', (column) => column.notNull())
      // Of a host whose encryption was turned off while it was on: its reset count then
      .addColumn('off_at_reset', 'integer')
      .addColumn('encryption_set_by', 'text')
      .addColumn('encryption_set_at_ms', 'bigint')
      // The encryption mode that the newest event tells of
      .addColumn('told_mode', 'text')
      .execute()

    await db.schema
      .createTable('control_plane_storage_policies')
      .addColumn('name', 'text', (column) => column.primaryKey())
      .addColumn('encrypted', 'integer', (column) => column.notNull())
      // A name, and no reference: the provider may be one of the key provider service
      .addColumn('provider', 'text')
      .addColumn('created_at_ms', 'bigint', (column) => column.notNull())
      .addColumn('changed_at_ms', 'bigint', (column) => column.notNull())
      .addColumn('changed_by', 'text', (column) => column.notNull())
      .execute()

    await db.schema
      .createTable('control_plane_vm_policies')
      .addColumn('vm_id', 'text', (column) => column.notNull())
      .addColumn('part', 'text', (column) => column.notNull())
      .addColumn('policy', 'text', (column) => column.notNull())
      // What the policy asked when it was given
      .addColumn('given_encrypted', 'integer', (column) => column.notNull())
      .addColumn('given_provider', 'text')
      .addColumn('given_by', 'text', (column) => column.notNull())
      .addColumn('given_at_ms', 'bigint', (column) => column.notNull())
      .addPrimaryKeyConstraint('control_plane_vm_policies_key', ['vm_id', 'part'])
      .execute()
    await db.schema
      .createIndex('control_plane_vm_policies_policy')
      .on('control_plane_vm_policies')
      .column('policy')
      .execute()

    await db.schema
      .createTable('control_plane_vm_tags')
      .addColumn('vm_id', 'text', (column) => column.notNull())
      .addColumn('tag', 'text', (column) => column.notNull())
      .addPrimaryKeyConstraint('control_plane_vm_tags_key', ['vm_id', 'tag'])
      .execute()
    await db.schema
      .createIndex('control_plane_vm_tags_tag')
      .on('control_plane_vm_tags')
      .column('tag')
      .execute()

    // Of the report, so that VMs are found by them
    await db.schema.alterTable('control_plane_vms').addColumn('state', 'text').execute()
    await db.schema.alterTable('control_plane_vms').addColumn('provider', 'text').execute()
    // JSON functions are SQLite's, as of 3.38 built in: another database reads the reports in its own way
    await sql`update control_plane_vms set
      state = json_extract(report, '$.state'), provider = json_extract(report, '$.provider')`.execute(
      db,
    )
    await db.schema
      .createIndex('control_plane_vms_host')
      .on('control_plane_vms')
      .column('host_id')
      .execute()
  },
}
