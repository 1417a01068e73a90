import type { AddressInfo } from 'node:net'
import { createServer, type Server, type TLSSocket } from 'node:tls'
import { decodeTtlv, frameLength } from '../../../src/kmip/decode.js'
import { encodeTtlv } from '../../../src/kmip/encode.js'
import { OPERATION, RESULT_STATUS } from '../../../src/kmip/enumerations.js'
import {
  type KmipRequest,
  type KmipResponseItem,
  requestFromTtlv,
  responseToTtlv,
} from '../../../src/kmip/message.js'
import { TAG } from '../../../src/kmip/tags.js'
import { structure, type Ttlv } from '../../../src/kmip/ttlv.js'
import { versionToTtlv } from '../../../src/kmip/version.js'
import type { Certificate, TestAuthority } from './client-certificates.js'

/** What the server does with a request: answers with octets, or does something to the socket itself. */
export type Behaviour = (request: KmipRequest, socket: TLSSocket) => Uint8Array | undefined

/** A TLS server on loopback that reads requests well and answers them as a test says. */
export class ScriptedServer implements AsyncDisposable {
  readonly requests: KmipRequest[] = []
  readonly #server: Server
  readonly #sockets = new Set<TLSSocket>()
  connections = 0

  private constructor(authority: TestAuthority, certificate: Certificate, behaviour: Behaviour) {
    this.#server = createServer({
      ca: authority.authority.certificate,
      cert: certificate.certificate,
      key: certificate.key,
      requestCert: true,
      rejectUnauthorized: true,
    })
    this.#server.on('tlsClientError', () => undefined)
    this.#server.on('secureConnection', (socket) => {
      this.connections += 1
      this.#sockets.add(socket)
      socket.on('error', () => undefined)
      socket.on('close', () => this.#sockets.delete(socket))
      let received = Buffer.alloc(0)
      socket.on('data', (chunk) => {
        received = Buffer.concat([received, chunk])
        while (received.length >= 8 && received.length >= frameLength(received.subarray(0, 8))) {
          const length = frameLength(received.subarray(0, 8))
          const request = requestFromTtlv(decodeTtlv(Uint8Array.from(received.subarray(0, length))))
          received = received.subarray(length)
          this.requests.push(request)
          const answer =
            request.items[0]?.operation === OPERATION.DiscoverVersions
              ? discovered(request)
              : behaviour(request, socket)
          if (answer !== undefined && !socket.destroyed) socket.write(answer)
        }
      })
    })
  }

  static async start(
    authority: TestAuthority,
    behaviour: Behaviour,
    certificate = authority.server(),
    port = 0,
  ): Promise<ScriptedServer> {
    const started = new ScriptedServer(authority, certificate, behaviour)
    await new Promise<void>((resolve) => started.#server.listen(port, '127.0.0.1', resolve))
    return started
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  /** Requests for one operation. */
  count(operation: number): number {
    return this.requests.filter(({ items }) => items[0]?.operation === operation).length
  }

  closeConnections(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.closeConnections()
    await new Promise<void>((resolve) => this.#server.close(() => resolve()))
  }
}

/** A response to the request, with changes to its one item. */
export function respond(
  request: KmipRequest,
  payload: readonly Ttlv[],
  change: Partial<KmipResponseItem> = {},
): Uint8Array {
  const [item] = request.items
  return encodeTtlv(
    responseToTtlv({
      version: request.version,
      timeStamp: 0n,
      items: [
        {
          operation: item?.operation,
          batchItemId: item?.batchItemId,
          status: RESULT_STATUS.Success,
          payload: structure(TAG.ResponsePayload, payload),
          ...change,
        },
      ],
    }),
  )
}

/** A refusal for a reason. */
export function refuse(request: KmipRequest, reason: number, message = 'no'): Uint8Array {
  const status = RESULT_STATUS.OperationFailed
  return respond(request, [], { status, reason, message, payload: undefined })
}

function discovered(request: KmipRequest): Uint8Array {
  return respond(
    request,
    [
      { major: 2, minor: 1 },
      { major: 1, minor: 4 },
    ].map(versionToTtlv),
  )
}
