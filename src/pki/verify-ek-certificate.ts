import { equalBytes } from '../core/bytes.js'
import { isoTime } from '../core/clock.js'
import { isPlatformError } from '../core/errors.js'
import { type Finding, failed, passed } from '../core/finding.js'
import { type Certificate, parseCertificate } from './certificate.js'
import { type DerNode, derText, objectIdentifier, parseDer, TAG } from './der.js'

/** What a TPM's certificate says of it. @see TCG EK Credential Profile 2.x, clause 3.2.9 */
export interface TpmDescription {
  /** `id:494E5443` */
  readonly manufacturer: string
  readonly model: string
  readonly version: string
}

export interface EkCertificateVerdict {
  readonly findings: readonly Finding[]
  /** From the certificate to its anchor; empty where there is no path. */
  readonly chain: readonly Certificate[]
  readonly tpm?: TpmDescription
}

const MAX_CHAIN = 5

const OID = {
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  keyUsage: '2.5.29.15',
  extendedKeyUsage: '2.5.29.37',
  ekCertificate: '2.23.133.8.1',
  manufacturer: '2.23.133.2.1',
  model: '2.23.133.2.2',
  version: '2.23.133.2.3',
} as const

/** Extensions that are understood here, or that say nothing that could be violated: others must not be critical. */
const KNOWN_EXTENSIONS: ReadonlySet<string> = new Set([
  ...Object.values(OID),
  '2.5.29.14', // subjectKeyIdentifier
  '2.5.29.35', // authorityKeyIdentifier
  '2.5.29.32', // certificatePolicies
  '2.5.29.31', // cRLDistributionPoints
  '2.5.29.9', // subjectDirectoryAttributes
  '1.3.6.1.5.5.7.1.1', // authorityInfoAccess: never fetched
])

const KEY_USAGE = { keyEncipherment: 2, keyAgreement: 4, keyCertSign: 5 } as const

/**
 * Verifies the certificate of an endorsement key: its path to a trust anchor, its profile, and that it is for this key.
 *
 * An anchor ends the path by being trusted; its own dates are not checked, as maker authorities expire while their TPMs
 * live on. **Does not check** revocation, and fetches nothing.
 *
 * @param input.certificate DER, as the TPM holds it
 * @param input.ekPublicKeySpki SubjectPublicKeyInfo of the endorsement key, DER
 * @see TCG EK Credential Profile 2.x, clause 3; RFC 5280, section 6
 */
export function verifyEkCertificate(input: {
  readonly certificate: Uint8Array
  readonly intermediates: readonly Certificate[]
  readonly anchors: readonly Certificate[]
  readonly ekPublicKeySpki: Uint8Array
  readonly now: number
}): EkCertificateVerdict {
  const certificate = parseCertificate(input.certificate)
  const chain = findPath(certificate, input.intermediates, input.anchors)
  const tpm = describeTpm(certificate)
  return {
    findings: [
      chain.length > 0
        ? passed('ek.chain', chain.at(-1)?.subject)
        : failed(
            'ek.chain',
            'EK_CERT_UNKNOWN_CA',
            'an issuer among the trust anchors',
            certificate.issuer,
          ),
      ...verifyDates(chain.length > 0 ? chain : [certificate], input.now),
      verifyKey(certificate, input.ekPublicKeySpki),
      verifyPurpose(certificate),
      verifyKeyUsage(certificate),
      certificate.isCa
        ? failed('ek.basic-constraints', 'EK_CERT_CA', 'no authority', 'an authority')
        : passed('ek.basic-constraints'),
      ...verifyCritical(chain.length > 0 ? chain : [certificate]),
      tpm
        ? passed('ek.tpm', `${tpm.manufacturer} ${tpm.model} ${tpm.version}`)
        : failed(
            'ek.tpm',
            'EK_CERT_SAN',
            'manufacturer, model and version of the TPM',
            'a certificate without them',
          ),
    ],
    chain,
    ...(tpm ? { tpm } : {}),
  }
}

/** A path of signatures from a certificate to an anchor, or nothing. Tries every issuer of the right name. */
function findPath(
  certificate: Certificate,
  intermediates: readonly Certificate[],
  anchors: readonly Certificate[],
): readonly Certificate[] {
  const extend = (path: readonly Certificate[]): readonly Certificate[] => {
    const last = path.at(-1)
    if (!last || path.length >= MAX_CHAIN) return []
    for (const anchor of anchors) {
      if (issued(anchor, last, path.length - 1)) return [...path, anchor]
    }
    for (const candidate of intermediates) {
      const seen = path.some(({ fingerprint }) => fingerprint === candidate.fingerprint)
      if (seen || !issued(candidate, last, path.length - 1)) continue
      const whole = extend([...path, candidate])
      if (whole.length > 0) return whole
    }
    return []
  }
  return extend([certificate])
}

/** Whether `issuer` may have signed `certificate` and did. `below`: how many authorities are under the issuer already. */
function issued(issuer: Certificate, certificate: Certificate, below: number): boolean {
  if (!issuer.isCa || issuer.subject !== certificate.issuer) return false
  if (issuer.pathLength !== undefined && issuer.pathLength < below) return false
  if (issuer.extensions.has(OID.keyUsage) && !hasUsage(issuer, KEY_USAGE.keyCertSign)) return false
  try {
    return certificate.x509.verify(issuer.publicKey)
  } catch {
    return false
  }
}

