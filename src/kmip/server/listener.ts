import type { AddressInfo, Socket } from 'node:net'
import { createServer, type Server, type TLSSocket } from 'node:tls'
import { type Clock, systemClock } from '../../core/clock.js'
import { messageOf } from '../../core/errors.js'
import { TTLV_LIMITS, type TtlvLimits } from '../decode.js'
import { enumerationName } from '../enumerations.js'
import { KmipError } from '../errors.js'
import { TAG } from '../tags.js'
import { type ProtocolVersion, VERSIONS, versionText } from '../version.js'
import { ServerConnection } from './connection.js'
import { type Handled, type HandlerOptions, handleMessage, type KmipUser } from './handler.js'
import { OPERATIONS } from './operations.js'
import { ObjectStore } from './store.js'

export interface KmipServerLimits extends TtlvLimits {
  readonly maxBatchItems: number
  readonly maxConnections: number
  /** Objects of all clients together, with those that are destroyed. */
  readonly maxObjects: number
  readonly maxObjectOctets: number
  readonly maxAttributes: number
  /** TLS handshake, and a request from its first octet to its last. */
  readonly requestMs: number
  /** A connection that asks for nothing is closed after it. */
  readonly idleMs: number
}

export const KMIP_SERVER_LIMITS: KmipServerLimits = {
  ...TTLV_LIMITS,
  maxBatchItems: 256,
  maxConnections: 256,
  maxObjects: 100_000,
  maxObjectOctets: 1 << 16,
  maxAttributes: 256,
  requestMs: 10_000,
  idleMs: 300_000,
}

export interface KmipServerOptions {
  /** The default is the loopback address. */
  readonly host?: string
  /** The default is 0: any that is free. */
  readonly port?: number
  /** PEM texts; every client needs a certificate of these authorities. */
  readonly tls: {
    readonly authorities: string
    readonly certificate: string
    readonly privateKey: string
  }
  /** What is spoken; the default is 2.1 to 1.0. */
  readonly versions?: readonly ProtocolVersion[]
  /** Users with passwords; a request of nobody among them is refused. Without, the certificate is enough. */
  readonly users?: readonly KmipUser[]
  readonly limits?: Partial<KmipServerLimits>
  /** Objects that several servers have in common, as the servers of one cluster do. */
  readonly objects?: ObjectStore
  readonly events?: (event: KmipServerEvent) => void
  readonly clock?: Clock
}

/** What the server did; holds no secret. `client` is the subject of a certificate. */
export type KmipServerEvent =
  | { readonly event: 'kmip.connected'; readonly client: string }
  | { readonly event: 'kmip.refused'; readonly reason: string }
  | {
      readonly event: 'kmip.answered'
      readonly client: string
      readonly version: string
      readonly items: readonly { readonly operation: string; readonly result: string }[]
    }
  /** A mistake of the server, which no request should be able to cause. */
  | { readonly event: 'kmip.fault'; readonly message: string }

export interface RunningKmipServer extends AsyncDisposable {
  readonly host: string
  readonly port: number
}

/**
 * Starts the reference server: KMIP over mutual TLS, objects in memory alone, gone with the process. For development
 * and tests: it keeps nothing, and answers whoever has a certificate of the authorities.
 *
 * A client is the subject of its certificate, and sees what it made. Throws `KMIP_LISTEN` when the address is taken
 * or the certificate is none.
 */
export async function startKmipServer(options: KmipServerOptions): Promise<RunningKmipServer> {
  const emit = options.events ?? (() => undefined)
  const limits = { ...KMIP_SERVER_LIMITS, ...options.limits }
  const store = options.objects ?? new ObjectStore(limits.maxObjects)
  const handler: HandlerOptions = {
    store,
    server: {
      versions: options.versions ?? VERSIONS,
      operations: OPERATIONS,
      maxObjectOctets: limits.maxObjectOctets,
      maxAttributes: limits.maxAttributes,
    },
    limits,
    maxBatchItems: limits.maxBatchItems,
    users: options.users,
    clock: options.clock ?? systemClock,
    fault: (error) => emit({ event: 'kmip.fault', message: messageOf(error) }),
  }
  const sockets = new Set<Socket>()
  const server = tlsServer(options, limits)
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  server.on('tlsClientError', (error, socket) => {
    emit({ event: 'kmip.refused', reason: error.message })
    // Node leaves the connection open when it was the time for the handshake that was over.
    socket.destroy()
  })
  server.on('drop', () => emit({ event: 'kmip.refused', reason: 'too many connections' }))
  server.on('secureConnection', (socket) => {
    const client = subjectOf(socket)
    emit({ event: 'kmip.connected', client })
    new ServerConnection(socket, limits, (octets) => {
      const handled = handleMessage(octets, client, handler)
      emit(answered(client, handled))
      return handled.response
    })
  })
  const host = options.host ?? '127.0.0.1'
  await listen(server, host, options.port ?? 0)
  return {
    host,
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      for (const socket of sockets) socket.destroy()
      await closed
      if (options.objects === undefined) store[Symbol.dispose]()
    },
  }
}

function tlsServer({ tls }: KmipServerOptions, limits: KmipServerLimits): Server {
  let server: Server
  try {
    server = createServer({
      ca: tls.authorities,
      cert: tls.certificate,
      key: tls.privateKey,
      requestCert: true,
      rejectUnauthorized: true,
      minVersion: 'TLSv1.2',
      handshakeTimeout: limits.requestMs,
    })
  } catch (cause) {
    throw new KmipError('KMIP_LISTEN', 'the certificate or the key of the server cannot be used', {
      cause,
    })
  }
  server.maxConnections = limits.maxConnections
  return server
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause) =>
      reject(new KmipError('KMIP_LISTEN', `cannot listen on ${host}:${port}`, { cause })),
    )
    server.listen(port, host, () => {
      server.removeAllListeners('error')
      resolve()
    })
  })
}

/** The subject as text; one certificate may replace another of the same subject. */
function subjectOf(socket: TLSSocket): string {
  const { subject } = socket.getPeerCertificate()
  return Object.entries(subject ?? {})
    .map(([name, value]) => `${name}=${JSON.stringify(value)}`)
    .join(',')
}

function answered(client: string, { version, items }: Handled): KmipServerEvent {
  return {
    event: 'kmip.answered',
    client,
    version: versionText(version),
    items: items.map(({ operation, status, reason }) => ({
      operation: name(TAG.Operation, operation),
      result: name(reason === undefined ? TAG.ResultStatus : TAG.ResultReason, reason ?? status),
    })),
  }
}

function name(tag: number, value: number | undefined): string {
  if (value === undefined) return 'none'
  return enumerationName(tag, value) ?? `0x${value.toString(16)}`
}
