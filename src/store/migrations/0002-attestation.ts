import type { Kysely, Migration } from 'kysely'

/** Tables of the attestation service. */
export const attestationMigration: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    await db.schema
      .createTable('attestation_anchors')
      .addColumn('fingerprint', 'text', (column) => column.primaryKey())
      .addColumn('subject', 'text', (column) => column.notNull())
      .addColumn('certificate', 'blob', (column) => column.notNull())
      .addColumn('not_after_ms', 'bigint', (column) => column.notNull())
      .addColumn('insecure_test', 'integer', (column) => column.notNull())
      .addColumn('added_at_ms', 'bigint', (column) => column.notNull())
      .execute()

    await db.schema
      .createTable('attestation_tickets')
      .addColumn('ticket_id', 'text', (column) => column.primaryKey())
      .addColumn('ticket_hash', 'text', (column) => column.notNull().unique())
      .addColumn('cluster', 'text', (column) => column.notNull())
      .addColumn('host_id', 'text')
      .addColumn('uses_left', 'integer', (column) => column.notNull())
      .addColumn('created_at_ms', 'bigint', (column) => column.notNull())
      .addColumn('expires_at_ms', 'bigint', (column) => column.notNull())
      .execute()

    await db.schema
      .createTable('attestation_enrolments')
      .addColumn('enrolment_id', 'text', (column) => column.primaryKey())
      .addColumn('host_id', 'text', (column) => column.notNull())
      .addColumn('ticket_id', 'text', (column) => column.notNull())
      .addColumn('cluster', 'text', (column) => column.notNull())
      .addColumn('ek_public', 'blob', (column) => column.notNull())
      .addColumn('ek_fingerprint', 'text', (column) => column.notNull())
      .addColumn('ak_public', 'blob', (column) => column.notNull())
      .addColumn('endorsement', 'text', (column) => column.notNull())
      .addColumn('insecure_test', 'integer', (column) => column.notNull())
      .addColumn('tpm', 'text')
      .addColumn('secret_hash', 'text', (column) => column.notNull())
      .addColumn('expires_at_ms', 'bigint', (column) => column.notNull())
      .execute()

    // One host id has one endorsement key, and one endorsement key one host id: the database keeps it.
    await db.schema
      .createTable('attestation_hosts')
      .addColumn('host_id', 'text', (column) => column.primaryKey())
      .addColumn('cluster', 'text', (column) => column.notNull())
      .addColumn('ek_fingerprint', 'text', (column) => column.notNull().unique())
      .addColumn('ek_public', 'blob', (column) => column.notNull())
      .addColumn('ak_public', 'blob', (column) => column.notNull())
      .addColumn('ak_name', 'text', (column) => column.notNull().unique())
      .addColumn('endorsement', 'text', (column) => column.notNull())
      .addColumn('insecure_test', 'integer', (column) => column.notNull())
      .addColumn('tpm', 'text')
      .addColumn('tpm_clock', 'text')
      .addColumn('enrolled_at_ms', 'bigint', (column) => column.notNull())
      .execute()

    await db.schema
      .createTable('attestation_policies')
      .addColumn('cluster', 'text', (column) => column.primaryKey())
      .addColumn('revision', 'integer', (column) => column.notNull())
      .addColumn('epoch', 'integer', (column) => column.notNull())
      .addColumn('policy', 'text', (column) => column.notNull())
      .addColumn('updated_at_ms', 'bigint', (column) => column.notNull())
      .execute()

    await db.schema
      .createTable('attestation_base_images')
      .addColumn('cluster', 'text', (column) => column.notNull())
      .addColumn('name', 'text', (column) => column.notNull())
      .addColumn('captured_from', 'text', (column) => column.notNull())
      .addColumn('captured_at_ms', 'bigint', (column) => column.notNull())
      .addColumn('bank', 'text', (column) => column.notNull())
      .addColumn('pcrs', 'text', (column) => column.notNull())
      .addColumn('boot', 'text')
      .addColumn('event_log', 'blob')
      .addPrimaryKeyConstraint('attestation_base_images_key', ['cluster', 'name'])
      .execute()

    // The last evidence of each host whose quote was verified: what a base image can be captured from.
    await db.schema
      .createTable('attestation_evidence')
      .addColumn('host_id', 'text', (column) => column.primaryKey())
      .addColumn('at_ms', 'bigint', (column) => column.notNull())
      .addColumn('capturable', 'integer', (column) => column.notNull())
      .addColumn('bank', 'text', (column) => column.notNull())
      .addColumn('pcrs', 'text', (column) => column.notNull())
      .addColumn('boot', 'text')
      .addColumn('event_log', 'blob')
      .execute()

    await db.schema
      .createTable('attestation_verdicts')
      .addColumn('verdict_id', 'integer', (column) => column.primaryKey().autoIncrement())
      .addColumn('host_id', 'text', (column) => column.notNull())
      .addColumn('verdict', 'text', (column) => column.notNull())
      .execute()
    await db.schema
      .createIndex('attestation_verdicts_of_host')
      .on('attestation_verdicts')
      .columns(['host_id', 'verdict_id'])
      .execute()
  },
}
