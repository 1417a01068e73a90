import { isIPv4 } from 'node:net'
import { PlatformError } from '../core/errors.js'

export type ListenAddress =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string }

/** Longest path of a unix socket on Linux, without its final NUL. @see unix(7) */
const MAX_SOCKET_PATH_OCTETS = 107

/**
 * `host:port`, `[::1]:port` or `unix:/absolute/path`; port 0 is a free one.
 *
 * @throws PlatformError `LISTEN_FAILED`
 */
export function parseListenAddress(text: string): ListenAddress {
  if (text.startsWith('unix:')) {
    const path = text.slice('unix:'.length)
    if (!path.startsWith('/') || Buffer.byteLength(path) > MAX_SOCKET_PATH_OCTETS) {
      throw new PlatformError(
        'LISTEN_FAILED',
        `expected an absolute path of at most ${MAX_SOCKET_PATH_OCTETS} octets, found ${path}`,
      )
    }
    return { kind: 'unix', path }
  }
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+)):(\d{1,5})$/.exec(text)
  const port = Number(match?.[3])
  const host = match?.[1] ?? match?.[2]
  if (host === undefined || !(port <= 65_535)) {
    throw new PlatformError('LISTEN_FAILED', `expected host:port or unix:/path, found ${text}`)
  }
  return { kind: 'tcp', host, port }
}

/** Whether an address cannot be reached from another machine. A name counts only if it is `localhost`. */
export function isLoopback(host: string): boolean {
  return host === '::1' || host === 'localhost' || (isIPv4(host) && host.startsWith('127.'))
}

/** `https://[::1]:8440` */
export function urlOf(scheme: 'http' | 'https', host: string, port: number): string {
  return `${scheme}://${host.includes(':') ? `[${host}]` : host}:${port}`
}
