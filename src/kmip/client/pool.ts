import { KmipConnection } from './connection.js'
import type { KmipServerAddress, Settings } from './options.js'

/**
 * The connections to one server: at most so many, each with at most so many requests under way. Callers that find
 * none free wait in order.
 */
export class ConnectionPool implements Disposable {
  readonly #address: KmipServerAddress
  readonly #settings: Settings
  readonly #connections = new Set<KmipConnection>()
  readonly #reserved = new Map<KmipConnection, number>()
  readonly #waiting: (() => void)[] = []
  readonly #sweep: NodeJS.Timeout
  #opening = 0

  constructor(address: KmipServerAddress, settings: Settings) {
    this.#address = address
    this.#settings = settings
    this.#sweep = setInterval(() => this.#closeIdle(), Math.max(settings.pool.idleMs / 2, 100))
    this.#sweep.unref()
  }

  get size(): number {
    return this.#connections.size
  }

  /** Lends a connection for one request; throws `ConnectionError` when none can be opened. */
  async lend<T>(fresh: boolean, borrow: (connection: KmipConnection) => Promise<T>): Promise<T> {
    const connection = await this.#take(fresh)
    try {
      return await borrow(connection)
    } finally {
      const left = (this.#reserved.get(connection) ?? 1) - 1
      if (left > 0) this.#reserved.set(connection, left)
      else this.#reserved.delete(connection)
      if (!connection.isOpen) this.#connections.delete(connection)
      this.#waiting.shift()?.()
    }
  }

  /** Closes every connection; requests under way fail. */
  [Symbol.dispose](): void {
    clearInterval(this.#sweep)
    for (const connection of this.#connections) connection.close()
    this.#connections.clear()
    for (const wake of this.#waiting.splice(0)) wake()
  }

  async #take(fresh: boolean): Promise<KmipConnection> {
    for (;;) {
      this.#closeIdle()
      const { connections: most, inFlight } = this.#settings.pool
      const free = fresh ? undefined : this.#leastUsed()
      if (free !== undefined && (this.#reserved.get(free) ?? 0) === 0) return this.#reserve(free)
      if (fresh || this.#connections.size + this.#opening < most) {
        return this.#reserve(await this.#open())
      }
      if (free !== undefined && (this.#reserved.get(free) ?? 0) < inFlight) {
        return this.#reserve(free)
      }
      await new Promise<void>((resolve) => this.#waiting.push(resolve))
    }
  }

  #leastUsed(): KmipConnection | undefined {
    let least: KmipConnection | undefined
    for (const connection of this.#connections) {
      if (!connection.isOpen) this.#connections.delete(connection)
      else if (
        least === undefined ||
        (this.#reserved.get(connection) ?? 0) < (this.#reserved.get(least) ?? 0)
      ) {
        least = connection
      }
    }
    return least
  }

  #reserve(connection: KmipConnection): KmipConnection {
    this.#reserved.set(connection, (this.#reserved.get(connection) ?? 0) + 1)
    return connection
  }

  async #open(): Promise<KmipConnection> {
    this.#opening += 1
    try {
      const connection = await KmipConnection.open(this.#address, this.#settings)
      this.#connections.add(connection)
      return connection
    } catch (error) {
      this.#waiting.shift()?.()
      throw error
    } finally {
      this.#opening -= 1
    }
  }

  #closeIdle(): void {
    for (const connection of this.#connections) {
      if (!this.#reserved.has(connection) && connection.idleMs > this.#settings.pool.idleMs) {
        this.#connections.delete(connection)
        connection.close()
      }
    }
  }
}
