import type { Kysely, Migration } from 'kysely'

/**
 * What the attestation service keeps of its results: bundles of evidence, drafts and revisions of policies, events,
 * webhooks, signing keys; where a base image came from and how long it is valid; how much of an IMA list was judged.
 */
export const attestationResultsMigration: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    // Evidence is kept whole now, in bundles; a host brings its next one within minutes.
    await db.schema.dropTable('attestation_evidence').execute()
    await db.schema
      .createTable('attestation_bundles')
      .addColumn('bundle_id', 'text', (column) => column.primaryKey())
      .addColumn('host_id', 'text', (column) => column.notNull())
      .addColumn('at_ms', 'bigint', (column) => column.notNull())
      .addColumn('bundle', 'text', (column) => column.notNull())
      .execute()
    await db.schema
      .createIndex('attestation_bundles_of_host')
      .on('attestation_bundles')
      .columns(['host_id', 'at_ms'])
      .execute()

    await db.schema
      .createTable('attestation_policy_drafts')
      .addColumn('cluster', 'text', (column) => column.primaryKey())
      .addColumn('policy', 'text', (column) => column.notNull())
      .addColumn('operator', 'text', (column) => column.notNull())
      .addColumn('updated_at_ms', 'bigint', (column) => column.notNull())
      .execute()
    await db.schema
      .createTable('attestation_policy_revisions')
      .addColumn('cluster', 'text', (column) => column.notNull())
      .addColumn('revision', 'integer', (column) => column.notNull())
      .addColumn('policy', 'text', (column) => column.notNull())
      .addColumn('operator', 'text', (column) => column.notNull())
      .addColumn('activated_at_ms', 'bigint', (column) => column.notNull())
      .addPrimaryKeyConstraint('attestation_policy_revisions_key', ['cluster', 'revision'])
      .execute()

    for (const [name, type] of [
      ['source', 'text'],
      ['not_before_ms', 'bigint'],
      ['not_after_ms', 'bigint'],
    ] as const) {
      await db.schema.alterTable('attestation_base_images').addColumn(name, type).execute()
    }

    // When the host was last accepted: who is late is found without reading verdicts.
    await db.schema.alterTable('attestation_hosts').addColumn('accepted_at_ms', 'bigint').execute()

    await db.schema
      .createTable('attestation_events')
      .addColumn('seq', 'integer', (column) => column.primaryKey().autoIncrement())
      .addColumn('at_ms', 'bigint', (column) => column.notNull())
      .addColumn('type', 'text', (column) => column.notNull())
      .addColumn('host_id', 'text')
      .addColumn('cluster', 'text')
      .addColumn('detail', 'text', (column) => column.notNull())
      .execute()
    await db.schema
      .createTable('attestation_webhooks')
      .addColumn('webhook_id', 'text', (column) => column.primaryKey())
      .addColumn('url', 'text', (column) => column.notNull())
      .addColumn('sealed_secret', 'blob', (column) => column.notNull())
      .addColumn('delivered_seq', 'integer', (column) => column.notNull())
      .addColumn('failures', 'integer', (column) => column.notNull())
      .addColumn('next_try_ms', 'bigint', (column) => column.notNull())
      .addColumn('last_error', 'text')
      .addColumn('created_at_ms', 'bigint', (column) => column.notNull())
      .execute()

    await db.schema
      .createTable('attestation_signing_keys')
      .addColumn('kid', 'text', (column) => column.primaryKey())
      .addColumn('algorithm', 'text', (column) => column.notNull())
      .addColumn('sealed', 'blob', (column) => column.notNull())
      .addColumn('created_at_ms', 'bigint', (column) => column.notNull())
      .addColumn('active_from_ms', 'bigint', (column) => column.notNull())
      .addColumn('retired_at_ms', 'bigint')
      .execute()

    // How far the IMA list of a host was replayed and judged in this boot: the next evidence brings what is new.
    await db.schema
      .createTable('attestation_ima')
      .addColumn('host_id', 'text', (column) => column.primaryKey())
      .addColumn('reset_count', 'bigint', (column) => column.notNull())
      .addColumn('bank', 'text', (column) => column.notNull())
      .addColumn('entries', 'integer', (column) => column.notNull())
      .addColumn('pcr_value', 'text', (column) => column.notNull())
      .addColumn('policy_digest', 'text', (column) => column.notNull())
      .execute()

    await db.schema
      .createTable('attestation_crls')
      .addColumn('issuer_fingerprint', 'text', (column) => column.primaryKey())
      .addColumn('crl', 'blob', (column) => column.notNull())
      .addColumn('this_update_ms', 'bigint', (column) => column.notNull())
      .addColumn('next_update_ms', 'bigint')
      .addColumn('added_at_ms', 'bigint', (column) => column.notNull())
      .execute()
    await db.schema
      .createTable('attestation_endorsements')
      .addColumn('ek_fingerprint', 'text', (column) => column.primaryKey())
      .addColumn('note', 'text', (column) => column.notNull())
      .addColumn('added_at_ms', 'bigint', (column) => column.notNull())
      .execute()
  },
}
