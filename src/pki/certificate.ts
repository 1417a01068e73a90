import { createHash, type KeyObject } from 'node:crypto'
import { equalBytes, toHex, view } from '../core/bytes.js'
import { DecodeError, isPlatformError, messageOf } from '../core/errors.js'
import { bitStringOctets, type DerNode, derInteger, derTime, parseDer, TAG } from './der.js'
import { type Extension, parseExtensions, readBasicConstraints } from './extensions.js'
import { canonicalName, printName } from './name.js'
import { certificateFromNv } from './nv-certificate.js'
import { type SignatureAlgorithm, signatureAlgorithm } from './signature.js'
import { isSpki, subjectKey } from './subject-key.js'

/** Largest certificate that is read. */
const MAX_CERTIFICATE_OCTETS = 64 * 1024
const VERSION_3 = 2
const MAX_SERIAL_OCTETS = 32

/** A certificate as it was signed: nothing is encoded again before its signature is verified. */
export interface Certificate {
  readonly der: Uint8Array
  /** SHA-256 of the DER octets, hexadecimal. */
  readonly fingerprint: string
  /** For people. Names are compared by their canonical form. */
  readonly subject: string
  readonly issuer: string
  readonly subjectName: string
  readonly issuerName: string
  readonly isSubjectEmpty: boolean
  /** Content of the INTEGER, hexadecimal. */
  readonly serial: string
  readonly notBeforeMs: number
  readonly notAfterMs: number
  /** basicConstraints: absent counts as no authority. */
  readonly isCa: boolean
  readonly pathLength: number | undefined
  readonly publicKey: KeyObject
  readonly extensions: ReadonlyMap<string, Extension>
  /** TBSCertificate: what the signature is over. */
  readonly signed: { readonly octets: Uint8Array; readonly signature: Uint8Array }
  readonly algorithm: SignatureAlgorithm
}

/**
 * Reads one certificate, DER, as it is in a file or in the NV memory of a TPM.
 *
 * Only version 3. Proves nothing: no signature is verified, and no extension is judged.
 *
 * @throws DecodeError `CERT_TOO_LARGE`, `CERT_STRIPPED`, `CERT_UNREADABLE`
 * @see RFC 5280, section 4.1
 */
export function parseCertificate(octets: Uint8Array): Certificate {
  if (octets.length > MAX_CERTIFICATE_OCTETS) {
    throw new DecodeError(
      'CERT_TOO_LARGE',
      0,
      `expected a certificate of at most ${MAX_CERTIFICATE_OCTETS} octets, found ${octets.length}`,
    )
  }
  try {
    return certificateOf(certificateFromNv(octets))
  } catch (cause) {
    if (isPlatformError(cause, 'CERT_STRIPPED')) throw cause
    const offset = cause instanceof DecodeError ? cause.offset : 0
    const message = `expected an X.509 certificate: ${messageOf(cause)}`
    throw new DecodeError('CERT_UNREADABLE', offset, message, { cause })
  }
}

function certificateOf(der: Uint8Array): Certificate {
  const [tbs, outerAlgorithm, signature, ...more] = parseDer(der).children
  if (!tbs || !outerAlgorithm || !signature || more.length > 0) throw new TypeError('three parts')
  const parts = partsOf(tbs)
  if (!equalBytes(parts.algorithm.whole, outerAlgorithm.whole)) {
    throw new TypeError('one algorithm inside and outside of what is signed')
  }
  const extensions = parseExtensions(parts.extensions)
  const [notBefore, notAfter] = parts.validity.children
  if (!notBefore || !notAfter) throw new TypeError('two dates')
  return {
    der,
    fingerprint: createHash('sha256').update(der).digest('hex'),
    subject: printName(parts.subject),
    issuer: printName(parts.issuer),
    subjectName: canonicalName(parts.subject),
    issuerName: canonicalName(parts.issuer),
    isSubjectEmpty: parts.subject.children.length === 0,
    serial: serialOf(parts.serial),
    notBeforeMs: derTime(notBefore),
    notAfterMs: derTime(notAfter),
    ...readBasicConstraints(extensions),
    publicKey: subjectKey(parts.spki),
    extensions,
    signed: { octets: tbs.whole, signature: bitStringOctets(signature) },
    algorithm: signatureAlgorithm(parts.algorithm),
  }
}

function partsOf(tbs: DerNode) {
  const [version, serial, algorithm, issuer, validity, subject, spki, ...optional] = tbs.children
  const [number] = version?.children ?? []
  if (version?.tag !== TAG.context(0) || !number || derInteger(number) !== VERSION_3) {
    throw new TypeError('version 3')
  }
  const names = [algorithm, issuer, validity, subject]
  if (tbs.tag !== TAG.sequence || names.some((node) => node?.tag !== TAG.sequence)) {
    throw new TypeError('the fields of a certificate')
  }
  if (!serial || !algorithm || !issuer || !validity || !subject || !isSpki(spki)) {
    throw new TypeError('the fields of a certificate')
  }
  const extensions = optional.find(({ tag }) => tag === TAG.context(3))
  // Unique identifiers before, at most; nothing after
  if (extensions && optional.at(-1) !== extensions) throw new TypeError('extensions at the end')
  return { serial, algorithm, issuer, validity, subject, spki, extensions }
}

/** Also of the entries of revocation lists. */
export function serialOf(node: DerNode): string {
  if (node.tag !== TAG.integer || node.content.length === 0) throw new TypeError('a serial number')
  if (node.content.length > MAX_SERIAL_OCTETS) throw new TypeError('a shorter serial number')
  return toHex(node.content)
}

/** What a list of certificates shows of one. */
export function describeCertificate(certificate: Certificate) {
  const { fingerprint, subject, issuer, notBeforeMs, notAfterMs, isCa } = certificate
  return { fingerprint, subject, issuer, notBeforeMs, notAfterMs, isCa }
}

/** PEM of a certificate. */
export function certificatePem(der: Uint8Array): string {
  return pemOf('CERTIFICATE', der)
}

/** @see RFC 7468, section 2 */
export function pemOf(label: string, der: Uint8Array): string {
  const lines =
    view(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? []
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`
}
