import { Kysely, Migrator, type Transaction } from 'kysely'
import { PlatformError } from '../core/errors.js'
import { migrations } from './migrations/index.js'
import { openSqlite } from './open-sqlite.js'
import { StoreDialect } from './sqlite-dialect.js'

/** Where Kysely's Migrator records what it ran. */
const MIGRATION_TABLE = 'kysely_migration'

/** The database of the authority: one connection of this process, transactions one after the other. */
export interface Store extends AsyncDisposable {
  /** Queries outside a transaction, typed by the tables of the caller. */
  tables<T>(): Kysely<T>
  /**
   * Runs `work` in one transaction that may write: all of it is committed before this resolves, or nothing is.
   *
   * Transactions of this process wait for one another; of other processes, up to ten seconds. `work` must not call
   * `transaction` or `tables` itself: it would wait for its own end.
   *
   * @throws PlatformError `STORE_IO` where the disk or the file is at fault; what `work` throws passes through
   */
  transaction<T, R>(work: (tx: Transaction<T>) => Promise<R>): Promise<R>
}

/**
 * Opens the database file, makes it (mode 0600, folder 0700) on a first start, and brings its schema up to date.
 *
 * @param options.file path, or `:memory:`
 * @throws PlatformError `STORE_VERSION` for an SQLite that loses data, `STORE_SCHEMA` for a database of a newer program,
 *   `FILE_MODE` where others may write in the folder, `STORE_IO` for a file that cannot be used
 */
export async function openStore(options: { readonly file: string }): Promise<Store> {
  const sqlite = openSqlite(options.file)
  const db = new Kysely<unknown>({ dialect: new StoreDialect(sqlite) })
  try {
    await refuseNewer(db)
    await migrate(db)
  } catch (error) {
    await db.destroy()
    throw error
  }
  let closed = false
  const tables = <T>(): Kysely<T> => {
    if (closed) throw new PlatformError('STORE_IO', 'the database was closed')
    return db as unknown as Kysely<T>
  }
  return {
    tables,
    transaction: async <T, R>(work: (tx: Transaction<T>) => Promise<R>): Promise<R> =>
      tables<T>().transaction().execute(work),
    async [Symbol.asyncDispose]() {
      closed = true
      await db.destroy()
    },
  }
}

async function refuseNewer(db: Kysely<unknown>): Promise<void> {
  const tables = await db.introspection.getTables({ withInternalKyselyTables: true })
  if (!tables.some(({ name }) => name === MIGRATION_TABLE)) return
  const rows = await (db as Kysely<{ [MIGRATION_TABLE]: { name: string } }>)
    .selectFrom(MIGRATION_TABLE)
    .select('name')
    .execute()
  const unknown = rows.find(({ name }) => !Object.hasOwn(migrations, name))
  if (!unknown) return
  const newest = Object.keys(migrations).at(-1)
  throw new PlatformError(
    'STORE_SCHEMA',
    `expected a database up to ${newest}, found ${unknown.name}: made by a newer program`,
  )
}

async function migrate(db: Kysely<unknown>): Promise<void> {
  const migrator = new Migrator({
    db,
    provider: { getMigrations: async () => ({ ...migrations }) },
    migrationTableName: MIGRATION_TABLE,
  })
  const { error } = await migrator.migrateToLatest()
  if (error !== undefined) throw error
}
