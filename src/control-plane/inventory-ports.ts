import type { StoredPage } from '../core/page.js'
import type { PolicyPart, Wanted } from '../storage-policies/index.js'
import type { HostStatusState } from '../store/index.js'

/** The part of the database that is about hosts, storage policies and tags. */
export interface InventoryTransaction {
  /** Hosts that an attestation service knows or knew, by name. */
  listHosts(filter: HostFilter, page: StoredPage): Promise<readonly StoredHost[]>
  findHost(hostId: string): Promise<StoredHost | undefined>
  saveHostEncryption(hostId: string, encryption: StoredEncryption): Promise<void>
  /** Notes the encryption mode that an event told of. */
  saveToldMode(hostId: string, mode: string): Promise<void>
  /** The VMs of these hosts, counted. */
  countVms(hostIds: readonly string[]): Promise<ReadonlyMap<string, VmCount>>

  /** By name; those that are built in are not among them. */
  listStoragePolicies(): Promise<readonly StoredStoragePolicy[]>
  findStoragePolicy(name: string): Promise<StoredStoragePolicy | undefined>
  /** @throws PlatformError `CONFLICT` where the name is taken */
  insertStoragePolicy(policy: StoredStoragePolicy): Promise<void>
  updateStoragePolicy(policy: StoredStoragePolicy): Promise<void>
  removeStoragePolicy(name: string): Promise<void>

  /** The policies that parts of these VMs were given. */
  listGivenPolicies(vmIds: readonly string[]): Promise<readonly GivenPolicy[]>
  /** At most `limit` parts of VMs that have this policy. */
  listPartsWithPolicy(policy: string, limit: number): Promise<readonly GivenPolicy[]>
  /** In the place of the one that the part had. */
  saveGivenPolicy(given: GivenPolicy): Promise<void>
  removeGivenPolicies(vmId: string): Promise<void>
  /** Forgets those of parts that the VM does not have any longer. */
  keepGivenPolicies(vmId: string, parts: readonly PolicyPart[]): Promise<void>

  /** Tags of these VMs, in order. */
  listTags(vmIds: readonly string[]): Promise<ReadonlyMap<string, readonly string[]>>
  addTag(vmId: string, tag: string): Promise<void>
  removeTag(vmId: string, tag: string): Promise<void>
  removeTags(vmId: string): Promise<void>
}

export interface HostFilter {
  readonly cluster?: string | undefined
  readonly attestation?: HostStatusState | undefined
}

export interface StoredHost {
  readonly hostId: string
  readonly cluster: string
  /** Of attestation services that differ, the one that trusts it; else the one that spoke last. */
  readonly attestation: HostStatusState
  readonly attestationChangedAtMs: number
  /** When it last called the control plane. */
  readonly lastSeenAtMs?: number | undefined
  /** How often its TPM was reset, as its token said then. */
  readonly resetCount?: number | undefined
  readonly encryption: StoredEncryption
  readonly toldMode?: string | undefined
}

/** What was said of the encryption of a host. */
export interface StoredEncryption {
  /** `on-demand`: the first encrypted VM turns it on. */
  readonly setting: 'on-demand' | 'on' | 'off'
  /** The reset count of a host whose encryption was on when it was turned off. */
  readonly offAtReset?: number | undefined
  readonly setBy?: string | undefined
  readonly setAtMs?: number | undefined
}

export interface VmCount {
  readonly total: number
  readonly running: number
  readonly encrypted: number
}

export interface StoredStoragePolicy extends Wanted {
  readonly name: string
  readonly createdAtMs: number
  readonly changedAtMs: number
  readonly changedBy: string
}

export interface GivenPolicy {
  readonly vmId: string
  readonly part: PolicyPart
  readonly policy: string
  /** What it asked then. */
  readonly given: Wanted
  readonly givenBy: string
  readonly givenAtMs: number
}

export interface VmFilter {
  readonly cluster?: string | undefined
  readonly hostId?: string | undefined
  /** Of its home, by name. */
  readonly provider?: string | undefined
  /** One of its keys is wrapped with this version. */
  readonly keyVersion?: number | undefined
  /** Whether its home is. */
  readonly encrypted?: boolean | undefined
  readonly state?: string | undefined
  /** This tag, or one in this folder. */
  readonly tag?: string | undefined
}
