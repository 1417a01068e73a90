import { createHash } from 'node:crypto'
import { connect, type TLSSocket } from 'node:tls'
import { messageOf } from '../../core/errors.js'
import { frameLength } from '../decode.js'
import { KmipError } from '../errors.js'
import type { KmipServerAddress, Settings } from './options.js'
import { kmipTlsOptions } from './tls-options.js'

const HEADER_OCTETS = 8

/** A connection that failed. `sent`: whether the server may have got the request, so that it may have done it. */
export class ConnectionError extends KmipError {
  readonly sent: boolean

  constructor(
    code: FailureCode,
    message: string,
    detail: { readonly server: string; readonly sent: boolean; readonly cause?: unknown },
  ) {
    super(code, message, { server: detail.server, cause: detail.cause })
    this.sent = detail.sent
  }
}

interface Waiting {
  readonly resolve: (frame: Uint8Array) => void
  readonly reject: (error: ConnectionError) => void
  readonly timer: NodeJS.Timeout
}

/**
 * One TLS connection to a key server: requests go out in order and responses come back in that order.
 *
 * Everything that is not a whole response in time ends the connection and every request on it: after it nobody can
 * tell which octets belong to what.
 */
export class KmipConnection {
  readonly #socket: TLSSocket
  readonly #server: string
  readonly #maxOctets: number
  readonly #waiting: Waiting[] = []
  #received: Buffer[] = []
  #receivedOctets = 0
  #wanted = HEADER_OCTETS
  #failed: ConnectionError | undefined
  #used = false
  #corked = false
  #idleSinceMs: number
  readonly #monotonicMs: () => number

  private constructor(socket: TLSSocket, server: string, settings: Settings) {
    this.#socket = socket
    this.#server = server
    this.#maxOctets = settings.limits.maxOctets
    this.#monotonicMs = () => settings.clock.monotonicMs()
    this.#idleSinceMs = this.#monotonicMs()
    socket.on('data', (chunk) => this.#receive(chunk))
    socket.on('error', (cause) => this.#fail(failureCode(cause), messageOf(cause), cause))
    socket.on('close', () => this.#fail('KMS_UNREACHABLE', 'the server closed the connection'))
  }

  /** Throws `ConnectionError`: no connection, another certificate or name than is trusted, no answer in time. */
  static async open(address: KmipServerAddress, settings: Settings): Promise<KmipConnection> {
    const { name: server } = address
    const socket = await handshake(address, settings)
    if (address.pins !== undefined && !isPinned(socket, address.pins)) {
      socket.destroy()
      throw new ConnectionError('KMS_TLS', 'the certificate of the server is not a pinned one', {
        server,
        sent: false,
      })
    }
    return new KmipConnection(socket, server, settings)
  }

  get isOpen(): boolean {
    return this.#failed === undefined
  }

  /** Whether a response came over it before: one that fails next may only have been idle for too long. */
  get wasUsed(): boolean {
    return this.#used
  }

  get inFlight(): number {
    return this.#waiting.length
  }

  get idleMs(): number {
    return this.#waiting.length > 0 ? 0 : this.#monotonicMs() - this.#idleSinceMs
  }

  /** The octets of the response; throws `ConnectionError`. The request is filled with zeros when it was written. */
  send(request: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    if (this.#failed !== undefined) return Promise.reject(this.#failed)
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => this.#fail('KMS_TIMEOUT', `no response within ${timeoutMs} ms`),
        timeoutMs,
      )
      this.#waiting.push({ resolve, reject, timer })
      this.#writeWithOthers(request)
    })
  }

  /** Ends the connection; requests under way fail. */
  close(): void {
    this.#fail('KMS_UNREACHABLE', 'the connection was closed')
  }

  /** Requests that are sent in the same turn go out together, as one record of TLS. */
  #writeWithOthers(request: Uint8Array): void {
    if (!this.#corked) {
      this.#corked = true
      this.#socket.cork()
      process.nextTick(() => {
        this.#corked = false
        this.#socket.uncork()
      })
    }
    this.#socket.write(request, () => request.fill(0))
  }

