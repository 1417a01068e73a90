import type { Kysely, Migration } from 'kysely'

/** Answers that callers may ask for again by their idempotency key. */
export const idempotentAnswersMigration: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    await db.schema
      .createTable('idempotent_answers')
      .addColumn('service', 'text', (column) => column.notNull())
      .addColumn('scope', 'text', (column) => column.notNull())
      .addColumn('key', 'text', (column) => column.notNull())
      .addColumn('request_digest', 'text', (column) => column.notNull())
      .addColumn('sealed', 'blob')
      .addColumn('expires_at_ms', 'bigint', (column) => column.notNull())
      .addPrimaryKeyConstraint('idempotent_answers_key', ['service', 'scope', 'key'])
      .execute()
  },
}
