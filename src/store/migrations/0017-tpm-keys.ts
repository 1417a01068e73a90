import type { Kysely, Migration } from 'kysely'

/** Primary keys that are sealed by the TPM of the authority. */
export const tpmKeysMigration: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    // JSON: the PCRs that new versions are bound to; absent where the primary key is elsewhere
    await db.schema.alterTable('key_provider_providers').addColumn('tpm_pcrs', 'text').execute()
  },
}
