import type { Kysely, Migration } from 'kysely'

/** Primary keys in key servers, and the attributes that name keys for people. */
export const keyServersMigration: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    const providers = () => db.schema.alterTable('key_provider_providers')
    // absent where the primary key is in the embedded keystore
    await providers().addColumn('key_place', 'text').execute()
    await providers().addColumn('key_servers', 'text').execute()
    await providers().addColumn('key_servers_sealed', 'blob').execute()
    await db.schema.alterTable('key_provider_versions').addColumn('attributes', 'text').execute()
  },
}
