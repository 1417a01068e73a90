import type { VtpmStateCause } from '../api/vtpm-states.js'

/** One page of a list. */
export interface Page {
  readonly after?: string | undefined
  readonly limit: number
}

/** A state of a virtual TPM that a host told of. */
export interface StoredVtpmState {
  readonly vmId: string
  readonly generation: number
  /** SHA-256 of the state file, in hexadecimal. */
  readonly digest: string
  readonly cause: VtpmStateCause
  readonly hostId: string
  readonly notedAtMs: number
}

export interface StoredCertificate {
  /** SHA-256 of the certificate, in hexadecimal. */
  readonly fingerprint: string
  readonly vmId: string
  readonly kind: 'ek' | 'platform'
  readonly hostId: string
  /** DER */
  readonly certificate: Uint8Array
  readonly issuedAtMs: number
}

/** Virtual TPMs in the database. */
export interface VtpmTransaction {
  newestVtpmState(vmId: string): Promise<StoredVtpmState | undefined>
  /** The newest state of the VM that has this digest. */
  findVtpmState(vmId: string, digest: string): Promise<StoredVtpmState | undefined>
  /** Keeps a thousand states of a VM, and forgets older ones. */
  addVtpmState(state: StoredVtpmState): Promise<void>
  /** The newest first; pages go on after a generation. */
  listVtpmStates(vmId: string, page: Page): Promise<readonly StoredVtpmState[]>
  removeVtpmStates(vmId: string): Promise<void>

  saveCertificate(certificate: StoredCertificate & { readonly keyDigest: string }): Promise<void>
  /** The host that the newest certificate of a virtual TPM of this VM was issued for. */
  findVtpmHost(vmId: string): Promise<string | undefined>
  /** The VM that a key was certified for: SHA-256 of its SubjectPublicKeyInfo, hexadecimal. */
  findVmOfVtpmKey(keyDigest: string): Promise<string | undefined>
  /** By fingerprint; pages go on after one. */
  listCertificates(
    filter: { readonly vmId?: string | undefined },
    page: Page,
  ): Promise<readonly StoredCertificate[]>
}
