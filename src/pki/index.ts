export {
  type Authority,
  type AuthorityKeyType,
  createAuthority,
  issueEkCertificate,
  issueServerCertificate,
  openAuthority,
} from './authority.js'
export {
  type Certificate,
  certificatePem,
  describeCertificate,
  parseCertificate,
  parseCertificates,
} from './certificate.js'
export {
  type EkCertificateVerdict,
  type TpmDescription,
  verifyEkCertificate,
} from './verify-ek-certificate.js'
