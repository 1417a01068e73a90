import type { DeliveryState, HostKeyKind } from '../api/host-keys.js'
import type { ConnectionTest, KeyServersInput, KeyServersView } from '../api/key-servers.js'
import type { PlatformError } from '../core/errors.js'
import type { Secret } from '../core/secret.js'

/** The part of the database that is about keys of hosts. */
export interface HostKeyTransaction {
  listKeyProviders(): Promise<readonly StoredKeyProvider[]>
  findKeyProvider(name: string): Promise<StoredKeyProvider | undefined>
  /** @throws PlatformError `CONFLICT` where the name or the identity is taken */
  insertKeyProvider(provider: StoredKeyProvider): Promise<void>
  updateKeyProvider(providerId: string, change: KeyProviderChange): Promise<void>
  /** With its keys and deliveries. */
  removeKeyProvider(providerId: string): Promise<void>

  /** By version; all of them where no page is given. */
  listHostKeys(
    providerId: string,
    page?: { readonly after: number; readonly limit: number | undefined },
  ): Promise<readonly StoredHostKey[]>
  countHostKeys(providerId: string): Promise<number>
  insertHostKey(key: StoredHostKey): Promise<void>
  findKeyOfHost(
    providerId: string,
    cluster: string,
    hardwareId: string,
  ): Promise<StoredHostKey | undefined>
  newestVersion(providerId: string): Promise<number>
  /** Keys for VMs whose key server was not told yet what they are for; at most 100. */
  listUndescribedKeys(): Promise<readonly StoredHostKey[]>
  markDescribed(providerId: string, version: number, atMs: number): Promise<void>
  /** All versions up to this one may wrap. */
  makeUsable(providerId: string, upTo: number, atMs: number): Promise<void>
  /** Sealed keys are gone; what else is known of them stays. */
  eraseSealedKeys(providerId: string): Promise<void>

  /** By version and host; all of them where no page is given. */
  listDeliveries(
    providerId: string,
    page?: {
      readonly behind: Pick<StoredDelivery, 'version' | 'hostId'>
      readonly limit: number | undefined
    },
  ): Promise<readonly StoredDelivery[]>
  listDeliveriesTo(hostId: string): Promise<readonly StoredDelivery[]>
  countDeliveries(providerId: string): Promise<Readonly<Record<string, number>>>
  saveDelivery(delivery: StoredDelivery): Promise<void>
  removeDelivery(delivery: Omit<DeliveryId, 'atMs'>): Promise<void>
  /** Records as pending what hosts are to get and nothing is known of; at most 1000 in one call. None where encryption is off. */
  addPendingDeliveries(atMs: number): Promise<void>
  /** Deliveries that are pending or delivered since before a moment. */
  listOverdueDeliveries(beforeMs: number): Promise<readonly StoredDelivery[]>

  listDefaultProviders(): Promise<readonly StoredDefaultProvider[]>
  /** In the place of what was set there before. */
  saveDefaultProvider(set: StoredDefaultProvider): Promise<void>
  /** @param cluster undefined for the site */
  removeDefaultProvider(cluster: string | undefined): Promise<void>

  /** The number of the last change that hosts have to learn of. */
  hostKeyRevision(): Promise<number>
  raiseHostKeyRevision(): Promise<void>
  /** Whether any attestation service still knows the host and has not revoked it. */
  isHostKnown(hostId: string): Promise<boolean>
}

export interface StoredDefaultProvider {
  /** Undefined: of the site. */
  readonly cluster: string | undefined
  readonly provider: string
  readonly setBy: string
  readonly setAtMs: number
}

export interface StoredKeyProvider {
  readonly providerId: string
  readonly name: string
  readonly kind: HostKeyKind
  readonly state: 'active' | 'deleting'
  readonly tpmRequired: boolean
  readonly clusters: readonly string[]
  readonly createdAtMs: number
  readonly backupMaxAgeDays?: number | undefined
  readonly pendingBackup?: PendingBackup | undefined
  readonly backedUpAtMs?: number | undefined
  readonly warnedAtMs?: number | undefined
  readonly keyServers?: StoredKeyServers | undefined
}

