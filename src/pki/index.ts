export {
  type Authority,
  type AuthorityKeyType,
  createAuthority,
  issueClientCertificate,
  issueServerCertificate,
  openAuthority,
} from './authority.js'
export {
  type Certificate,
  certificatePem,
  describeCertificate,
  parseCertificate,
  pemOf,
} from './certificate.js'
export {
  type CertifiedTpm,
  issueEkCertificate,
  readTpmSpecification,
} from './ek-certificate.js'
export { encodeEkRequest } from './ek-request.js'
export {
  issueRevocationList,
  REVOCATION_REASONS,
  type RevocationReason,
  type RevokedCertificate,
} from './issue-revocation-list.js'
export type { Trust } from './path.js'
export { openPkcs12, type Pkcs12Secret, sealPkcs12 } from './pkcs12.js'
export { parseCertificates, readCertificates } from './read-certificates.js'
export {
  parseRevocationList,
  type RevocationList,
  verifyRevocationList,
} from './revocation-list.js'
export { describeTpm, type TpmDescription } from './subject-alternative-name.js'
export { spkiOf } from './subject-key.js'
export { type EkCertificateVerdict, verifyEkCertificate } from './verify-ek-certificate.js'
export { type IakCertificateVerdict, verifyIakCertificate } from './verify-iak-certificate.js'
export {
  isVtpmCertificate,
  readVtpmNames,
  type VtpmNames,
  verifyVtpmCertificate,
  vtpmUris,
} from './vtpm-certificate.js'
