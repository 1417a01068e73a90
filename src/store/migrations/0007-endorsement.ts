import type { Kysely, Migration } from 'kysely'

/** Intermediate authorities beside the anchors, and the certificate that a host enrolled with. */
export const endorsementMigration: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    await db.schema
      .alterTable('attestation_anchors')
      .addColumn('role', 'text', (column) => column.notNull().defaultTo('anchor'))
      .execute()
    for (const table of ['attestation_hosts', 'attestation_enrolments']) {
      await db.schema.alterTable(table).addColumn('ek_certificate', 'blob').execute()
    }
  },
}
