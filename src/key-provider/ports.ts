import type { ProviderSettings } from '../api/key-provider.js'
import type {
  ConnectionTest,
  KeyAttributesView,
  KeyServersInput,
  KeyServersView,
} from '../api/key-servers.js'
import type { Secret } from '../core/secret.js'
import type { KeptKey } from '../envelope/index.js'
import type { KeyPlace, SealedKeyServers } from '../key-servers/index.js'
import type { AuditEntry } from '../store/index.js'
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
  setKeyServers(providerId: string, servers: SealedKeyServers): Promise<void>
  /** What versions are sealed by from now on, and what is stored of each that was sealed anew. */
  setTpmBinding(
    providerId: string,
    pcrs: readonly number[],
    versions: readonly { readonly version: number; readonly sealed: Uint8Array }[],
  ): Promise<void>
  addVersion(providerId: string, version: NewVersion): Promise<void>
  setAttributes(providerId: string, version: number, attributes: KeyAttributesView): Promise<void>
  setVersionState(providerId: string, version: number, state: KeyState, atMs: number): Promise<void>
  /** When the version is to be destroyed; nothing: it is not. */
  setDestruction(providerId: string, version: number, atMs: number | undefined): Promise<void>
  /** Leaves nothing of the key. */
  eraseKey(providerId: string, version: number): Promise<void>

  /** Notes that wrapped keys are there; one that is noted already is left as it is. */
  addReferences(providerId: string, references: readonly Reference[]): Promise<void>
  removeReferences(providerId: string, references: readonly Reference[]): Promise<void>
  /** How many wrapped keys are there of each version that has any. */
  countReferences(providerId: string): Promise<ReadonlyMap<number, number>>

  readHostStatus(issuer: string, hostId: string): Promise<CurrentHostStatus | undefined>
  /** At every attestation service that knows the host. */
  listHostStatuses(
    hostId: string,
  ): Promise<readonly (CurrentHostStatus & { readonly issuer: string; readonly cluster: string })[]>
  /** Whether this one token was ended before its time. */
  isTokenRevoked(tokenId: string): Promise<boolean>
  /** False where the proof was used before. */
  useProof(thumbprint: string, id: string, expiresAtMs: number): Promise<boolean>

  audit(entry: Omit<AuditEntry, 'chain'>): Promise<void>
}

/** That a wrapped key is there, by the random identifier in its header. */
export interface Reference {
  readonly dekId: string
  readonly version: number
}

/**
 * What was destroyed, kept outside of the database: a copy of the database from before does not bring it back.
 */
export interface Tombstones {
  list(): readonly Tombstone[]
  /** On the disk before this returns. */
  add(tombstone: Tombstone): void
}

/** The time of making is part of which key it is: a restored database may have given the number to another key. */
export interface Tombstone {
  readonly providerId: string
  readonly version: number
  readonly createdAtMs: number
  readonly destroyedAtMs: number
}

export interface StoredProvider {
  readonly providerId: string
  readonly name: string
  readonly settings: ProviderSettings
  readonly backend: StoredBackend
  readonly createdAtMs: number
  /** By number, ascending; at most one is active. */
  readonly versions: readonly StoredVersion[]
}

/** Where primary keys are: in the keystore, in key servers, or behind the TPM of the authority. */
export type StoredBackend = EmbeddedBackend | KeyServerBackend | TpmBackend

/** A primary key that is not opened inside a transaction: who has it may be slow. */
export type DistantBackend = KeyServerBackend | TpmBackend

export interface EmbeddedBackend {
  readonly kind: 'embedded'
}

export interface KeyServerBackend {
  readonly kind: 'kmip'
  readonly place: KeyPlace
  readonly servers: SealedKeyServers
}

export interface TpmBackend {
  readonly kind: 'tpm'
  /** That the next version is bound to (SHA-256). Each version has its own with it. */
  readonly pcrs: readonly number[]
}

export interface StoredVersion {
  readonly version: number
  readonly state: KeyState
  readonly createdAtMs: number
  /** When it came into its state, where that was after it was made. */
  readonly changedAtMs?: number
  /** When it is to be destroyed. Until then it does nothing, so that who still needs it is noticed. */
  readonly destroyAtMs?: number
  /**
   * The primary key; where it is in a key server, which one it is there; behind the TPM, what that unseals. No octets:
   * nothing is left of it.
   */
  readonly sealed: Uint8Array
  readonly attributes?: KeyAttributesView
}

