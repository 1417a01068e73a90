import type { VtpmStateCause } from '../api/vtpm-states.js'
import type { StoredPage } from '../core/page.js'
import type { RevocationReason, RevokedCertificate } from '../pki/index.js'
import type { PublishedList } from '../store/index.js'

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
  /** SHA-256 of the SubjectPublicKeyInfo that it is for, hexadecimal. */
  readonly keyDigest: string
  readonly hostId: string
  /** DER */
  readonly certificate: Uint8Array
  readonly issuedAtMs: number
  /** Of one that was taken back. */
  readonly revocation?: { readonly reason: RevocationReason; readonly revokedAtMs: number }
}

export interface CertificateFilter {
  readonly vmId?: string | undefined
  /** Whether they were taken back. */
  readonly revoked?: boolean | undefined
}

export interface StoredRevocation extends RevokedCertificate {
  /** Of the certificate. */
  readonly fingerprint: string
  readonly notAfterMs: number
}

/** Virtual TPMs in the database. */
export interface VtpmTransaction {
  newestVtpmState(vmId: string): Promise<StoredVtpmState | undefined>
  /** The newest state of the VM that has this digest. */
  findVtpmState(vmId: string, digest: string): Promise<StoredVtpmState | undefined>
  /** Keeps a thousand states of a VM, and forgets older ones. */
  addVtpmState(state: StoredVtpmState): Promise<void>
  /** The newest first; pages go on after a generation. */
  listVtpmStates(vmId: string, page: StoredPage): Promise<readonly StoredVtpmState[]>
  removeVtpmStates(vmId: string): Promise<void>

  saveCertificate(certificate: StoredCertificate): Promise<void>
  /** The host that the newest certificate of a virtual TPM of this VM was issued for. */
  findVtpmHost(vmId: string): Promise<string | undefined>
  /** The VM that a key was certified for: SHA-256 of its SubjectPublicKeyInfo, hexadecimal. */
  findVmOfVtpmKey(keyDigest: string): Promise<string | undefined>
  /** By fingerprint; pages go on after one. */
  listCertificates(
    filter: CertificateFilter,
    page: StoredPage,
  ): Promise<readonly StoredCertificate[]>
  findCertificate(fingerprint: string): Promise<StoredCertificate | undefined>
  /** All that were issued for a VM. */
  certificatesOf(vmId: string): Promise<readonly StoredCertificate[]>

  /** In the place of another reason that there may be; the moment stays that of the first. */
  saveRevocation(revocation: StoredRevocation): Promise<void>
  /** Those of certificates that end after this moment, by fingerprint. */
  listRevocations(endsAfterMs: number): Promise<readonly RevokedCertificate[]>
  /** Whether a certificate of this key was taken back since the key is compromised. */
  isKeyCompromised(keyDigest: string): Promise<boolean>
  findPublishedList(issuerFingerprint: string): Promise<PublishedList | undefined>
  publishList(list: PublishedList): Promise<void>
}
