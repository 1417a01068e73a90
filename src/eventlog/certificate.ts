import { hash, X509Certificate } from 'node:crypto'
import { printable } from './printable.js'

/** A certificate as a log has it. Nothing of it is verified: no signature, no date, no chain. */
export interface LoggedCertificate {
  /** SHA-256 of the certificate. */
  readonly fingerprint: string
  readonly octets: number
  /** Names and the end of validity, where the certificate can be read. */
  readonly subject?: string
  readonly issuer?: string
  readonly notAfter?: string
}

/** Certificates of one variable that are read for their names: real databases have two to seven. */
export const MAX_CERTIFICATES_READ = 8
/** No X.509 certificate is shorter. */
const MIN_CERTIFICATE_OCTETS = 128

/** @param read whether to read the names too: that costs as much as hashing 50 KiB */
export function describeCertificate(der: Uint8Array, read = true): LoggedCertificate {
  const fingerprint = hash('sha256', der)
  const names = read && der.length >= MIN_CERTIFICATE_OCTETS ? namesOf(der) : {}
  return { fingerprint, octets: der.length, ...names }
}

function namesOf(der: Uint8Array): Partial<LoggedCertificate> {
  try {
    const { subject, issuer, validTo } = new X509Certificate(der)
    const lines = (name: string | undefined) => printable((name ?? '').split('\n').join(', '))
    return { subject: lines(subject), issuer: lines(issuer), notAfter: printable(validTo) }
  } catch {
    // A certificate that cannot be read is shown by its fingerprint alone.
    return {}
  }
}
