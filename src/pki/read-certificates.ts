import { view } from '../core/bytes.js'
import { DecodeError } from '../core/errors.js'
import { type Certificate, parseCertificate } from './certificate.js'

export interface BundleLimits {
  /** Octets of the file, PEM or DER. */
  readonly maxOctets: number
  readonly maxCertificates: number
}

const LIMITS: BundleLimits = { maxOctets: 1024 * 1024, maxCertificates: 1000 }

export interface CertificateBundle {
  /** Subject and issuer are of one name. Whether they are trusted is for whoever gave the bundle. */
  readonly roots: readonly Certificate[]
  readonly intermediates: readonly Certificate[]
  /** Certificates that are of no authority. */
  readonly others: readonly Certificate[]
  /** All of them in the order of the file, each once. */
  readonly all: readonly Certificate[]
}

/**
 * Reads a file of certificates: DER of one, or PEM of any number, with comments between them.
 *
 * Text outside of the blocks is refused unless it is a comment (`#`) or of the kind that tools write before a
 * certificate (`subject=`, `Bag Attributes`): without a dash at its beginning. Other blocks than certificates are
 * refused; a private key with its own code, as somebody has to be told.
 *
 * @throws DecodeError `CERT_TOO_LARGE`, `CERT_UNREADABLE`, `CERT_STRIPPED`, `CERT_PEM` with the line, `CERT_PRIVATE_KEY`
 * @see RFC 7468, sections 2 and 5
 */
export function readCertificates(octets: Uint8Array, limits = LIMITS): CertificateBundle {
  if (octets.length > limits.maxOctets) {
    const message = `expected at most ${limits.maxOctets} octets, found ${octets.length}`
    throw new DecodeError('CERT_TOO_LARGE', 0, message)
  }
  const text = view(octets).toString('latin1')
  const all = text.includes('-----BEGIN ')
    ? readPem(text, limits.maxCertificates)
    : [parseCertificate(octets)]
  return {
    roots: all.filter((one) => one.isCa && one.subjectName === one.issuerName),
    intermediates: all.filter((one) => one.isCa && one.subjectName !== one.issuerName),
    others: all.filter((one) => !one.isCa),
    all,
  }
}

/**
 * Certificates of a PEM text or of one DER encoding.
 *
 * @throws DecodeError as `readCertificates`
 */
export function parseCertificates(input: string | Uint8Array): readonly Certificate[] {
  if (typeof input !== 'string') return [parseCertificate(input)]
  const octets = new Uint8Array(Buffer.from(input, 'utf8'))
  if (!input.includes('-----BEGIN ')) throw pemError(0, 1, 'at least one certificate')
  return readCertificates(octets).all
}

const BEGIN = /^-----BEGIN ([A-Z0-9 ]{1,64})-----$/
const END = '-----END CERTIFICATE-----'

function readPem(text: string, maxCertificates: number): readonly Certificate[] {
  const found = new Map<string, Certificate>()
  let block: { readonly offset: number; readonly line: number; base64: string } | undefined
  let offset = 0
  let count = 0
  for (const [index, raw] of text.split('\n').entries()) {
    const content = raw.trim()
    const line = index + 1
    if (block && content === END) {
      const certificate = parseBlock(block)
      found.set(certificate.fingerprint, certificate)
      block = undefined
    } else if (block) {
      if (!/^[A-Za-z0-9+/]*={0,2}$/.test(content)) throw pemError(offset, line, 'base64')
      block.base64 += content
    } else if (content.startsWith('-')) {
      requireCertificate(content, offset, line)
      count += 1
      if (count > maxCertificates) {
        throw new DecodeError(
          'CERT_TOO_LARGE',
          offset,
          `expected ${maxCertificates} certificates at most`,
        )
      }
      block = { offset, line, base64: '' }
    } else if (!isComment(content)) throw pemError(offset, line, 'a certificate or a comment')
    offset += raw.length + 1
  }
  if (block) throw pemError(block.offset, block.line, `the end of the certificate that begins`)
  if (found.size === 0) throw pemError(0, 1, 'at least one certificate')
  return [...found.values()]
}

function requireCertificate(content: string, offset: number, line: number): void {
  const label = BEGIN.exec(content)?.[1]
  if (label?.endsWith('PRIVATE KEY')) {
    throw new DecodeError(
      'CERT_PRIVATE_KEY',
      offset,
      `expected no private key, found one in line ${line}`,
    )
  }
  if (label !== 'CERTIFICATE') throw pemError(offset, line, 'the beginning of a certificate')
}

/** Nothing, `#`, or text that can be read: octets of anything else do not begin so. */
function isComment(content: string): boolean {
  return /^[\x20-\x7e\x80-\xff\t]*$/.test(content)
}

function parseBlock(block: {
  readonly offset: number
  readonly line: number
  readonly base64: string
}) {
  const octets = Buffer.from(block.base64, 'base64')
  if (octets.toString('base64') !== block.base64) throw pemError(block.offset, block.line, 'base64')
  try {
    return parseCertificate(new Uint8Array(octets))
  } catch (cause) {
    if (!(cause instanceof DecodeError)) throw cause
    const message = `in the block of line ${block.line}: ${cause.message}`
    throw new DecodeError(cause.code, block.offset, message, { cause })
  }
}

function pemError(offset: number, line: number, expected: string): DecodeError {
  return new DecodeError('CERT_PEM', offset, `expected ${expected} in line ${line}`)
}
