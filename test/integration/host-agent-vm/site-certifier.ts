import type { VtpmCertifier } from '../../../src/host-agent/vm/index.js'
import { createAuthority, issueEkCertificate } from '../../../src/pki/index.js'

/** An authority for virtual TPMs with the certificates of the control plane. */
export async function siteCertifier(): Promise<VtpmCertifier> {
  const authority = await createAuthority({
    ...{ commonName: 'Site', keyType: 'p384', validityDays: 10, now: Date.now() },
  })
  return {
    authorityPem: async () => authority.certificatePem,
    certify: ({ vmId, kind, publicKeySpki, tpm }) =>
      issueEkCertificate(authority, {
        ...{ publicKey: publicKeySpki, subjectName: vmId, tpm, kind },
        ...{ subjectAltUris: [`urn:uuid:${vmId}`], validityDays: 5, now: Date.now() },
      }),
  }
}
