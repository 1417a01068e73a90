import { equalBytes, view } from '../../core/bytes.js'
import { isPlatformError, messageOf } from '../../core/errors.js'
import { randomOctets } from '../../core/random.js'
import { decodeTtlv } from '../decode.js'
import { encodeTtlv } from '../encode.js'
import { OPERATION, RESULT_STATUS } from '../enumerations.js'
import { KmipError } from '../errors.js'
import {
  type KmipResponse,
  type KmipResponseItem,
  passwordCredential,
  requestToTtlv,
  responseFromTtlv,
} from '../message.js'
import { TAG } from '../tags.js'
import { children, type Structure, structure, type Ttlv } from '../ttlv.js'
import { compareVersions, type ProtocolVersion, versionFromTtlv, versionText } from '../version.js'
import { CircuitBreaker } from './breaker.js'
import { ConnectionError, type KmipConnection } from './connection.js'
import type { KmipServerAddress, KmipServerHealth, Settings } from './options.js'
import { ConnectionPool } from './pool.js'
import { refusal } from './reasons.js'

/** One operation: how its request looks in a version, and what its response means. */
export interface Call<T> {
  readonly operation: number
  /** Whether doing it twice is as good as once. */
  readonly idempotent: boolean
  /** The payload; throws `KMIP_VERSION` when this version cannot say it. */
  readonly payload: (version: ProtocolVersion) => readonly (Ttlv | undefined)[]
  /** Copies what it needs: the octets of the response are filled with zeros after it. */
  readonly read: (payload: Structure, version: ProtocolVersion) => T
}

const BATCH_ITEM_ID_OCTETS = 8

/** One key server: its connections, its version and whether it is well. */
export class KmipServer implements Disposable {
  readonly name: string
  readonly breaker: CircuitBreaker
  readonly #settings: Settings
  readonly #pool: ConnectionPool
  #version: Promise<ProtocolVersion> | undefined
  #versionText: string | undefined
  #lastError: string | undefined

  constructor(address: KmipServerAddress, settings: Settings) {
    this.name = address.name
    this.#settings = settings
    this.#pool = new ConnectionPool(address, settings)
    this.breaker = new CircuitBreaker(() => settings.clock.monotonicMs(), settings.random)
  }

  get health(): KmipServerHealth {
    return {
      server: this.name,
      state: this.breaker.state,
      connections: this.#pool.size,
      version: this.#versionText,
      lastError: this.#lastError,
    }
  }

  [Symbol.dispose](): void {
    this.#pool[Symbol.dispose]()
  }

  /** Notes a failure of the server; its version is asked for again after it. */
  failed(error: KmipError): void {
    this.#lastError = error.code
    this.#version = undefined
    this.breaker.failed()
  }

  succeeded(): void {
    this.#lastError = undefined
    this.breaker.succeeded()
  }

  /**
   * Does the operation, on a connection of the pool. A pooled connection that was gone is replaced once for
   * idempotent operations; a refused authentication is tried once more on a new connection.
   */
  async call<T>(call: Call<T>, deadlineMs: number): Promise<T> {
    const version = await this.#negotiated(deadlineMs)
    try {
      return await this.#exchange(call, version, deadlineMs, false)
    } catch (error) {
      const stale = error instanceof StaleConnection && call.idempotent
      if (!stale && !isPlatformError(error, 'KMS_AUTH_FAILED')) throw error
      return await this.#exchange(call, version, deadlineMs, true)
    }
  }

