import type { Kysely, Migration } from 'kysely'

/** States of virtual TPMs in their order, and their certificates by VM. */
export const vtpmStatesMigration: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    // What hosts told: digests of state files. A state that another one came after is an older one, wherever it turns up.
    await db.schema
      .createTable('control_plane_vtpm_states')
      .addColumn('vm_id', 'text', (column) => column.notNull())
      .addColumn('generation', 'bigint', (column) => column.notNull())
      .addColumn('digest', 'text', (column) => column.notNull())
      .addColumn('cause', 'text', (column) => column.notNull())
      .addColumn('host_id', 'text', (column) => column.notNull())
      .addColumn('noted_at_ms', 'bigint', (column) => column.notNull())
      .addPrimaryKeyConstraint('control_plane_vtpm_states_key', ['vm_id', 'generation'])
      .execute()
    await db.schema
      .createIndex('control_plane_vtpm_states_digest')
      .on('control_plane_vtpm_states')
      .columns(['vm_id', 'digest'])
      .execute()

    await db.schema
      .createIndex('control_plane_vtpm_certificates_vm')
      .on('control_plane_vtpm_certificates')
      .columns(['vm_id', 'issued_at_ms'])
      .execute()
  },
}
