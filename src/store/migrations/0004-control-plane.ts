import type { Kysely, Migration } from 'kysely'

/** Tables of the control plane. */
export const controlPlaneMigration: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    await db.schema
      .createTable('control_plane_clusters')
      .addColumn('name', 'text', (column) => column.primaryKey())
      .addColumn('created_at_ms', 'bigint', (column) => column.notNull())
      .execute()

    await db.schema
      .createTable('control_plane_vms')
      .addColumn('vm_id', 'text', (column) => column.primaryKey())
      .addColumn('host_id', 'text', (column) => column.notNull())
      .addColumn('cluster', 'text', (column) => column.notNull())
      .addColumn('report', 'text', (column) => column.notNull())
      .addColumn('reported_at_ms', 'bigint', (column) => column.notNull())
      .execute()

    await db.schema
      .createTable('control_plane_events')
      .addColumn('seq', 'integer', (column) => column.primaryKey().autoIncrement())
      .addColumn('at_ms', 'bigint', (column) => column.notNull())
      .addColumn('severity', 'text', (column) => column.notNull())
      .addColumn('type', 'text', (column) => column.notNull())
      .addColumn('subject', 'text', (column) => column.notNull())
      .addColumn('message', 'text', (column) => column.notNull())
      .execute()

    // Certificates that the site issued for virtual TPMs: what was certified for which VM, and by whose request.
    await db.schema
      .createTable('control_plane_vtpm_certificates')
      .addColumn('fingerprint', 'text', (column) => column.primaryKey())
      .addColumn('vm_id', 'text', (column) => column.notNull())
      .addColumn('kind', 'text', (column) => column.notNull())
      .addColumn('host_id', 'text', (column) => column.notNull())
      .addColumn('certificate', 'blob', (column) => column.notNull())
      .addColumn('issued_at_ms', 'bigint', (column) => column.notNull())
      .execute()
  },
}
