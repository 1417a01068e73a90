import type { GuestBundle, GuestPolicy, GuestState } from '../api/guests.js'
import type { StoredPage } from '../core/page.js'

/** What the service keeps of VMs whose guests gave evidence. */
export interface GuestTransaction {
  /** By VM id. */
  listGuests(
    filter: StoredPage & { readonly hostId?: string | undefined },
  ): Promise<readonly StoredGuest[]>
  findGuest(vmId: string): Promise<StoredGuest | undefined>
  /** The VM whose virtual TPM has an endorsement key: SHA-256 of its TPMT_PUBLIC, hexadecimal. */
  findGuestByEk(ekFingerprint: string): Promise<StoredGuest | undefined>
  /** Replaces what was kept of the VM. */
  saveGuest(guest: StoredGuest): Promise<void>
  removeGuest(vmId: string): Promise<boolean>

  findGuestPolicy(cluster: string): Promise<StoredGuestPolicy | undefined>
  saveGuestPolicy(cluster: string, policy: StoredGuestPolicy): Promise<void>
}

export interface StoredGuest {
  readonly vmId: string
  /** The host that the certificate of the last evidence names. */
  readonly hostId: string
  /** Of that host. */
  readonly cluster: string
  /** SHA-256 of the TPMT_PUBLIC of the endorsement key, hexadecimal; as that of hosts. */
  readonly ekFingerprint: string
  /** Beginning of the newest certificate that was accepted: one for another host has to be newer. */
  readonly certificateIssuedAtMs: number
  readonly state: GuestState
  readonly bundle: GuestBundle
}

export interface StoredGuestPolicy {
  readonly revision: number
  readonly policy: GuestPolicy
  readonly updatedAtMs: number
}
