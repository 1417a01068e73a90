import { connect, type TLSSocket } from 'node:tls'
import { frameLength } from '../../../src/kmip/decode.js'
import type { Certificate, TestAuthority } from './client-certificates.js'

/** A TLS connection that sends octets as they are, and reads whole messages. */
export class RawConnection implements Disposable {
  readonly socket: TLSSocket
  readonly #waiting: ((frame: Uint8Array | undefined) => void)[] = []
  #received: Buffer = Buffer.alloc(0)

  private constructor(socket: TLSSocket) {
    this.socket = socket
    socket.setNoDelay(true)
    socket.on('error', () => undefined)
    socket.on('data', (chunk) => this.#receive(chunk))
    socket.on('close', () => {
      for (const give of this.#waiting.splice(0)) give(undefined)
    })
  }

  static async open(
    port: number,
    authority: TestAuthority,
    client: Certificate = authority.client(),
  ): Promise<RawConnection> {
    const socket = connect({
      host: '127.0.0.1',
      port,
      servername: 'localhost',
      ca: authority.authority.certificate,
      cert: client.certificate,
      key: client.key,
    })
    await new Promise<void>((resolve, reject) => {
      socket.once('secureConnect', resolve)
      socket.once('error', reject)
    })
    return new RawConnection(socket)
  }

  /** The next message; nothing when the connection ends before it. */
  read(): Promise<Uint8Array | undefined> {
    if (this.socket.destroyed) return Promise.resolve(undefined)
    return new Promise((resolve) => this.#waiting.push(resolve))
  }

  /** The response to a request; nothing when the connection ends before it. */
  exchange(request: Uint8Array): Promise<Uint8Array | undefined> {
    const response = this.read()
    this.socket.write(request)
    return response
  }

  [Symbol.dispose](): void {
    this.socket.destroy()
  }

  #receive(chunk: Buffer): void {
    this.#received = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk])
    while (this.#received.length >= 8) {
      const length = frameLength(this.#received.subarray(0, 8))
      if (this.#received.length < length) return
      const frame = Uint8Array.from(this.#received.subarray(0, length))
      this.#received = this.#received.subarray(length)
      this.#waiting.shift()?.(frame)
    }
  }
}
