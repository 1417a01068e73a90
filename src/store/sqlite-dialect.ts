import type Database from 'better-sqlite3'
import {
  type CompiledQuery,
  type DatabaseConnection,
  type Driver,
  type QueryResult,
  SqliteAdapter,
  SqliteDialect,
  type SqliteDialectConfig,
  SqliteDriver,
} from 'kysely'
import { PlatformError } from '../core/errors.js'
import { CommitGroup } from './commit-group.js'
import { storeError } from './errors.js'
import { keepStatements } from './kept-statements.js'
import { Turns } from './turns.js'

/**
 * SQLite as the store needs it, over one open connection that the dialect closes at its end.
 *
 * - A transaction takes the write lock at once: a check and the write after it cannot be divided.
 * - Who asks first is served first.
 * - Transactions that wait for one another are committed together, and each is acknowledged after that: many writes
 *   share one wait for the disk. One that fails takes back its own changes alone.
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
  readonly #group: CommitGroup

  constructor(sqlite: Database.Database) {
    const database: SqliteDialectConfig['database'] = keepStatements(sqlite)
    super({ database })
    this.#sqlite = sqlite
    this.#group = new CommitGroup(sqlite)
  }

  override async acquireConnection(): Promise<DatabaseConnection> {
    await this.#turns.take()
    const inner = await super.acquireConnection()
    return new StoreConnection(inner, this.#sqlite, this.#group)
  }

  override async releaseConnection(connection?: DatabaseConnection): Promise<void> {
    if (connection instanceof StoreConnection && connection.isReturned) return
    if (connection instanceof StoreConnection) connection.isReturned = true
    await super.releaseConnection()
    // Whoever waits goes on in the same group; without them it is committed now.
    if (!this.#turns.isWaitedFor || this.#group.isFull) this.#group.commit()
    this.#turns.give()
  }

  override async beginTransaction(connection: DatabaseConnection): Promise<void> {
    storeConnection(connection).begin()
  }

  override async commitTransaction(connection: DatabaseConnection): Promise<void> {
    const committed = storeConnection(connection).end()
    await this.releaseConnection(connection)
    await committed
  }

  override async rollbackTransaction(connection: DatabaseConnection): Promise<void> {
    storeConnection(connection).takeBack()
  }
}

function storeConnection(connection: DatabaseConnection): StoreConnection {
  if (connection instanceof StoreConnection) return connection
  throw new TypeError('a connection of another driver')
}

/** The connection while it is one caller's turn. */
class StoreConnection implements DatabaseConnection {
  readonly #inner: DatabaseConnection
  readonly #sqlite: Database.Database
  readonly #group: CommitGroup
  /** Whether a transaction was begun whose end was not asked for yet. */
  #begun = false
  /** Whether the turn is over. */
  isReturned = false

  constructor(inner: DatabaseConnection, sqlite: Database.Database, group: CommitGroup) {
    this.#inner = inner
    this.#sqlite = sqlite
    this.#group = group
  }

  begin(): void {
    this.#group.begin()
    this.#begun = true
  }

  /** Resolves when the group that the transaction is of is on the disk. */
  end(): Promise<void> {
    this.#refuseGivenUp()
    this.#begun = false
    return this.#group.end()
  }

  takeBack(): void {
    // A commit that failed was taken back with its whole group, in a turn that is over.
    if (!this.#begun) return
    this.#begun = false
    this.#group.takeBack()
  }

  async executeQuery<R>(query: CompiledQuery): Promise<QueryResult<R>> {
    // Outside of a transaction a statement is its own: nothing that it does waits for others.
    if (this.#begun) this.#refuseGivenUp()
    else this.#group.commit()
    try {
      return await this.#inner.executeQuery<R>(query)
    } catch (error) {
      throw storeError(error)
    }
  }

  streamQuery<R>(query: CompiledQuery, chunkSize: number): AsyncIterableIterator<QueryResult<R>> {
    if (!this.#begun) this.#group.commit()
    return this.#inner.streamQuery<R>(query, chunkSize)
  }

  #refuseGivenUp(): void {
    if (this.#sqlite.inTransaction) return
    throw new PlatformError('STORE_IO', 'the transaction was given up after a failed write')
  }
}
