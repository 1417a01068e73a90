import type { Server, Socket } from 'node:net'

/**
 * Keeps the open connections of a server, and at most so many for each address.
 *
 * Counts connections before TLS, so half-open handshakes count too.
 */
export class Connections {
  readonly #open = new Set<Socket>()
  readonly #perAddress = new Map<string, number>()

  constructor(server: Server, maxPerAddress: number) {
    server.on('connection', (socket: Socket) => {
      const address = socket.remoteAddress
      this.#open.add(socket)
      socket.once('close', () => this.#open.delete(socket))
      if (address === undefined) return
      const count = (this.#perAddress.get(address) ?? 0) + 1
      this.#perAddress.set(address, count)
      socket.once('close', () => this.#release(address))
      if (count > maxPerAddress) socket.destroy()
    })
  }

  destroyAll(): void {
    for (const socket of this.#open) socket.destroy()
  }

  #release(address: string): void {
    const count = (this.#perAddress.get(address) ?? 1) - 1
    if (count > 0) this.#perAddress.set(address, count)
    else this.#perAddress.delete(address)
  }
}
