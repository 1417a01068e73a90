import { connect, type TLSSocket } from 'node:tls'

export interface RawTarget {
  readonly port: number
  readonly authority: string
  readonly certificate: string
  readonly key: string
}

/** Connections that send the same octets again and again, and read no more of an answer than its length. */
export class RawLoad implements Disposable {
  readonly #sockets: readonly TLSSocket[]
  readonly #frame: Uint8Array
  #left = 0
  #inFlight = 0
  #done: () => void = () => undefined

  private constructor(sockets: readonly TLSSocket[], frame: Uint8Array) {
    this.#sockets = sockets
    this.#frame = frame
    for (const socket of sockets) {
      let received: Buffer = Buffer.alloc(0)
      socket.on('data', (chunk) => {
        received = received.length === 0 ? chunk : Buffer.concat([received, chunk])
        let offset = 0
        while (received.length - offset >= 8) {
          const length = 8 + received.readUInt32BE(offset + 4)
          if (received.length - offset < length) break
          offset += length
          this.#answered(socket)
        }
        received = received.subarray(offset)
      })
    }
  }

  static async open(target: RawTarget, connections: number, frame: Uint8Array): Promise<RawLoad> {
    const sockets = await Promise.all(
      Array.from({ length: connections }, () => {
        const socket = connect({
          host: '127.0.0.1',
          port: target.port,
          servername: 'localhost',
          ca: target.authority,
          cert: target.certificate,
          key: target.key,
        })
        socket.setNoDelay(true)
        return new Promise<TLSSocket>((resolve, reject) => {
          socket.once('secureConnect', () => resolve(socket))
          socket.once('error', reject)
        })
      }),
    )
    return new RawLoad(sockets, frame)
  }

  /** Requests a second, with so many under way on each connection. */
  async rate(requests: number, inFlight: number): Promise<number> {
    const begin = performance.now()
    this.#left = requests
    const done = new Promise<void>((resolve) => {
      this.#done = resolve
    })
    for (const socket of this.#sockets) {
      for (let count = 0; count < inFlight; count += 1) this.#send(socket)
    }
    await done
    return (requests / (performance.now() - begin)) * 1000
  }

  [Symbol.dispose](): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  #send(socket: TLSSocket): void {
    if (this.#left === 0) return
    this.#left -= 1
    this.#inFlight += 1
    socket.write(this.#frame)
  }

  #answered(socket: TLSSocket): void {
    this.#inFlight -= 1
    this.#send(socket)
    if (this.#inFlight === 0) this.#done()
  }
}
