import { connect, createServer, type Server, type Socket } from 'node:net'
import { messageOf, PlatformError } from '../../core/errors.js'
import { live } from './live-channel.js'

const CONNECT_TIMEOUT_MS = 10_000

/** `host:port`, `[address]:port`, or `unix:/path`. */
export type LiveAddress =
  | { readonly path: string }
  | { readonly host: string; readonly port: number }

/** @throws PlatformError `REQUEST_INVALID` */
export function parseLiveAddress(text: string): LiveAddress {
  const path = /^unix:(\/.{1,100})$/.exec(text)?.[1]
  if (path !== undefined) return { path }
  const [, bracketed, plain, digits] =
    /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+)):([0-9]{1,5})$/.exec(text) ?? []
  const host = bracketed ?? plain
  const port = Number(digits)
  if (host === undefined || port > 65_535) {
    throw new PlatformError('REQUEST_INVALID', `expected host:port or unix:/path, found ${text}`)
  }
  return { host, port }
}

/** @throws PlatformError `VM_LIVE` when nobody listens there */
export async function connectTo(address: LiveAddress): Promise<Socket> {
  const socket = connect({ ...address, timeout: CONNECT_TIMEOUT_MS })
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve)
      socket.once('error', reject)
      socket.once('timeout', () => reject(new Error('no answer')))
    })
  } catch (cause) {
    socket.destroy()
    throw live(`the other host cannot be reached: ${messageOf(cause)}`, cause)
  }
  return socket
}

/** A door that one connection comes through. @throws PlatformError `VM_LIVE` when the address cannot be had */
export async function listenAt(address: LiveAddress): Promise<Server> {
  const server = createServer({ pauseOnConnect: true })
  server.maxConnections = 1
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(address, resolve)
    })
  } catch (cause) {
    throw live(`cannot listen: ${messageOf(cause)}`, cause)
  }
  return server
}

/** The first connection. @throws the reason of the signal; PlatformError `VM_LIVE` when nobody comes in time */
export async function acceptOne(
  server: Server,
  options: { readonly timeoutMs: number; readonly signal: AbortSignal | undefined },
): Promise<Socket> {
  const { timeoutMs, signal } = options
  signal?.throwIfAborted()
  let timer: NodeJS.Timeout | undefined
  let onAbort: (() => void) | undefined
  try {
    return await new Promise<Socket>((resolve, reject) => {
      onAbort = () => reject(signal?.reason)
      signal?.addEventListener('abort', onAbort, { once: true })
      timer = setTimeout(() => reject(live(`nobody came in ${timeoutMs} ms`)), timeoutMs)
      server.once('connection', resolve)
    })
  } finally {
    clearTimeout(timer)
    if (onAbort) signal?.removeEventListener('abort', onAbort)
    server.close()
  }
}
