import type { EventView, VmReport } from '../api/control-plane.js'
import type { CanonicalValue } from '../core/canonical-json.js'
import type { StoredPage } from '../core/page.js'
import type { Caller } from '../http/index.js'
import type { Place, Rights } from '../people/index.js'
import type { AuditEntry } from '../store/index.js'
import type { HostKeyTransaction } from './host-key-ports.js'
import type { InventoryTransaction, VmFilter } from './inventory-ports.js'
import type { TaskTransaction } from './task-ports.js'
import type { VtpmTransaction } from './vtpm-ports.js'

/** The database, one transaction at a time. */
export interface ControlPlaneStore {
  transaction<R>(work: (tx: ControlPlaneTransaction) => Promise<R>): Promise<R>
}

export interface ControlPlaneTransaction
  extends HostKeyTransaction,
    InventoryTransaction,
    TaskTransaction,
    VtpmTransaction {
  /**
   * What the caller of a request may do, as of this transaction. An act on an object asks for it before it does anything:
   * `(await tx.rightsOf(act)).require(['VirtualMachine.Interact.PowerOn'], await tx.placeOfVm(vmId))`.
   */
  rightsOf(act: { readonly caller: Caller; readonly nowMs: number }): Promise<Rights>
  /** Where a VM is; a VM that is not known is covered by permissions on the site alone. */
  placeOfVm(vmId: string): Promise<Place>
  /** The places of those VMs that are known, by id. */
  placesOfVms(vmIds: readonly string[]): Promise<ReadonlyMap<string, Place>>

  listClusters(): Promise<readonly StoredCluster[]>
  /** @throws PlatformError `CONFLICT` where the name is taken */
  insertCluster(cluster: StoredCluster): Promise<void>

  findVm(vmId: string): Promise<StoredVm | undefined>
  /** By id; all of them where no page is given. */
  listVms(filter: VmFilter, page?: StoredPage): Promise<readonly StoredVm[]>
  saveVm(vm: StoredVm): Promise<void>
  removeVm(vmId: string): Promise<void>

  findHandOver(vmId: string): Promise<StoredHandOver | undefined>
  listHandOvers(): Promise<readonly StoredHandOver[]>
  /** In the place of one that there may be. */
  saveHandOver(handOver: StoredHandOver): Promise<void>
  removeHandOver(vmId: string): Promise<void>

  addEvent(event: NewEvent): Promise<void>
  listEvents(afterSeq: number, limit: number): Promise<readonly EventView[]>
  newestEvent(): Promise<number>

  /**
   * Accepts one host request: records the proof as used, reads the status of the host, and notes that it was here, all in
   * this transaction.
   *
   * @throws PlatformError `DPOP_REPLAYED`, or `HOST_STATUS` where the host is not trusted now or its epochs moved on
   */
  admit(caller: HostCaller, nowMs: number): Promise<void>
  /**
   * The second half of `admit`, for a request that goes on in a transaction of its own.
   *
   * @throws PlatformError `TOKEN_REVOKED`, `HOST_STATUS`
   */
  requireTrusted(caller: HostCaller): Promise<void>

  audit(entry: Omit<AuditEntry, 'chain'>): Promise<void>
}

/** An attested host as its token and proof name it. */
export interface HostCaller {
  readonly issuer: string
  readonly hostId: string
  readonly cluster: string
  readonly hostEpoch: number
  readonly policyEpoch: number
  readonly tokenId: string
  /** How often the TPM of the host was reset, as was attested: it rises with each boot. */
  readonly resetCount: number
  readonly proof: { readonly thumbprint: string; readonly id: string; readonly expiresAtMs: number }
}

export interface StoredCluster {
  readonly name: string
  readonly createdAtMs: number
}

export interface StoredVm {
  readonly vmId: string
  readonly hostId: string
  readonly cluster: string
  readonly report: VmReport
  readonly reportedAtMs: number
}

/** A VM that its host gives to whoever shows the ticket. */
export interface StoredHandOver {
  readonly vmId: string
  readonly exportId: string
  readonly hostId: string
  readonly cluster: string
  /** SHA-256 of the ticket. */
  readonly ticketDigest: Uint8Array
  readonly offeredAtMs: number
}

export interface NewEvent {
  readonly atMs: number
  readonly severity: EventView['severity']
  readonly type: string
  readonly subject: string
  readonly message: string
  /** For programs; never a secret. */
  readonly detail?: { readonly [name: string]: CanonicalValue }
}