export interface NewVersion {
  readonly version: number
  readonly state: KeyState
  readonly createdAtMs: number
  readonly sealed: Uint8Array
  readonly attributes: KeyAttributesView
}

export interface NewProvider {
  readonly providerId: string
  readonly name: string
  readonly settings: ProviderSettings
  readonly backend: StoredBackend
  readonly createdAtMs: number
  readonly firstVersion: NewVersion
}

/** Seals and opens primary keys under the root key of the service. */
export interface Keystore {
  seal(id: PrimaryKeyId, octets: Uint8Array): Uint8Array
  /** @throws PlatformError `ROOT_KEY_OPEN` */
  open(id: PrimaryKeyId, sealed: Uint8Array): Secret
}

/**
 * Primary keys in key servers. Every method may take as long as key servers do, and throws `KmipError`: none is called
 * inside a transaction.
 */
export interface KeyServerKeys {
  /**
   * Settings that were tested, for the store.
   *
   * @param options.before settings that they replace, for secrets that are left out
   * @throws PlatformError `KEY_SERVERS`, `KEY_SERVERS_TEST`
   */
  accept(
    input: KeyServersInput,
    options: {
      readonly providerId: string
      readonly place: KeyPlace
      readonly before?: SealedKeyServers
      /** Also where a key server does not answer. */
      readonly force: boolean
      readonly nowMs: number
    },
  ): Promise<SealedKeyServers>
  test(provider: KeyServerProvider, nowMs: number): Promise<ConnectionTest>
  view(provider: KeyServerProvider): KeyServersView
  /** Makes a primary key in the key servers. */
  make(
    provider: KeyServerProvider,
    version: { readonly version: number; readonly createdAtMs: number },
  ): Promise<MadeKey>
  /** Gives the key attributes as far as the key server takes them; never throws for what it does. */
  describe(
    provider: KeyServerProvider,
    version: StoredKey,
    attributes: KeyAttributesView,
  ): Promise<readonly string[]>
  /** Destroys a key for ever; that it is gone already is well. @throws KmipError */
  destroy(provider: KeyServerProvider, version: StoredKey): Promise<void>
  /** Destroys a key that was made and is not used. Never throws for what the key server does. */
  discard(provider: KeyServerProvider, version: StoredKey): Promise<void>
  /** Whether these key servers have the key, and it does what it has to. @throws KmipError */
  requireUsable(provider: KeyServerProvider, version: StoredKey): Promise<void>
  /** The primary key; the caller disposes of it. For keys that may be fetched. */
  fetch(provider: KeyServerProvider, version: StoredKey): Promise<Secret>
  /** A random key, and the same as the primary key encrypted it. For keys that are kept in the key server. */
  newWrappingKey(
    provider: KeyServerProvider,
    version: StoredKey,
  ): Promise<{ readonly secret: Secret; readonly kek: KeptKey }>
  openWrappingKey(provider: KeyServerProvider, version: StoredKey, kek: KeptKey): Promise<Secret>
}

/**
 * Primary keys behind the TPM of the authority. Each method may take as long as a TPM does and none is called inside a
 * transaction; they throw `TPM_UNREACHABLE` and what else a TPM says.
 */
export interface TpmKeys {
  /** What to store of a primary key that opens while these PCRs are as they are now. */
  seal(id: PrimaryKeyId, pcrs: readonly number[], octets: Uint8Array): Promise<Uint8Array>
  /**
   * The primary key, unsealed when it is first needed and then from memory; the caller disposes of it.
   *
   * @throws PlatformError `KEY_TPM_PCRS` naming the PCRs that differ, `KEY_TPM_OTHER`, `ROOT_KEY_OPEN`
   */
  open(id: PrimaryKeyId, sealed: Uint8Array): Promise<Secret>
  /** Unseals it by the TPM, whatever is in memory. Throws as `open` does. */
  test(id: PrimaryKeyId, sealed: Uint8Array): Promise<void>
  /** Wipes it from memory. */
  forget(id: PrimaryKeyId): Promise<void>
}

/** What of a provider says where its primary key is. */
export interface KeyServerProvider {
  readonly providerId: string
  readonly backend: KeyServerBackend
}

export type StoredKey = Pick<StoredVersion, 'version' | 'createdAtMs' | 'sealed'>

export interface MadeKey {
  readonly sealed: Uint8Array
}

export interface PrimaryKeyId {
  readonly providerId: string
  readonly version: number
  readonly createdAtMs: number
}
