import type { Kysely, Migration } from 'kysely'

/** People: users and service accounts, their tokens, roles, and who has which role where. */
export const peopleMigration: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    await db.schema
      .createTable('people_accounts')
      .addColumn('account_id', 'text', (column) => column.primaryKey())
      .addColumn('kind', 'text', (column) => column.notNull())
      .addColumn('name', 'text', (column) => column.notNull())
      // Of users: argon2id in its text form, with salt and parameters
      .addColumn('password_hash', 'text')
      .addColumn('state', 'text', (column) => column.notNull())
      .addColumn('created_at_ms', 'bigint', (column) => column.notNull())
      .addColumn('created_by', 'text', (column) => column.notNull())
      .addUniqueConstraint('people_accounts_name', ['kind', 'name'])
      .execute()

    await db.schema
      .createTable('people_tokens')
      .addColumn('token_id', 'text', (column) => column.primaryKey())
      .addColumn('account_id', 'text', (column) =>
        column.notNull().references('people_accounts.account_id').onDelete('cascade'),
      )
      // SHA-256: the token has 256 random bits, there is nothing to guess
      .addColumn('token_hash', 'text', (column) => column.notNull().unique())
      .addColumn('note', 'text', (column) => column.notNull())
      .addColumn('created_at_ms', 'bigint', (column) => column.notNull())
      .addColumn('expires_at_ms', 'bigint', (column) => column.notNull())
      .execute()
    await db.schema
      .createIndex('people_tokens_of_account')
      .on('people_tokens')
      .column('account_id')
      .execute()

    await db.schema
      .createTable('people_roles')
      .addColumn('name', 'text', (column) => column.primaryKey())
      // JSON array of names of privileges
      .addColumn('privileges', 'text', (column) => column.notNull())
      .addColumn('created_at_ms', 'bigint', (column) => column.notNull())
      .execute()

    await db.schema
      .createTable('people_permissions')
      .addColumn('permission_id', 'text', (column) => column.primaryKey())
      .addColumn('principal_kind', 'text', (column) => column.notNull())
      // Id of an account; name of a group
      .addColumn('principal', 'text', (column) => column.notNull())
      // Of groups, who vouches for their members; else empty
      .addColumn('issuer', 'text', (column) => column.notNull())
      .addColumn('role', 'text', (column) => column.notNull())
      .addColumn('scope_kind', 'text', (column) => column.notNull())
      // Name of a cluster or tag, id of a VM; empty for the site
      .addColumn('scope', 'text', (column) => column.notNull())
      .addColumn('granted_at_ms', 'bigint', (column) => column.notNull())
      .addColumn('granted_by', 'text', (column) => column.notNull())
      .addUniqueConstraint('people_permissions_once', [
        ...(['principal_kind', 'principal', 'issuer', 'role', 'scope_kind', 'scope'] as const),
      ])
      .execute()

    // Wrong passwords by the name that was typed, also where there is no such user
    await db.schema
      .createTable('people_login_attempts')
      .addColumn('name_hash', 'text', (column) => column.primaryKey())
      .addColumn('wrong', 'integer', (column) => column.notNull())
      .addColumn('not_before_ms', 'bigint', (column) => column.notNull())
      .addColumn('forgotten_at_ms', 'bigint', (column) => column.notNull())
      .execute()
  },
}
