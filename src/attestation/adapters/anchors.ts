import { PlatformError } from '../../core/errors.js'
import { describeCertificate, parseCertificates } from '../../pki/index.js'
import type { Anchor } from '../domain/verify-enrolment.js'
import type { AttestationTransaction, StoredAnchor } from '../ports.js'

/**
 * Certificates of a PEM bundle as trust anchors.
 *
 * @throws PlatformError of the certificate that cannot be read, `CERT_NOT_CA` where one is no authority
 */
export function parseAnchors(
  pem: string,
  insecureTest: boolean,
  nowMs: number,
): readonly StoredAnchor[] {
  return parseCertificates(pem).map((certificate) => {
    const description = describeCertificate(certificate)
    if (!description.isCa) {
      throw new PlatformError(
        'CERT_NOT_CA',
        `expected a certificate authority, found ${description.subject}`,
      )
    }
    return {
      fingerprint: description.fingerprint,
      subject: description.subject,
      certificate: certificate.der,
      notAfterMs: description.notAfterMs,
      insecureTest,
      addedAtMs: nowMs,
    }
  })
}

/** The anchors of the store, parsed for chain building. */
export async function storedAnchors(tx: AttestationTransaction): Promise<readonly Anchor[]> {
  return (await tx.listAnchors()).flatMap(({ certificate, insecureTest }) =>
    parseCertificates(certificate).map((parsed) => ({ certificate: parsed, insecureTest })),
  )
}
