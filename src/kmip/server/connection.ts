import type { TLSSocket } from 'node:tls'
import { frameLength } from '../decode.js'

const HEADER_OCTETS = 8

interface ConnectionLimits {
  readonly maxOctets: number
  readonly requestMs: number
  readonly idleMs: number
}

/**
 * One connection of a client: requests come in as a stream, and are answered one after the other in their order.
 *
 * It ends when a client is silent for too long, sends a request too slowly, or sends what is not the beginning of a
 * message: after that nobody can tell where the next one begins. While a client does not read its answers, no more of
 * its requests are read.
 */
export class ServerConnection {
  readonly #socket: TLSSocket
  readonly #limits: ConnectionLimits
  readonly #answer: (request: Uint8Array) => Uint8Array
  #parts: Buffer[] = []
  #octets = 0
  /** Octets of the request that comes in, or of its header as long as that is not whole. */
  #wanted = HEADER_OCTETS
  #timer: NodeJS.Timeout | undefined

  /** @param answer makes the response; it may fill the request with zeros, and the response is when it was sent */
  constructor(
    socket: TLSSocket,
    limits: ConnectionLimits,
    answer: (request: Uint8Array) => Uint8Array,
  ) {
    this.#socket = socket
    this.#limits = limits
    this.#answer = answer
    socket.setNoDelay(true)
    socket.on('data', (chunk) => this.#receive(chunk))
    // What went wrong is of no use: the connection is closed after it, and nobody waits for it.
    socket.on('error', () => undefined)
    socket.on('drain', () => this.#resume())
    socket.once('close', () => this.#end())
    this.#expect(limits.idleMs)
  }

  #receive(chunk: Buffer): void {
    if (this.#octets === 0) this.#expect(this.#limits.requestMs)
    this.#parts.push(chunk)
    this.#octets += chunk.length
    this.#answerTogether()
  }

  #resume(): void {
    if (this.#socket.destroyed) return
    this.#socket.resume()
    this.#answerTogether()
  }

  /** Answers to requests that came together go out together. */
  #answerTogether(): void {
    this.#socket.cork()
    this.#process()
    this.#socket.uncork()
  }

  /** Answers the whole requests that are there. */
  #process(): void {
    while (this.#octets >= this.#wanted && !this.#socket.destroyed) {
      if (this.#socket.writableNeedDrain) {
        this.#socket.pause()
        return
      }
      const all = this.#joined()
      const length = this.#lengthOf(all)
      if (length === undefined) return
      this.#wanted = length
      if (length > this.#octets) return
      const response = this.#answer(this.#take(all, length))
      this.#socket.write(response, () => response.fill(0))
      this.#expect(this.#octets === 0 ? this.#limits.idleMs : this.#limits.requestMs)
    }
  }

  /** Ends the connection when these octets do not begin a message: there is no request to answer. */
  #lengthOf(octets: Uint8Array): number | undefined {
    try {
      return frameLength(octets.subarray(0, HEADER_OCTETS), this.#limits.maxOctets)
    } catch {
      this.#socket.destroy()
      return undefined
    }
  }

  #take(all: Buffer, length: number): Uint8Array {
    const request = Uint8Array.from(all.subarray(0, length))
    const rest = Buffer.from(all.subarray(length))
    all.fill(0)
    this.#parts = rest.length === 0 ? [] : [rest]
    this.#octets = rest.length
    this.#wanted = HEADER_OCTETS
    return request
  }

  #joined(): Buffer {
    const [first, ...others] = this.#parts
    if (first !== undefined && others.length === 0) return first
    const all = Buffer.concat(this.#parts)
    for (const part of this.#parts) part.fill(0)
    this.#parts = [all]
    return all
  }

  #expect(ms: number): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#socket.destroy(), ms)
  }

  #end(): void {
    clearTimeout(this.#timer)
    for (const part of this.#parts) part.fill(0)
    this.#parts = []
    this.#octets = 0
  }
}
