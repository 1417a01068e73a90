import type { VmReport } from '../../api/control-plane.js'
import type { Assurance, KeyContext, Purpose } from '../../api/key-provider.js'
import type { VtpmStateNote } from '../../api/vtpm-states.js'
import type { Secret } from '../../core/secret.js'
import type { CertifiedTpm } from '../../pki/index.js'
import type { WitnessAnswer } from './vtpm-standing.js'

interface KeyToWrap {
  readonly purpose: Purpose
  readonly context: KeyContext
  /** Lent for the call; the caller disposes of it. */
  readonly dek: Secret
}

export interface KeyToUnwrap {
  readonly wrapped: string
  readonly purpose: Purpose
  readonly context: KeyContext
}

/**
 * The key provider, as far as VMs need it. Calls but `release` are all or nothing: they throw the `PlatformError` of the first
 * item that failed, with the code that the provider gave.
 */
export interface KeyClient {
  /** The wrapped keys as text, in the order of the items. */
  wrap(provider: string, items: readonly KeyToWrap[]): Promise<readonly string[]>
  /** The keys, in the order of the items. They belong to the caller, who disposes of them. */
  unwrap(
    provider: string,
    items: readonly KeyToUnwrap[],
    assurance: Assurance,
  ): Promise<readonly Secret[]>
  /** The same keys wrapped with the newest key of the provider; one that is already comes back as it is. */
  rewrap(provider: string, items: readonly KeyToUnwrap[]): Promise<readonly string[]>
  /** Says that wrapped keys are not needed any more. What the provider has nothing to do with is not told of. */
  release(provider: string, items: readonly KeyToUnwrap[]): Promise<void>
}

interface VtpmCertificateRequest {
  readonly vmId: string
  readonly kind: 'ek' | 'platform'
  /** SubjectPublicKeyInfo of the endorsement key, DER; also for the platform certificate. */
  readonly publicKeySpki: Uint8Array
  /** As swtpm describes itself: `{ manufacturer: 'id:00001014', model: 'swtpm', version: 'id:20191023' }`. */
  readonly tpm: CertifiedTpm
}

/** The authority that certifies virtual TPMs; its key never is on a host. */
export interface VtpmCertifier {
  /** The certificate, DER. */
  certify(request: VtpmCertificateRequest): Promise<Uint8Array>
  /** Certificate of the authority itself, PEM. */
  authorityPem(): Promise<string>
}

export interface InventoryVm extends Omit<VmReport, 'key' | 'keys'> {
  readonly vmId: string
  /** Its wrapped keys, which say what they are wrapped with. */
  readonly keys: readonly { readonly object: string; readonly wrapped: string }[]
}

/** Where VMs are told of. A failure is logged and never fails the operation on the VM: report again later. */
export interface Inventory {
  /** @throws PlatformError `VM_HAND_OVER` for a VM of another host */
  report(vm: InventoryVm): Promise<void>
  forget(vmId: string): Promise<void>
  /** Who this host is. */
  place(): Promise<{ readonly hostId: string; readonly cluster: string }>
  /** Hands a VM of this host over to the host that shows the ticket with this SHA-256. Failures count. */
  offer(
    vmId: string,
    offer: { readonly exportId: string; readonly ticketDigest: Uint8Array },
  ): Promise<void>
  /** Ends a hand-over that no host took. @throws PlatformError `VM_HAND_OVER` */
  withdraw(vmId: string): Promise<void>
  /** Makes a VM one of this host. @throws PlatformError `VM_HAND_OVER` */
  take(
    vm: InventoryVm,
    by: { readonly exportId: string; readonly ticket: Uint8Array },
  ): Promise<void>
}

/** Where the states of virtual TPMs are known in their order, out of reach of whoever can write to the directory of a VM. */
export interface VtpmWitness {
  ask(vmId: string, digest: string): Promise<WitnessAnswer>
  /** Tells of the state that is the one to start from now. */
  note(vmId: string, note: VtpmStateNote): Promise<void>
  /** Tells that a state was refused, and why. */
  complain(
    vmId: string,
    problem: { readonly code: string; readonly message: string },
  ): Promise<void>
}

/** Called before each step and within it. `percent` is of the whole operation and never falls; `octets` are copied. */
export type OnProgress = (
  step: string,
  percent: number,
  octets?: { readonly done: number; readonly total: number },
) => void
