import type { Kysely, Migration } from 'kysely'

/** VMs that their hosts hand over to another host, until one takes them. */
export const handOversMigration: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    await db.schema
      .createTable('control_plane_hand_overs')
      .addColumn('vm_id', 'text', (column) => column.primaryKey())
      .addColumn('export_id', 'text', (column) => column.notNull())
      .addColumn('host_id', 'text', (column) => column.notNull())
      .addColumn('cluster', 'text', (column) => column.notNull())
      // of a value that whoever has the home key of the VM can derive
      .addColumn('ticket_digest', 'blob', (column) => column.notNull())
      .addColumn('offered_at_ms', 'bigint', (column) => column.notNull())
      .execute()
  },
}