function verifyDates(chain: readonly Certificate[], now: number): readonly Finding[] {
  const dated = chain.length > 1 ? chain.slice(0, -1) : chain
  const wrong = dated.flatMap(({ notBeforeMs, notAfterMs, subject }) => {
    if (now > notAfterMs) {
      const found = `${isoTime(notAfterMs)} as its end (${subject || 'no subject'})`
      return [failed('ek.validity', 'EK_CERT_EXPIRED', 'a certificate that is valid now', found)]
    }
    if (now < notBeforeMs) {
      const found = `${isoTime(notBeforeMs)} as its beginning (${subject || 'no subject'})`
      return [
        failed('ek.validity', 'EK_CERT_NOT_YET_VALID', 'a certificate that is valid now', found),
      ]
    }
    return []
  })
  return wrong.length > 0 ? wrong : [passed('ek.validity')]
}

function verifyKey(certificate: Certificate, ekSpki: Uint8Array): Finding {
  const expected = 'the endorsement key of this TPM'
  const mismatch = failed('ek.key', 'EK_CERT_KEY_MISMATCH', expected, 'another key')
  return equalBytes(keyOctets(certificate), ekSpki) ? passed('ek.key') : mismatch
}

/**
 * The certified key in the form that node:crypto gives to any key. Some makers certify RSA keys with the algorithm
 * identifier of RSAES-OAEP: the same key under another label.
 */
function keyOctets(certificate: Certificate): Uint8Array {
  return new Uint8Array(certificate.publicKey.export({ type: 'spki', format: 'der' }))
}

function verifyPurpose(certificate: Certificate): Finding {
  const extension = certificate.extensions.get(OID.extendedKeyUsage)
  const purposes = extension
    ? readable(() => parseDer(extension.value).children.map(objectIdentifier))
    : []
  return purposes?.includes(OID.ekCertificate)
    ? passed('ek.purpose')
    : failed(
        'ek.purpose',
        'EK_CERT_EKU',
        `extended key usage ${OID.ekCertificate}`,
        purposes?.join(', ') || 'none',
      )
}

function verifyKeyUsage(certificate: Certificate): Finding {
  const isRsa = certificate.publicKey.asymmetricKeyType === 'rsa'
  const [bit, expected] = isRsa
    ? ([KEY_USAGE.keyEncipherment, 'keyEncipherment'] as const)
    : ([KEY_USAGE.keyAgreement, 'keyAgreement'] as const)
  if (hasUsage(certificate, bit)) return passed('ek.key-usage', expected)
  return failed('ek.key-usage', 'EK_CERT_KEY_USAGE', expected, 'another key usage')
}

function hasUsage(certificate: Certificate, bit: number): boolean {
  const extension = certificate.extensions.get(OID.keyUsage)
  const octets = extension ? readable(() => parseDer(extension.value).content) : undefined
  return ((octets?.[1] ?? 0) & (0x80 >> bit)) !== 0
}

function verifyCritical(chain: readonly Certificate[]): readonly Finding[] {
  const unknown = chain.flatMap(({ extensions }) =>
    [...extensions].filter(([oid, { critical }]) => critical && !KNOWN_EXTENSIONS.has(oid)),
  )
  if (unknown.length === 0) return [passed('ek.critical-extensions')]
  return unknown.map(([oid]) =>
    failed(
      'ek.critical-extensions',
      'EK_CERT_CRITICAL_EXTENSION',
      'only known critical extensions',
      oid,
    ),
  )
}

/** The TCG attributes in the directory name of the subjectAltName: one relative name or several, in any order. */
function describeTpm(certificate: Certificate): TpmDescription | undefined {
  const extension = certificate.extensions.get(OID.subjectAltName)
  if (!extension) return undefined
  const attributes = new Map<string, string>()
  const root = readable(() => parseDer(extension.value))
  for (const name of root?.children ?? []) {
    if (name.tag === TAG.context(4)) collectAttributes(name, attributes)
  }
  const manufacturer = attributes.get(OID.manufacturer)
  const model = attributes.get(OID.model)
  const version = attributes.get(OID.version)
  if (manufacturer === undefined || model === undefined || version === undefined) return undefined
  return { manufacturer, model, version }
}

function collectAttributes(node: DerNode, attributes: Map<string, string>): void {
  const [type, value] = node.children
  if (node.tag === TAG.sequence && type?.tag === TAG.objectIdentifier && value) {
    const oid = readable(() => objectIdentifier(type))
    if (oid !== undefined && !attributes.has(oid))
      attributes.set(oid, printableText(derText(value)))
    return
  }
  for (const child of node.children) collectAttributes(child, attributes)
}

/** Text that a TPM maker chose, for people: bounded, without control characters. */
function printableText(text: string): string {
  return text.slice(0, 64).replace(/[^\x20-\x7e]/g, '?')
}

/** The result of reading, or nothing where the octets cannot be read: the check that needs it fails then. */
function readable<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch (error) {
    if (isPlatformError(error)) return undefined
    throw error
  }
}
