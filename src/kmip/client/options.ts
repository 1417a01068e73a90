import { type Clock, systemClock } from '../../core/clock.js'
import type { Secret } from '../../core/secret.js'
import { TTLV_LIMITS, type TtlvLimits } from '../decode.js'
import { type ProtocolVersion, VERSIONS } from '../version.js'
import type { BreakerState } from './breaker.js'

export interface KmipServerAddress {
  /** What events and errors call it. */
  readonly name: string
  readonly host: string
  readonly port: number
  /** The name in its certificate, where it is another than the host. */
  readonly serverName?: string
  /** Also the suites of old key servers: CBC, and RSA without forward secrecy. */
  readonly insecureLegacyTls?: boolean
  /**
   * SHA-256 of certificates that the server may show, in hexadecimal; several while one is replaced by another. In
   * addition to the check of chain and name.
   */
  readonly pins?: readonly string[]
}

/** PEM texts. The key is a secret of the process; TLS needs it for every connection. */
export interface KmipTls {
  readonly authorities: string
  readonly certificate: string
  readonly privateKey: string
}

export interface KmipTimeouts {
  /** TCP and TLS together. */
  readonly connectMs: number
  /** From the request to the whole response. */
  readonly requestMs: number
  /** One call, on all servers that it tries. */
  readonly overallMs: number
}

export interface KmipPool {
  /** Connections to one server. */
  readonly connections: number
  /** A connection that was idle for longer is closed: servers drop them from 30 s. */
  readonly idleMs: number
  /** Requests under way on one connection. More than one only where the server is known to permit it. */
  readonly inFlight: number
}

export interface KmipClientOptions {
  /** One replicated cluster, in order of preference. */
  readonly servers: readonly KmipServerAddress[]
  readonly tls: KmipTls
  /** What may be spoken, best first; the default is 2.1 to 1.0. */
  readonly versions?: readonly ProtocolVersion[]
  readonly credentials?: { readonly username: string; readonly password?: Secret }
  readonly timeouts?: Partial<KmipTimeouts>
  readonly pool?: Partial<KmipPool>
  readonly limits?: Partial<TtlvLimits>
  readonly events?: (event: KmipClientEvent) => void
  readonly clock?: Clock
  /** A number from 0 to below 1; spreads waits, no secret. */
  readonly random?: () => number
}

/** What operators want to know. Holds no secret and no name of a key's owner. */
export type KmipClientEvent =
  | { readonly event: 'kmip.server.failed'; readonly server: string; readonly code: string }
  | { readonly event: 'kmip.server.recovered'; readonly server: string }
  | { readonly event: 'kmip.version.negotiated'; readonly server: string; readonly version: string }
  | { readonly event: 'kmip.create.recovered'; readonly server: string; readonly keyId: string }
  | {
      readonly event: 'kmip.attributes.refused'
      readonly keyId: string
      readonly attributes: readonly string[]
      readonly code: string
    }

export interface KmipServerHealth {
  readonly server: string
  readonly state: BreakerState
  readonly connections: number
  readonly version: string | undefined
  readonly lastError: string | undefined
}

/** The options with a value for everything that has a default. */
export interface Settings {
  readonly tls: KmipTls
  readonly versions: readonly ProtocolVersion[]
  readonly credentials: KmipClientOptions['credentials']
  readonly timeouts: KmipTimeouts
  readonly pool: KmipPool
  readonly limits: TtlvLimits
  readonly emit: (event: KmipClientEvent) => void
  readonly clock: Clock
  readonly random: () => number
}

export function settingsOf(options: KmipClientOptions): Settings {
  return {
    tls: options.tls,
    versions: options.versions ?? VERSIONS,
    credentials: options.credentials,
    timeouts: { connectMs: 5_000, requestMs: 15_000, overallMs: 30_000, ...options.timeouts },
    pool: { connections: 4, idleMs: 25_000, inFlight: 1, ...options.pool },
    limits: { ...TTLV_LIMITS, ...options.limits },
    emit: options.events ?? (() => undefined),
    clock: options.clock ?? systemClock,
    random: options.random ?? Math.random,
  }
}
