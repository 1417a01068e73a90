import type { ProviderSettings } from '../api/key-provider.js'
import type { CanonicalValue } from '../core/canonical-json.js'
import type { Secret } from '../core/secret.js'
import type { KeyState } from './domain/key-state.js'
import type { CurrentHostStatus } from './domain/release-rule.js'

/** The database, one transaction at a time. */
export interface KeyProviderStore {
  transaction<R>(work: (tx: KeyProviderTransaction) => Promise<R>): Promise<R>
}

export interface KeyProviderTransaction {
  listProviders(): Promise<readonly StoredProvider[]>
  findProvider(name: string): Promise<StoredProvider | undefined>
  /** @throws PlatformError `CONFLICT` where the name is taken */
  insertProvider(provider: NewProvider): Promise<void>
  setSettings(providerId: string, settings: ProviderSettings): Promise<void>
  addVersion(providerId: string, version: NewVersion): Promise<void>
  setVersionState(providerId: string, version: number, state: KeyState, atMs: number): Promise<void>

  readHostStatus(issuer: string, hostId: string): Promise<CurrentHostStatus | undefined>
  /** At every attestation service that knows the host. */
  listHostStatuses(
    hostId: string,
  ): Promise<readonly (CurrentHostStatus & { readonly issuer: string; readonly cluster: string })[]>
  /** Whether this one token was ended before its time. */
  isTokenRevoked(tokenId: string): Promise<boolean>
  /** False where the proof was used before. */
  useProof(thumbprint: string, id: string, expiresAtMs: number): Promise<boolean>

  audit(entry: {
    readonly atMs: number
    readonly actor: string
    readonly action: string
    readonly subject: string
    readonly outcome: 'allowed' | 'refused' | 'done'
    readonly detail: { readonly [name: string]: CanonicalValue }
  }): Promise<void>
}

export interface StoredProvider {
  readonly providerId: string
  readonly name: string
  readonly settings: ProviderSettings
  readonly createdAtMs: number
  /** By number, ascending; at most one is active. */
  readonly versions: readonly StoredVersion[]
}

export interface StoredVersion {
  readonly version: number
  readonly state: KeyState
  readonly createdAtMs: number
  /** When it came into its state, where that was after it was made. */
  readonly changedAtMs?: number
  readonly sealed: Uint8Array
}

export interface NewVersion {
  readonly version: number
  readonly state: KeyState
  readonly createdAtMs: number
  readonly sealed: Uint8Array
}

export interface NewProvider {
  readonly providerId: string
  readonly name: string
  readonly settings: ProviderSettings
  readonly createdAtMs: number
  readonly firstVersion: NewVersion
}

/** Seals and opens primary keys under the root key of the service. */
export interface Keystore {
  seal(id: PrimaryKeyId, octets: Uint8Array): Uint8Array
  /** @throws PlatformError `ROOT_KEY_OPEN` */
  open(id: PrimaryKeyId, sealed: Uint8Array): Secret
}

export interface PrimaryKeyId {
  readonly providerId: string
  readonly version: number
  readonly createdAtMs: number
}
