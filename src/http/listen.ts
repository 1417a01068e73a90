import { once } from 'node:events'
import { chmodSync, lstatSync, unlinkSync } from 'node:fs'
import { createServer, type RequestListener, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { connect } from 'node:net'
import { messageOf, PlatformError } from '../core/errors.js'
import { type App, isLocalApp } from './app.js'
import { Connections } from './connections.js'
import { isLoopback, type ListenAddress, parseListenAddress, urlOf } from './listen-address.js'

export interface TlsFiles {
  /** Certificate chain of the server. */
  readonly certPem: string
  readonly keyPem: string
}

export interface ListenOptions {
  readonly tls?: TlsFiles | undefined
  /** Lets a loopback address go without TLS. */
  readonly insecureLoopback?: boolean | undefined
  readonly maxConnections?: number | undefined
  readonly maxConnectionsPerAddress?: number | undefined
  /** How long open requests may take once `close` is called. */
  readonly graceMs?: number | undefined
}

export interface Listener extends AsyncDisposable {
  /** `https://127.0.0.1:8440`, with the real port, or `unix:/path`. */
  readonly url: string
  /** Takes no new requests, lets open ones end within the grace, then closes connections and apps. */
  close(): Promise<void>
}

const MAX_CONNECTIONS = 4096
const MAX_CONNECTIONS_PER_ADDRESS = 512
const GRACE_MS = 5_000

/** From the first octet to the last of each part, so that no client can hold a connection by being slow. */
const TIMEOUTS = {
  handshakeMs: 5_000,
  headersMs: 5_000,
  requestMs: 30_000,
  keepAliveMs: 10_000,
  idleMs: 120_000,
  checkEveryMs: 1_000,
} as const

const MAX_HEADER_OCTETS = 16 * 1024
const MAX_HEADERS = 64

/**
 * Serves one app, or several by the first segment of the path (`attestation` → app; the app under `''` answers the rest).
 * The owner of the map may put another app, which is ready, in the place of one at any time; whoever takes an app out
 * closes it.
 *
 * TCP needs TLS 1.2 or later, unless the address is loopback and `insecureLoopback` is set. A unix socket gets mode
 * 0600; one left by a process that is gone is replaced. An app made for a unix socket is not served on TCP.
 *
 * @param address `host:port`, `[::1]:port` or `unix:/path`
 * @throws PlatformError `LISTEN_INSECURE` or `LISTEN_FAILED`
 */
export async function listen(
  apps: App | ReadonlyMap<string, App>,
  address: string,
  options: ListenOptions = {},
): Promise<Listener> {
  const where = parseListenAddress(address)
  const table: ReadonlyMap<string, App> = apps instanceof Map ? apps : new Map([['', apps as App]])
  checkSecurity(where, table, options)
  for (const app of table.values()) await app.ready()

  const server = createAnyServer(options.tls, dispatcher(table))
  server.maxConnections = options.maxConnections ?? MAX_CONNECTIONS
  server.maxHeadersCount = MAX_HEADERS
  server.timeout = TIMEOUTS.idleMs
  const connections = new Connections(
    server,
    options.maxConnectionsPerAddress ?? MAX_CONNECTIONS_PER_ADDRESS,
  )
  server.on('request', (_request, response) => {
    response.once('finish', () => {
      if (!server.listening) response.req.socket.end()
    })
  })
  await bind(server, where)

  let closing: Promise<void> | undefined
  const close = () => {
    closing ??= closeAll(server, connections, [...table.values()], options.graceMs ?? GRACE_MS)
    return closing
  }
  return { url: boundUrl(server, where, options), close, [Symbol.asyncDispose]: close }
}

function checkSecurity(
  where: ListenAddress,
  table: ReadonlyMap<string, App>,
  { tls, insecureLoopback }: ListenOptions,
): void {
  if (!table.has('')) throw new TypeError('no app for the rest of the paths')
  if (where.kind === 'unix') return
  if ([...table.values()].some(isLocalApp)) {
    throw new PlatformError(
      'LISTEN_INSECURE',
      'expected unix:/path for an app without authentication',
    )
  }
  if (!tls && !(insecureLoopback && isLoopback(where.host))) {
    throw new PlatformError(
      'LISTEN_INSECURE',
      `expected a certificate and key to listen at ${where.host}, found none`,
    )
  }
}

function dispatcher(table: ReadonlyMap<string, App>): RequestListener {
  const rest = table.get('')
  return (request, response) => {
    const [, segment = ''] = /^\/([A-Za-z0-9._-]*)/.exec(request.url ?? '') ?? []
    const app = table.get(segment) ?? rest
    app?.routing(request, response)
  }
}

function createAnyServer(tls: TlsFiles | undefined, handle: RequestListener): Server {
  const options = {
    maxHeaderSize: MAX_HEADER_OCTETS,
    headersTimeout: TIMEOUTS.headersMs,
    requestTimeout: TIMEOUTS.requestMs,
    keepAliveTimeout: TIMEOUTS.keepAliveMs,
    connectionsCheckingInterval: TIMEOUTS.checkEveryMs,
  }
  if (!tls) return createServer(options, handle)
  try {
    return createTlsServer(
      {
        ...options,
        cert: tls.certPem,
        key: tls.keyPem,
        minVersion: 'TLSv1.2',
        honorCipherOrder: true,
        handshakeTimeout: TIMEOUTS.handshakeMs,
        ALPNProtocols: ['http/1.1'],
      },
      handle,
    )
  } catch (cause) {
    throw new PlatformError('LISTEN_FAILED', 'expected a certificate and its key in PEM', { cause })
  }
}

async function bind(server: Server, where: ListenAddress): Promise<void> {
  try {
    const listening = once(server, 'listening')
    if (where.kind === 'tcp') server.listen(where.port, where.host)
    else await listenOnSocket(server, where.path)
    await listening
    if (where.kind === 'unix') chmodSync(where.path, 0o600)
  } catch (cause) {
    server.close()
    throw new PlatformError('LISTEN_FAILED', `cannot listen: ${messageOf(cause)}`, { cause })
  }
}

/** Makes the socket with mode 0600 from its first moment: `listen` binds a path before it returns. */
async function listenOnSocket(server: Server, path: string): Promise<void> {
  await removeDeadSocket(path)
  const mask = process.umask(0o177)
  try {
    server.listen(path)
  } finally {
    process.umask(mask)
  }
}

/** Removes a socket that nobody listens on; anything else at the path stays, and `listen` fails on it. */
async function removeDeadSocket(path: string): Promise<void> {
  if (!lstatSync(path, { throwIfNoEntry: false })?.isSocket()) return
  const isDead = await new Promise<boolean>((resolve) => {
    const probe = connect(path)
    probe.once('connect', () => {
      probe.destroy()
      resolve(false)
    })
    probe.once('error', (error) => {
      resolve('code' in error && error.code === 'ECONNREFUSED')
    })
  })
  if (isDead) unlinkSync(path)
}

function boundUrl(server: Server, where: ListenAddress, { tls }: ListenOptions): string {
  if (where.kind === 'unix') return `unix:${where.path}`
  const bound = server.address()
  const port = typeof bound === 'object' && bound ? bound.port : where.port
  return urlOf(tls ? 'https' : 'http', where.host, port)
}

async function closeAll(
  server: Server,
  connections: Connections,
  apps: readonly App[],
  graceMs: number,
): Promise<void> {
  const closed = once(server, 'close')
  server.close()
  server.closeIdleConnections()
  const grace = setTimeout(() => connections.destroyAll(), graceMs)
  try {
    await closed
  } finally {
    clearTimeout(grace)
  }
  for (const app of apps) await app.close()
}
