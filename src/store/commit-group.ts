import type Database from 'better-sqlite3'
import { PlatformError } from '../core/errors.js'
import { storeError } from './errors.js'

/** A group is committed when it has so many transactions, or is so old, however many wait: none of them waits long. */
const MAX_TRANSACTIONS = 64
const MAX_AGE_MS = 20

interface Waiting {
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

/**
 * Transactions that are committed together, one after the other within one transaction of SQLite.
 *
 * Each is a savepoint: it sees what those before it did and can take back its own changes. None of them is acknowledged
 * before the commit of the group, and a commit that fails fails them all. The caller sees to it that they do not overlap.
 */
export class CommitGroup {
  readonly #begin: Database.Statement
  readonly #save: Database.Statement
  readonly #release: Database.Statement
  readonly #back: Database.Statement
  readonly #commit: Database.Statement
  readonly #rollback: Database.Statement
  readonly #sqlite: Database.Database
  #ended: Waiting[] = []
  #isOpen = false
  #openedMs = 0

  constructor(sqlite: Database.Database) {
    this.#sqlite = sqlite
    this.#begin = sqlite.prepare('begin immediate')
    this.#save = sqlite.prepare('savepoint one')
    this.#release = sqlite.prepare('release one')
    this.#back = sqlite.prepare('rollback to one')
    this.#commit = sqlite.prepare('commit')
    this.#rollback = sqlite.prepare('rollback')
  }

  get isFull(): boolean {
    return this.#ended.length >= MAX_TRANSACTIONS || performance.now() - this.#openedMs > MAX_AGE_MS
  }

  /** Begins a transaction: of the group that is open, or of a new one. */
  begin(): void {
    this.#failWhereGivenUp()
    try {
      if (!this.#isOpen) {
        this.#begin.run()
        this.#isOpen = true
        this.#openedMs = performance.now()
      }
      this.#save.run()
    } catch (error) {
      throw storeError(error)
    }
  }

  /** Ends the transaction; resolves when the group is on the disk. */
  end(): Promise<void> {
    return new Promise((resolve, reject) => {
      try {
        this.#release.run()
        this.#ended.push({ resolve, reject })
      } catch (error) {
        reject(storeError(error))
      }
    })
  }

  /** Ends the transaction without its changes. */
  takeBack(): void {
    // SQLite may have given up the whole transaction of the group by itself.
    if (this.#failWhereGivenUp()) return
    this.#back.run()
    this.#release.run()
  }

  /** Commits the group, if one is open, and acknowledges its transactions. */
  commit(): void {
    if (this.#failWhereGivenUp() || !this.#isOpen) return
    try {
      this.#commit.run()
    } catch (error) {
      if (this.#sqlite.inTransaction) this.#rollback.run()
      this.#close((waiting) => waiting.reject(storeError(error)))
      return
    }
    this.#close((waiting) => waiting.resolve())
  }

  /** Whether SQLite gave up the open group: those who ended before are told that nothing was kept. */
  #failWhereGivenUp(): boolean {
    if (!this.#isOpen || this.#sqlite.inTransaction) return false
    const error = new PlatformError('STORE_IO', 'the transaction was given up after a failed write')
    this.#close((waiting) => waiting.reject(error))
    return true
  }

  #close(tell: (waiting: Waiting) => void): void {
    const ended = this.#ended
    this.#ended = []
    this.#isOpen = false
    for (const waiting of ended) tell(waiting)
  }
}
