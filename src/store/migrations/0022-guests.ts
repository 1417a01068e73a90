import type { Kysely, Migration } from 'kysely'

/** VMs whose guests gave evidence, what guests must prove, and which key of a virtual TPM was certified for which VM. */
export const guestsMigration: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    await db.schema
      .createTable('attestation_guests')
      .addColumn('vm_id', 'text', (column) => column.primaryKey())
      .addColumn('host_id', 'text', (column) => column.notNull())
      .addColumn('cluster', 'text', (column) => column.notNull())
      .addColumn('ek_fingerprint', 'text', (column) => column.notNull())
      .addColumn('certificate_issued_at_ms', 'bigint', (column) => column.notNull())
      .addColumn('state', 'text', (column) => column.notNull())
      .addColumn('bundle', 'text', (column) => column.notNull())
      .execute()
    for (const column of ['host_id', 'ek_fingerprint']) {
      await db.schema
        .createIndex(`attestation_guests_by_${column}`)
        .on('attestation_guests')
        .column(column)
        .execute()
    }
    await db.schema
      .createTable('attestation_guest_policies')
      .addColumn('cluster', 'text', (column) => column.primaryKey())
      .addColumn('revision', 'integer', (column) => column.notNull())
      .addColumn('policy', 'text', (column) => column.notNull())
      .addColumn('updated_at_ms', 'bigint', (column) => column.notNull())
      .execute()

    await db.schema
      .alterTable('control_plane_vtpm_certificates')
      .addColumn('key_digest', 'text')
      .execute()
    await db.schema
      .createIndex('control_plane_vtpm_certificates_key')
      .on('control_plane_vtpm_certificates')
      .column('key_digest')
      .execute()
  },
}
