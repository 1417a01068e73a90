import type Database from 'better-sqlite3'
import {
  CompiledQuery,
  type DatabaseConnection,
  type Driver,
  type QueryResult,
  SqliteAdapter,
  SqliteDialect,
  SqliteDriver,
} from 'kysely'
import { PlatformError } from '../core/errors.js'
import { storeError } from './errors.js'
import { Turns } from './turns.js'

/**
 * SQLite as the store needs it, over one open connection that the dialect closes at its end.
 *
 * - A transaction takes the write lock at once: a check and the write after it cannot be divided.
 * - Who asks first is served first.
 * - A transaction that SQLite gave up by itself (full disk, failed write) accepts no further statement: none of them is
 *   committed alone.
 * - Migrations run in one transaction: a process that is killed in one, or races with another, leaves all or nothing.
 */
export class StoreDialect extends SqliteDialect {
  readonly #sqlite: Database.Database

  constructor(sqlite: Database.Database) {
    super({ database: sqlite })
    this.#sqlite = sqlite
  }

  override createDriver(): Driver {
    return new StoreDriver(this.#sqlite)
  }

  override createAdapter(): SqliteAdapter {
    return new TransactionalAdapter()
  }
}

class TransactionalAdapter extends SqliteAdapter {
  override get supportsTransactionalDdl(): boolean {
    return true
  }
}

class StoreDriver extends SqliteDriver {
  readonly #sqlite: Database.Database
  readonly #turns = new Turns()
  #connection: StoreConnection | undefined

  constructor(sqlite: Database.Database) {
    super({ database: sqlite })
    this.#sqlite = sqlite
  }

  override async acquireConnection(): Promise<DatabaseConnection> {
    await this.#turns.take()
    const connection = await super.acquireConnection()
    this.#connection ??= new StoreConnection(connection, this.#sqlite)
    return this.#connection
  }

  override async releaseConnection(): Promise<void> {
    await super.releaseConnection()
    this.#turns.give()
  }

  override async beginTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw('begin immediate'))
    if (this.#connection) this.#connection.begun = true
  }

  override async commitTransaction(connection: DatabaseConnection): Promise<void> {
    await super.commitTransaction(connection)
    if (this.#connection) this.#connection.begun = false
  }

  override async rollbackTransaction(connection: DatabaseConnection): Promise<void> {
    if (this.#connection) this.#connection.begun = false
    if (this.#sqlite.inTransaction) await super.rollbackTransaction(connection)
  }
}

class StoreConnection implements DatabaseConnection {
  readonly #inner: DatabaseConnection
  readonly #sqlite: Database.Database
  /** Whether a transaction was begun whose end was not asked for yet. */
  begun = false

  constructor(inner: DatabaseConnection, sqlite: Database.Database) {
    this.#inner = inner
    this.#sqlite = sqlite
  }

  async executeQuery<R>(query: CompiledQuery): Promise<QueryResult<R>> {
    if (this.begun && !this.#sqlite.inTransaction) {
      throw new PlatformError('STORE_IO', 'the transaction was given up after a failed write')
    }
    try {
      return await this.#inner.executeQuery<R>(query)
    } catch (error) {
      throw storeError(error)
    }
  }

  streamQuery<R>(query: CompiledQuery, chunkSize: number): AsyncIterableIterator<QueryResult<R>> {
    return this.#inner.streamQuery<R>(query, chunkSize)
  }
}
