import { createHash } from 'node:crypto'
import type { ControlPlaneStore, HostCaller } from '../ports.js'
import { requireOwner } from './inventory.js'

export interface CertificateRequest {
  readonly vmId: string
  readonly kind: 'ek' | 'platform'
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Uint8Array
  readonly tpm: { readonly manufacturer: string; readonly model: string; readonly version: string }
}

/** Signs; the domain decides whether to. */
export type CertificateSigner = (
  request: CertificateRequest & { readonly hostId: string },
) => Promise<Uint8Array>

/**
 * Certifies the endorsement key of a virtual TPM for an attested host.
 *
 * The certificate says which VM it is for and which host asked; that the key is in a virtual TPM is that host's word,
 * which is why only attested hosts may ask, and only for VMs that no other host reported.
 */
export async function certifyVtpm(
  deps: { readonly store: ControlPlaneStore; readonly sign: CertificateSigner },
  caller: HostCaller,
  request: CertificateRequest,
  nowMs: number,
): Promise<Uint8Array> {
  const certificate = await deps.sign({ ...request, hostId: caller.hostId })
  const fingerprint = createHash('sha256').update(certificate).digest('hex')
  await deps.store.transaction(async (tx) => {
    await tx.admit(caller, nowMs)
    const vm = await tx.findVm(request.vmId)
    requireOwner(vm, caller, request.vmId)
    await tx.saveCertificate({
      fingerprint,
      vmId: request.vmId,
      kind: request.kind,
      hostId: caller.hostId,
      certificate,
      issuedAtMs: nowMs,
    })
    await tx.audit({
      atMs: nowMs,
      actor: `host:${caller.hostId}`,
      action: 'vtpm.certify',
      subject: `vm:${request.vmId}`,
      outcome: 'allowed',
      detail: { kind: request.kind, certificate: fingerprint, token: caller.tokenId },
    })
  })
  return certificate
}