export type KeyProviderChange = Partial<
  Pick<
    StoredKeyProvider,
    'state' | 'clusters' | 'pendingBackup' | 'backedUpAtMs' | 'warnedAtMs' | 'keyServers'
  >
>

export interface PendingBackup {
  /** SHA-256 of the file, hexadecimal. */
  readonly digest: string
  /** The newest version in it. */
  readonly version: number
}

/** How a key server is reached: what is no secret, and what is, sealed. */
export interface StoredKeyServers {
  readonly settings: string
  readonly sealed: Uint8Array
}

export interface KeyUse {
  readonly kind: 'vm' | 'host'
  /** VM id, or the hardware UUID of the host. */
  readonly id: string
}

export interface StoredHostKey {
  readonly providerId: string
  readonly version: number
  readonly createdAtMs: number
  /** Absent while a native version was not backed up. */
  readonly usableAtMs?: number | undefined
  /** Native: the key derivation key, sealed; absent once it was erased. */
  readonly sealed?: Uint8Array | undefined
  /** Standard: what the key server calls the key. */
  readonly keyId?: string | undefined
  /** Standard: the cluster whose hosts get it. */
  readonly cluster?: string | undefined
  readonly use?: KeyUse | undefined
  /** Standard: when the key server was told what the key is for. */
  readonly describedAtMs?: number | undefined
}

interface DeliveryId {
  readonly providerId: string
  readonly version: number
  readonly hostId: string
}

export interface StoredDelivery extends DeliveryId {
  readonly state: DeliveryState
  readonly code?: string | undefined
  readonly atMs: number
}

/** Keys of native providers under the root key of the service. */
export interface KdkSeal {
  seal(id: KdkId, octets: Uint8Array): Uint8Array
  /** @throws PlatformError `ROOT_KEY_OPEN` */
  open(id: KdkId, sealed: Uint8Array): Secret
}

export interface KdkId {
  readonly providerId: string
  readonly version: number
}

/** Keys where they are: under the root key, or at a key server. Never throws: what went wrong is in the result. */
export interface KeySource {
  /** The keys belong to the caller, who disposes of them. One result for each key, in their order. */
  fetch(
    provider: StoredKeyProvider,
    keys: readonly StoredHostKey[],
  ): Promise<readonly (Secret | PlatformError)[]>
}

/** Keys of standard providers, which key servers have. */
export interface KeyServers extends KeySource {
  /**
   * Key servers as an administrator gives them, tested and sealed.
   *
   * @throws PlatformError `KEY_SERVERS`, `KEY_SERVERS_TEST`
   */
  accept(
    providerId: string,
    input: KeyServersInput,
    options: {
      readonly before: StoredKeyServers | undefined
      readonly nowMs: number
      readonly force: boolean
    },
  ): Promise<StoredKeyServers>
  test(provider: StoredKeyProvider, nowMs: number): Promise<ConnectionTest>
  view(provider: StoredKeyProvider): KeyServersView
  /** A new key, active on the server. The secret belongs to the caller. @throws PlatformError `KMS_…` */
  make(provider: StoredKeyProvider): Promise<NewKek>
  /** Says what the key is used for. Never throws for what the server does: `refused` and `code` say it. */
  describe(
    provider: StoredKeyProvider,
    keyId: string,
    use: { readonly kind: KeyUse['kind']; readonly name: string; readonly identifier: string },
  ): Promise<RefusedAttributes>
  /** Destroys a key that was made and is not used. What cannot be destroyed is logged. */
  discard(provider: StoredKeyProvider, keyId: string): Promise<void>
}

export interface RefusedAttributes {
  readonly refused: readonly string[]
  readonly code?: string
}

export interface NewKek extends RefusedAttributes {
  readonly keyId: string
  readonly secret: Secret
}

/** Tells waiting hosts of changes. */
export interface ChangeSignal {
  /** Something was committed that hosts have to learn of. */
  raise(): void
}

/** Errors of keys, counted. */
export type KeyErrorKind = 'not-added' | 'missing' | 'server-unreachable'
export interface KeyErrorCounter {
  count(kind: KeyErrorKind): void
}
