import { createHash, type KeyObject, X509Certificate } from 'node:crypto'
import { view } from '../core/bytes.js'
import { DecodeError, messageOf } from '../core/errors.js'
import { type DerNode, derInteger, objectIdentifier, parseDer, TAG } from './der.js'

/** Largest certificate that is read. */
const MAX_CERTIFICATE_OCTETS = 64 * 1024
const MAX_BUNDLE_OCTETS = 1024 * 1024
const MAX_BUNDLE_CERTIFICATES = 1000

/** A certificate as it was signed: nothing is encoded again before its signature is verified. */
export interface Certificate {
  readonly der: Uint8Array
  /** SHA-256 of the DER octets, hexadecimal. */
  readonly fingerprint: string
  readonly subject: string
  readonly issuer: string
  readonly notBeforeMs: number
  readonly notAfterMs: number
  /** basicConstraints: absent counts as no authority. */
  readonly isCa: boolean
  readonly pathLength: number | undefined
  readonly publicKey: KeyObject
  readonly extensions: ReadonlyMap<string, Extension>
  /** The parsed form of node:crypto, for signatures. */
  readonly x509: X509Certificate
}

export interface Extension {
  readonly critical: boolean
  /** Content of the OCTET STRING. */
  readonly value: Uint8Array
}

const BASIC_CONSTRAINTS = '2.5.29.19'

/**
 * Reads one certificate, DER.
 *
 * Tolerates what TPMs put around it in NV memory: octets 0xff or 0x00 after it, and the TCG's 7-octet header before it.
 *
 * @throws DecodeError `CERT_TOO_LARGE`, `CERT_UNREADABLE`
 * @see TCG EK Credential Profile 2.x, clause 2.2.1.5.2
 */
export function parseCertificate(octets: Uint8Array): Certificate {
  if (octets.length > MAX_CERTIFICATE_OCTETS) {
    throw new DecodeError(
      'CERT_TOO_LARGE',
      0,
      `expected a certificate of at most ${MAX_CERTIFICATE_OCTETS} octets, found ${octets.length}`,
    )
  }
  const der = trim(octets)
  let x509: X509Certificate
  try {
    x509 = new X509Certificate(view(der))
    const { isCa, pathLength, extensions } = parseExtensions(der)
    return {
      der,
      fingerprint: createHash('sha256').update(der).digest('hex'),
      subject: oneLine(x509.subject),
      issuer: oneLine(x509.issuer),
      notBeforeMs: Date.parse(x509.validFrom),
      notAfterMs: Date.parse(x509.validTo),
      isCa,
      pathLength,
      publicKey: x509.publicKey,
      extensions,
      x509,
    }
  } catch (cause) {
    throw new DecodeError(
      'CERT_UNREADABLE',
      0,
      `expected an X.509 certificate: ${messageOf(cause)}`,
      { cause },
    )
  }
}

/**
 * Reads certificates: a PEM bundle as text, or one certificate as DER octets.
 *
 * @throws DecodeError `CERT_TOO_LARGE`, `CERT_UNREADABLE`, also for a bundle without any
 */
export function parseCertificates(input: string | Uint8Array): readonly Certificate[] {
  if (typeof input !== 'string') return [parseCertificate(input)]
  if (input.length > MAX_BUNDLE_OCTETS) {
    throw new DecodeError(
      'CERT_TOO_LARGE',
      0,
      `expected at most ${MAX_BUNDLE_OCTETS} octets of PEM`,
    )
  }
  const blocks = [
    ...input.matchAll(/-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]*)-----END CERTIFICATE-----/g),
  ]
  if (blocks.length === 0 || blocks.length > MAX_BUNDLE_CERTIFICATES) {
    throw new DecodeError(
      'CERT_UNREADABLE',
      0,
      `expected 1 to ${MAX_BUNDLE_CERTIFICATES} certificates in PEM, found ${blocks.length}`,
    )
  }
  return blocks.map((block) =>
    parseCertificate(new Uint8Array(Buffer.from(block[1] ?? '', 'base64'))),
  )
}

/** What a list of certificates shows of one. */
export function describeCertificate(certificate: Certificate) {
  const { fingerprint, subject, issuer, notBeforeMs, notAfterMs, isCa } = certificate
  return { fingerprint, subject, issuer, notBeforeMs, notAfterMs, isCa }
}

/** PEM of a certificate. */
export function certificatePem(der: Uint8Array): string {
  const lines =
    view(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? []
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`
}

/** `CERT_HEADER` of TPM 1.2 times: tag 0x1001, type, and a size. */
const TCG_HEADER = [0x10, 0x01, 0x00]
const TCG_HEADER_OCTETS = 7

function trim(octets: Uint8Array): Uint8Array {
  const hasHeader = TCG_HEADER.every((octet, index) => octets[index] === octet)
  const certificate = hasHeader ? octets.subarray(TCG_HEADER_OCTETS) : octets
  const length = outerLength(certificate)
  const rest = certificate.subarray(length)
  const padded = rest.every((octet) => octet === 0xff) || rest.every((octet) => octet === 0x00)
  if (!padded) {
    throw new DecodeError('CERT_UNREADABLE', length, 'expected the end of the certificate')
  }
  return certificate.slice(0, length)
}

/** Octets of a DER SEQUENCE, its header included. */
function outerLength(octets: Uint8Array): number {
  const [tag, first, second, third] = octets
  if (tag !== 0x30 || first === undefined) {
    throw new DecodeError('CERT_UNREADABLE', 0, 'expected a DER certificate')
  }
  const length =
    first < 0x80
      ? 2 + first
      : first === 0x81
        ? 3 + (second ?? 0)
        : first === 0x82
          ? 4 + ((second ?? 0) << 8) + (third ?? 0)
          : Number.POSITIVE_INFINITY
  if (length > octets.length) {
    throw new DecodeError('CERT_UNREADABLE', 0, 'the certificate ends too early')
  }
  return length
}

function oneLine(name: string | undefined): string {
  return (name ?? '').split('\n').reverse().join(', ')
}

/** @see RFC 5280, sections 4.1 and 4.2 */
function parseExtensions(der: Uint8Array): {
  readonly isCa: boolean
  readonly pathLength: number | undefined
  readonly extensions: ReadonlyMap<string, Extension>
} {
  const [tbs] = parseDer(der).children
  const wrapper = tbs?.children.find(({ tag }) => tag === TAG.context(3))
  const extensions = new Map<string, Extension>()
  for (const node of wrapper?.children[0]?.children ?? []) {
    const [id, second, third] = node.children
    const value = third ?? second
    if (!id || !value) throw new TypeError('an extension without a value')
    const oid = objectIdentifier(id)
    if (extensions.has(oid)) throw new TypeError(`extension ${oid} twice`)
    const critical = third !== undefined && second?.content[0] === 0xff
    extensions.set(oid, { critical, value: value.content })
  }
  const constraints = extensions.get(BASIC_CONSTRAINTS)
  const members = constraints ? parseDer(constraints.value).children : []
  return { ...basicConstraints(members), extensions }
}

function basicConstraints(members: readonly DerNode[]) {
  const isCa = members.some(({ tag, content }) => tag === TAG.boolean && content[0] === 0xff)
  const length = members.find(({ tag }) => tag === TAG.integer)
  return { isCa, pathLength: length && derInteger(length) }
}
