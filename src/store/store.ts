import { chmodSync, closeSync, constants, mkdirSync, openSync } from 'node:fs'
import { dirname } from 'node:path'
import Database from 'better-sqlite3'
import {
  CompiledQuery,
  type DatabaseConnection,
  type Driver,
  Kysely,
  Migrator,
  SqliteDialect,
  type SqliteDialectConfig,
  SqliteDriver,
  type Transaction,
} from 'kysely'
import { messageOf, PlatformError } from '../core/errors.js'
import { storeError } from './errors.js'
import { migrations } from './migrations/index.js'

/** SQLite before this loses committed writes of two connections in WAL mode (the WAL-reset bug, fixed March 2026). */
const OLDEST_SQLITE = [3, 51, 3] as const
const BUSY_TIMEOUT_MS = 10_000

/** The database of the authority: one connection of this process, transactions one after the other. */
export interface Store extends AsyncDisposable {
  /** Queries outside a transaction, typed by the tables of the caller. */
  tables<T>(): Kysely<T>
  /**
   * Runs `work` in one transaction that may write: all of it is committed before this resolves, or nothing is.
   *
   * Transactions of this process wait for one another; of other processes, up to ten seconds. `work` must not call
   * `transaction` or `tables` itself.
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
 *   `STORE_IO` for a file that cannot be used
 */
export async function openStore(options: { readonly file: string }): Promise<Store> {
  const sqlite = openDatabase(options.file)
  const db = new Kysely<unknown>({ dialect: new ImmediateDialect({ database: sqlite }) })
  try {
    await migrate(db)
  } catch (error) {
    await db.destroy()
    throw storeError(error)
  }
  return {
    tables: <T>() => db as unknown as Kysely<T>,
    transaction: async <T, R>(work: (tx: Transaction<T>) => Promise<R>): Promise<R> => {
      try {
        return await (db as unknown as Kysely<T>).transaction().execute(work)
      } catch (error) {
        throw storeError(error)
      }
    },
    async [Symbol.asyncDispose]() {
      await db.destroy()
    },
  }
}

function openDatabase(file: string): Database.Database {
  const inMemory = file === ':memory:'
  try {
    if (!inMemory) createPrivately(file)
    const sqlite = new Database(file, { timeout: BUSY_TIMEOUT_MS })
    requireVersion(sqlite)
    if (!inMemory) sqlite.pragma('journal_mode = WAL')
    sqlite.pragma('synchronous = FULL')
    sqlite.pragma('foreign_keys = ON')
    sqlite.pragma('trusted_schema = OFF')
    sqlite.pragma('secure_delete = ON')
    const check = sqlite.pragma('quick_check', { simple: true })
    if (check !== 'ok') throw new PlatformError('STORE_IO', `the database is damaged: ${check}`)
    return sqlite
  } catch (error) {
    if (error instanceof PlatformError) throw error
    throw new PlatformError('STORE_IO', `cannot open ${file}: ${messageOf(error)}`, {
      cause: error,
    })
  }
}

/** Makes folder and file with their final modes before SQLite sees them; an existing file is tightened. */
function createPrivately(file: string): void {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
  const { O_RDWR, O_CREAT, O_NOFOLLOW } = constants
  closeSync(openSync(file, O_RDWR | O_CREAT | O_NOFOLLOW, 0o600))
  chmodSync(file, 0o600)
}

function requireVersion(sqlite: Database.Database): void {
  const version = String(sqlite.prepare('select sqlite_version()').pluck().get())
  const found = version.split('.').map(Number)
  for (const [index, part] of OLDEST_SQLITE.entries()) {
    const other = found[index] ?? 0
    if (other > part) return
    if (other < part) {
      const oldest = OLDEST_SQLITE.join('.')
      throw new PlatformError(
        'STORE_VERSION',
        `expected SQLite ${oldest} or newer, found ${version}`,
      )
    }
  }
}

async function migrate(db: Kysely<unknown>): Promise<void> {
  const migrator = new Migrator({
    db,
    provider: { getMigrations: async () => ({ ...migrations }) },
  })
  const { error } = await migrator.migrateToLatest()
  if (error === undefined) return
  if (messageOf(error).includes('missing')) {
    throw new PlatformError('STORE_SCHEMA', 'the database was made by a newer program', {
      cause: error,
    })
  }
  throw error
}

/** SQLite whose transactions take the write lock at once: a check and the write after it cannot be divided. */
class ImmediateDialect extends SqliteDialect {
  readonly #config: SqliteDialectConfig

  constructor(config: SqliteDialectConfig) {
    super(config)
    this.#config = config
  }

  override createDriver(): Driver {
    return new ImmediateDriver(this.#config)
  }
}

class ImmediateDriver extends SqliteDriver {
  override async beginTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw('begin immediate'))
  }
}
