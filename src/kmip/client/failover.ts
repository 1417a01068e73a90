import { KmipError } from '../errors.js'
import { ConnectionError } from './connection.js'
import type { KmipServerHealth, Settings } from './options.js'
import type { Call, KmipServer } from './server.js'

/** What a call came to, and who did it. */
export interface Done<T> {
  readonly value: T
  readonly server: KmipServer
}

/** A call that is not idempotent, after the server may have got it: it may have been done. */
export class Undecided extends KmipError {}

/**
 * The servers of one cluster, in order. A server that fails is left alone for a while and the next one is asked;
 * after the first octet of a call that is not idempotent no other server is asked.
 */
export class Failover implements Disposable {
  readonly #servers: readonly KmipServer[]
  readonly #settings: Settings

  constructor(servers: readonly KmipServer[], settings: Settings) {
    this.#servers = servers
    this.#settings = settings
  }

  get health(): readonly KmipServerHealth[] {
    return this.#servers.map((server) => server.health)
  }

  [Symbol.dispose](): void {
    for (const server of this.#servers) server[Symbol.dispose]()
  }

  /** When a call that begins now has to be over, in monotonic milliseconds. */
  deadline(): number {
    return this.#settings.clock.monotonicMs() + this.#settings.timeouts.overallMs
  }

  /**
   * Does the call on the first server that can. Throws the refusal of a server; `Undecided` when nobody knows
   * whether it was done; the error of the last server when none could; `KMS_UNREACHABLE` when each is left alone.
   *
   * @param even also servers that failed a moment ago, for what cannot wait
   */
  async run<T>(call: Call<T>, deadlineMs = this.deadline(), even = false): Promise<Done<T>> {
    let last: KmipError | undefined
    for (const server of this.#servers) {
      if (!server.breaker.enter() && !even) continue
      try {
        return await this.#on(server, call, deadlineMs)
      } catch (error) {
        if (!(error instanceof KmipError) || error instanceof Undecided) throw error
        const absent = error.code === 'KMS_KEY_NOT_FOUND' && call.idempotent
        if (!absent && !isServerFault(error)) throw error
        // A replica may not have the key yet; that it is missing weighs more than that another is down.
        if (last?.code !== 'KMS_KEY_NOT_FOUND') last = error
      }
    }
    throw last ?? new KmipError('KMS_UNREACHABLE', 'every key server failed a moment ago')
  }

  async #on<T>(server: KmipServer, call: Call<T>, deadlineMs: number): Promise<Done<T>> {
    const wasWell = server.breaker.state === 'closed'
    try {
      const value = await server.call(call, deadlineMs)
      this.#well(server, wasWell)
      return { value, server }
    } catch (error) {
      if (!(error instanceof KmipError)) {
        server.failed(new KmipError('KMS_PROTOCOL', 'the call could not be made'))
        throw error
      }
      if (!isServerFault(error)) {
        this.#well(server, wasWell)
        throw error
      }
      server.failed(error)
      this.#settings.emit({ event: 'kmip.server.failed', server: server.name, code: error.code })
      if (!call.idempotent && error instanceof ConnectionError && error.sent) {
        throw new Undecided(error.code, error.message, { server: server.name, cause: error })
      }
      throw error
    }
  }

  #well(server: KmipServer, wasWell: boolean): void {
    server.succeeded()
    if (!wasWell) this.#settings.emit({ event: 'kmip.server.recovered', server: server.name })
  }
}

/** Whether the server is to blame and another one may do better. */
function isServerFault(error: KmipError): boolean {
  return error instanceof ConnectionError || error.code === 'KMS_UNAVAILABLE'
}
