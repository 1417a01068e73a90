import { createHash } from 'node:crypto'
import { PlatformError } from '../../core/errors.js'
import type { CertifiedTpm } from '../../pki/index.js'
import type { ControlPlaneStore, ControlPlaneTransaction, HostCaller } from '../ports.js'
import { requireOwner } from './inventory.js'

export interface CertificateRequest {
  readonly vmId: string
  readonly kind: 'ek' | 'platform'
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Uint8Array
  readonly tpm: CertifiedTpm
}

/** Signs; the domain decides whether to. */
export type CertificateSigner = (
  request: CertificateRequest & { readonly hostId: string },
) => Promise<Uint8Array>

/**
 * Certifies the endorsement key of a virtual TPM for an attested host.
 *
 * The certificate says which VM it is for and which host asked; that the key is in a virtual TPM is that host's word,
 * which is why only attested hosts may ask, and only for VMs that no other host has.
 *
 * @throws PlatformError `FORBIDDEN` for a VM of another host, and for a key that was certified for another VM: guests prove
 *   by these certificates where they run; `VTPM_KEY_COMPROMISED`
 */
export async function certifyVtpm(
  deps: { readonly store: ControlPlaneStore; readonly sign: CertificateSigner },
  caller: HostCaller,
  request: CertificateRequest,
  nowMs: number,
): Promise<Uint8Array> {
  const certificate = await deps.sign({ ...request, hostId: caller.hostId })
  const fingerprint = createHash('sha256').update(certificate).digest('hex')
  const keyDigest = createHash('sha256').update(request.publicKey).digest('hex')
  await deps.store.transaction(async (tx) => {
    await tx.admit(caller, nowMs)
    await requireHolder(tx, caller, { vmId: request.vmId, keyDigest })
    await tx.saveCertificate({
      fingerprint,
      vmId: request.vmId,
      kind: request.kind,
      keyDigest,
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

/**
 * The VM is the caller's: by the inventory, or, while it is being made and not reported yet, because no other host had a
 * certificate for it. A key stays with the VM that it was certified for first.
 */
async function requireHolder(
  tx: ControlPlaneTransaction,
  caller: HostCaller,
  { vmId, keyDigest }: { readonly vmId: string; readonly keyDigest: string },
): Promise<void> {
  const vm = await tx.findVm(vmId)
  const hostId = vm ? vm.hostId : await tx.findVtpmHost(vmId)
  requireOwner(hostId === undefined ? undefined : { hostId }, caller, vmId)
  const certifiedFor = await tx.findVmOfVtpmKey(keyDigest)
  if (certifiedFor !== undefined && certifiedFor !== vmId) {
    const message = `expected a key of VM ${vmId}, found one that was certified for another VM`
    throw new PlatformError('FORBIDDEN', message)
  }
  if (await tx.isKeyCompromised(keyDigest)) {
    const message = `expected a key of VM ${vmId} that may be trusted, found a compromised one`
    throw new PlatformError('VTPM_KEY_COMPROMISED', message)
  }
}