  /** The version that both sides speak: the best of ours that the server names. */
  #negotiated(deadlineMs: number): Promise<ProtocolVersion> {
    this.#version ??= this.#negotiate(deadlineMs).catch((error: unknown) => {
      this.#version = undefined
      throw error
    })
    return this.#version
  }

  async #negotiate(deadlineMs: number): Promise<ProtocolVersion> {
    const ours = this.#settings.versions
    const version = await this.#discover(ours, deadlineMs)
    this.#versionText = versionText(version)
    this.#settings.emit({
      event: 'kmip.version.negotiated',
      server: this.name,
      version: this.#versionText,
    })
    return version
  }

  async #discover(ours: readonly ProtocolVersion[], deadlineMs: number): Promise<ProtocolVersion> {
    const oldest = ours.findLast((version) => version.major > 1 || version.minor > 0)
    const fallback = ours.find((version) => version.major === 1 && version.minor === 0)
    // The oldest header that has the operation is read by most; a server of one version alone wants its own.
    for (const header of new Set([oldest, ...ours])) {
      if (header === undefined || (header.major === 1 && header.minor === 0)) continue
      try {
        const theirs = await this.#exchange(DISCOVER_VERSIONS, header, deadlineMs, false)
        const common = ours.find((one) => theirs.some((other) => compareVersions(one, other) === 0))
        if (common !== undefined) return common
        throw new KmipError('KMIP_VERSION', 'the key server speaks no version that we may', {
          server: this.name,
        })
      } catch (error) {
        if (!isRefusal(error) || isPlatformError(error, 'KMS_AUTH_FAILED')) throw error
      }
    }
    if (fallback !== undefined) return fallback
    throw new KmipError('KMIP_VERSION', 'the key server refused every version that we may speak', {
      server: this.name,
    })
  }

  #exchange<T>(
    call: Call<T>,
    version: ProtocolVersion,
    deadlineMs: number,
    fresh: boolean,
  ): Promise<T> {
    const payload = structure(TAG.RequestPayload, call.payload(version))
    return this.#pool.lend(fresh, async (connection) => {
      const wasUsed = connection.wasUsed
      const batchItemId = nextBatchItemId()
      const request = this.#request(call.operation, version, batchItemId, payload)
      const frame = await this.#send(connection, request, deadlineMs, wasUsed)
      try {
        const item = this.#itemOf(connection, frame, call.operation, batchItemId)
        return this.#readPayload(connection, call, item, version)
      } finally {
        frame.fill(0)
      }
    })
  }

  #request(
    operation: number,
    version: ProtocolVersion,
    batchItemId: Uint8Array,
    payload: Structure,
  ): Uint8Array {
    const { credentials, limits } = this.#settings
    const credential =
      credentials === undefined
        ? undefined
        : passwordCredential(
            credentials.username,
            credentials.password?.use((octets) => Buffer.from(octets).toString('utf8')),
          )
    return encodeTtlv(
      requestToTtlv({
        version,
        maximumResponseSize: limits.maxOctets,
        credentials: credential === undefined ? undefined : [credential],
        items: [{ operation, batchItemId, payload }],
      }),
    )
  }

  async #send(
    connection: KmipConnection,
    request: Uint8Array,
    deadlineMs: number,
    wasUsed: boolean,
  ): Promise<Uint8Array> {
    const left = deadlineMs - this.#settings.clock.monotonicMs()
    if (left <= 0) {
      throw new ConnectionError('KMS_TIMEOUT', 'the time for the call is over', {
        server: this.name,
        sent: false,
      })
    }
    try {
      return await connection.send(request, Math.min(left, this.#settings.timeouts.requestMs))
    } catch (error) {
      if (wasUsed && error instanceof ConnectionError && error.code === 'KMS_UNREACHABLE') {
        throw new StaleConnection('KMS_UNREACHABLE', error.message, {
          server: this.name,
          sent: true,
          cause: error,
        })
      }
      throw error
    }
  }

  /** The one item of the response, when it is the answer to this request; ends the connection when it is not. */
  #itemOf(
    connection: KmipConnection,
    frame: Uint8Array,
    operation: number,
    batchItemId: Uint8Array,
  ): KmipResponseItem {
    let response: KmipResponse
    try {
      response = responseFromTtlv(decodeTtlv(frame, this.#settings.limits))
    } catch (cause) {
      throw this.#broken(connection, `the response cannot be read: ${messageOf(cause)}`, cause)
    }
    const [item, ...more] = response.items
    if (item === undefined || more.length > 0) {
      throw this.#broken(connection, 'expected one batch item in the response')
    }
    const failed = item.status === RESULT_STATUS.OperationFailed
    // A server that could not read the request knows neither its operation nor its id.
    const unread = failed && item.operation === undefined
    const sameId = item.batchItemId !== undefined && equalBytes(item.batchItemId, batchItemId)
    if (!unread && (item.operation !== operation || !sameId)) {
      throw this.#broken(connection, 'the response is to another request')
    }
    if (item.batchItemId !== undefined && !sameId) {
      throw this.#broken(connection, 'the response is to another request')
    }
    if (failed) {
      if (unread) connection.close()
      const error = refusal(item, this.name)
      if (error.code === 'KMS_AUTH_FAILED') connection.close()
      throw error
    }
    return item
  }

  #readPayload<T>(
    connection: KmipConnection,
    call: Call<T>,
    item: KmipResponseItem,
    version: ProtocolVersion,
  ): T {
    if (item.status !== RESULT_STATUS.Success) {
      throw new KmipError('KMS_UNSUPPORTED', 'the key server wants to answer later', {
        server: this.name,
      })
    }
    try {
      return call.read(item.payload ?? structure(TAG.ResponsePayload, []), version)
    } catch (cause) {
      throw this.#broken(connection, `the response cannot be read: ${messageOf(cause)}`, cause)
    }
  }

  #broken(connection: KmipConnection, message: string, cause?: unknown): ConnectionError {
    connection.close()
    return new ConnectionError('KMS_PROTOCOL', message, { server: this.name, sent: true, cause })
  }
}

const lastBatchItemId = randomOctets(BATCH_ITEM_ID_OCTETS)

/** Another id than any before it: the first is by chance, so that ids of two processes differ too. */
function nextBatchItemId(): Uint8Array {
  const counter = view(lastBatchItemId)
  counter.writeUInt32BE((counter.readUInt32BE(4) + 1) >>> 0, 4)
  return Uint8Array.from(lastBatchItemId)
}

/** A pooled connection that was gone when it was used again. */
class StaleConnection extends ConnectionError {}

/** Asks for all versions of the server. @see KMIP 2.1 Specification, clause 6.1.20 */
export const DISCOVER_VERSIONS: Call<readonly ProtocolVersion[]> = {
  operation: OPERATION.DiscoverVersions,
  idempotent: true,
  payload: () => [],
  read: (payload) => children(payload, TAG.ProtocolVersion).map(versionFromTtlv),
}

/** Whether the server answered, and the answer was no. */
export function isRefusal(error: unknown): error is KmipError {
  return error instanceof KmipError && error.reason !== undefined
}