  #receive(chunk: Buffer): void {
    this.#received.push(chunk)
    this.#receivedOctets += chunk.length
    while (this.#failed === undefined && this.#receivedOctets >= this.#wanted) {
      const all = this.#received.length === 1 ? this.#received[0] : Buffer.concat(this.#received)
      if (all === undefined) return
      this.#received = [all]
      if (this.#waiting.length === 0) {
        this.#fail('KMS_PROTOCOL', 'the server sent octets that nobody asked for')
        return
      }
      const length = this.#lengthOf(all)
      if (length === undefined) return
      this.#wanted = length
      if (all.length >= length) this.#deliver(all, length)
    }
  }

  #lengthOf(octets: Buffer): number | undefined {
    try {
      return frameLength(octets.subarray(0, HEADER_OCTETS), this.#maxOctets)
    } catch (cause) {
      this.#fail('KMS_PROTOCOL', `the server sent no message of KMIP: ${messageOf(cause)}`, cause)
      return undefined
    }
  }

  #deliver(octets: Buffer, length: number): void {
    const frame = new Uint8Array(octets.subarray(0, length))
    const rest = Buffer.from(octets.subarray(length))
    for (const part of this.#received) part.fill(0)
    this.#received = rest.length === 0 ? [] : [rest]
    this.#receivedOctets = rest.length
    this.#wanted = HEADER_OCTETS
    this.#used = true
    this.#idleSinceMs = this.#monotonicMs()
    const waiting = this.#waiting.shift()
    clearTimeout(waiting?.timer)
    waiting?.resolve(frame)
    if (rest.length > 0 && this.#waiting.length === 0) {
      this.#fail('KMS_PROTOCOL', 'the server sent octets that nobody asked for')
    }
  }

  #fail(code: FailureCode, message: string, cause?: unknown): void {
    if (this.#failed !== undefined) return
    const error = new ConnectionError(code, message, { server: this.#server, sent: true, cause })
    this.#failed = error
    this.#socket.destroy()
    for (const part of this.#received) part.fill(0)
    this.#received = []
    for (const { reject, timer } of this.#waiting.splice(0)) {
      clearTimeout(timer)
      reject(error)
    }
  }
}

type FailureCode = 'KMS_UNREACHABLE' | 'KMS_TLS' | 'KMS_TIMEOUT' | 'KMS_PROTOCOL'

function handshake(address: KmipServerAddress, settings: Settings): Promise<TLSSocket> {
  const { name: server } = address
  return new Promise((resolve, reject) => {
    const socket = connect(kmipTlsOptions(address, settings.tls))
    socket.setNoDelay(true)
    socket.setKeepAlive(true)
    const end = (code: FailureCode, message: string, cause?: unknown): void => {
      clearTimeout(timer)
      socket.destroy()
      reject(new ConnectionError(code, message, { server, sent: false, cause }))
    }
    const { connectMs } = settings.timeouts
    const timer = setTimeout(
      () => end('KMS_TIMEOUT', `no connection within ${connectMs} ms`),
      connectMs,
    )
    const onError = (cause: Error): void => end(failureCode(cause), messageOf(cause), cause)
    const onClose = (): void => end('KMS_UNREACHABLE', 'the server closed the connection')
    socket.once('error', onError)
    socket.once('close', onClose)
    socket.once('secureConnect', () => {
      clearTimeout(timer)
      socket.off('error', onError)
      socket.off('close', onClose)
      resolve(socket)
    })
  })
}

function isPinned(socket: TLSSocket, pins: readonly string[]): boolean {
  const digest = createHash('sha256').update(socket.getPeerCertificate().raw).digest('hex')
  return pins.some((pin) => pin.replaceAll(':', '').toLowerCase() === digest)
}

/** Errors of sockets have the names of the system; all others are of TLS and of certificates. */
function failureCode(cause: Error): FailureCode {
  const code = 'code' in cause ? String(cause.code) : ''
  return /^(E[A-Z]+|E?AI_[A-Z]+)$/.test(code) && !code.startsWith('ERR_')
    ? 'KMS_UNREACHABLE'
    : 'KMS_TLS'
}
