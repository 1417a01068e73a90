import { createHash } from 'node:crypto'
import { equalBytes, view } from '../core/bytes.js'
import type { ErrorCode } from '../core/error-codes.js'
import { DecodeError, isPlatformError, messageOf } from '../core/errors.js'
import { type Certificate, serialOf } from './certificate.js'
import { bitStringOctets, derInteger, derTime, parseDer, readElement, TAG } from './der.js'
import { EXTENSION, type Extensions, mayUse, parseExtensions } from './extensions.js'
import { canonicalName, printName } from './name.js'
import { type SignatureAlgorithm, signatureAlgorithm, verifySignature } from './signature.js'

/** The longest list that is read, octets of DER: that of this site with some 50,000 virtual TPMs taken back. */
const MAX_REVOCATION_LIST_OCTETS = 8 * 1024 * 1024
const VERSION_2 = 1
/** How much later than ours the issuer's clock may be. */
const SKEW_MS = 5 * 60_000

/** A list of certificates that their authority takes back, as it was signed. */
export interface RevocationList {
  readonly der: Uint8Array
  /** SHA-256 of the DER octets, hexadecimal. */
  readonly fingerprint: string
  /** For people. Names are compared by their canonical form. */
  readonly issuer: string
  readonly issuerName: string
  readonly thisUpdateMs: number
  readonly nextUpdateMs: number
  /** Serial numbers as `Certificate.serial`. */
  readonly serials: ReadonlySet<string>
  readonly extensions: Extensions
  readonly signed: { readonly octets: Uint8Array; readonly signature: Uint8Array }
  readonly algorithm: SignatureAlgorithm
}

/** Extensions that are understood, or change nothing of what the list says. */
const KNOWN_EXTENSIONS: ReadonlySet<string> = new Set([
  EXTENSION.authorityKeyIdentifier,
  EXTENSION.crlNumber,
])

/**
 * Reads a revocation list: DER, or PEM of one.
 *
 * Only version 2 with the date of the next list. Proves nothing: see `verifyRevocationList`.
 *
 * @throws DecodeError `CRL_TOO_LARGE`, `CRL_UNREADABLE`; `CRL_DELTA`, `CRL_SCOPE` and `CRL_CRITICAL_EXTENSION` for lists
 *   that say less than which certificates of one authority are revoked, or something that is not known here
 * @see RFC 5280, section 5
 */
export function parseRevocationList(octets: Uint8Array): RevocationList {
  if (octets.length > 2 * MAX_REVOCATION_LIST_OCTETS) throw tooLarge(octets.length)
  try {
    const der = fromPem(octets)
    if (der.length > MAX_REVOCATION_LIST_OCTETS) throw tooLarge(der.length)
    const list = listOf(der)
    requireWhole(list.extensions)
    return list
  } catch (cause) {
    if (isPlatformError(cause) && cause.code.startsWith('CRL_')) throw cause
    const offset = cause instanceof DecodeError ? cause.offset : 0
    const message = `expected a revocation list: ${messageOf(cause)}`
    throw new DecodeError('CRL_UNREADABLE', offset, message, { cause })
  }
}

/**
 * Whether an authority issued the list: the same name, the right to sign lists, and the signature.
 *
 * @returns nothing where it did, else the code of why not
 */
export function verifyRevocationList(
  list: RevocationList,
  issuer: Certificate,
): ErrorCode | undefined {
  if (!issuer.isCa || issuer.subjectName !== list.issuerName) return 'CRL_ISSUER'
  if (!mayUse(issuer.extensions, 'cRLSign')) return 'CHAIN_KEY_USAGE'
  return verifySignature(list.signed, list.algorithm, issuer.publicKey)
}

/** Whether the list is the word of its authority now: neither from the future, nor followed by another one. */
export function isCurrent(list: RevocationList, nowMs: number): boolean {
  return list.thisUpdateMs <= nowMs + SKEW_MS && nowMs <= list.nextUpdateMs
}

function listOf(der: Uint8Array): RevocationList {
  const [tbs, outerAlgorithm, signature, ...more] = elements(only(der, TAG.sequence))
  if (!tbs || !outerAlgorithm || !signature || more.length > 0) throw new TypeError('three parts')
  const [version, algorithm, issuer, thisUpdate, nextUpdate, ...optional] = elements(tbs.content)
  if (!version || !algorithm || !issuer || !thisUpdate || !nextUpdate) {
    throw new TypeError('a version, an algorithm, an issuer and two dates')
  }
  if (derInteger(parseDer(version.whole)) !== VERSION_2) throw new TypeError('version 2')
  if (!equalBytes(algorithm.whole, outerAlgorithm.whole)) {
    throw new TypeError('one algorithm inside and outside of what is signed')
  }
  const entries = optional.find(({ tag }) => tag === TAG.sequence)
  const wrapper = optional.find(({ tag }) => tag === TAG.context(0))
  const known = [entries, wrapper].filter((part) => part !== undefined)
  if (known.some((part, index) => part !== optional[index]) || known.length < optional.length) {
    throw new TypeError('entries, then extensions, then the end')
  }
  const name = parseDer(issuer.whole)
  return {
    der,
    fingerprint: createHash('sha256').update(der).digest('hex'),
    issuer: printName(name),
    issuerName: canonicalName(name),
    thisUpdateMs: derTime(parseDer(thisUpdate.whole)),
    nextUpdateMs: derTime(parseDer(nextUpdate.whole)),
    serials: new Set(
      entries ? elements(entries.content).map(({ whole }) => entrySerial(whole)) : [],
    ),
    extensions: parseExtensions(wrapper && parseDer(wrapper.whole)),
    signed: { octets: tbs.whole, signature: bitStringOctets(parseDer(signature.whole)) },
    algorithm: signatureAlgorithm(parseDer(algorithm.whole)),
  }
}

/** The serial number of an entry. A critical extension may say that it is of another issuer's certificate. */
function entrySerial(entry: Uint8Array): string {
  const node = parseDer(entry)
  const [serial, date, extensions, ...more] = node.children
  if (node.tag !== TAG.sequence || !serial || !date || more.length > 0) {
    throw new TypeError('an entry of a serial number and a date')
  }
  derTime(date)
  const known = parseExtensions(extensions && { ...extensions, children: [extensions] })
  if ([...known.values()].some(({ critical }) => critical)) {
    throw new DecodeError(
      'CRL_CRITICAL_EXTENSION',
      0,
      'expected entries without critical extensions',
    )
  }
  return serialOf(serial)
}

function requireWhole(extensions: Extensions): void {
  if (extensions.has(EXTENSION.deltaCrlIndicator)) {
    throw new DecodeError('CRL_DELTA', 0, 'expected a whole list, found the changes of one')
  }
  if (extensions.has(EXTENSION.issuingDistributionPoint)) {
    throw new DecodeError('CRL_SCOPE', 0, 'expected a list of all certificates of its authority')
  }
  for (const [oid, { critical }] of extensions) {
    if (critical && !KNOWN_EXTENSIONS.has(oid)) {
      const message = `expected known critical extensions, found ${oid}`
      throw new DecodeError('CRL_CRITICAL_EXTENSION', 0, message)
    }
  }
}

function only(octets: Uint8Array, expected: number): Uint8Array {
  const { tag, content, end } = readElement(octets, 0)
  if (tag !== expected || end !== octets.length) throw new TypeError('one sequence')
  return content
}

interface Element {
  readonly tag: number
  readonly whole: Uint8Array
  readonly content: Uint8Array
}

/** The elements one after another, without what is in them: lists have more entries than a tree may have nodes. */
function elements(octets: Uint8Array): readonly Element[] {
  const found: Element[] = []
  let at = 0
  while (at < octets.length) {
    const { tag, content, end } = readElement(octets, at)
    found.push({ tag, content, whole: octets.subarray(at, end) })
    at = end
  }
  return found
}

const PEM = /^\s*-----BEGIN X509 CRL-----([A-Za-z0-9+/=\s]*)-----END X509 CRL-----\s*$/

function fromPem(octets: Uint8Array): Uint8Array {
  if (octets[0] === TAG.sequence) return octets
  const base64 = PEM.exec(view(octets).toString('latin1'))?.[1]
  if (base64 === undefined) throw new TypeError('DER, or PEM of one list')
  return new Uint8Array(Buffer.from(base64, 'base64'))
}

function tooLarge(found: number): DecodeError {
  const message = `expected at most ${MAX_REVOCATION_LIST_OCTETS} octets, found ${found}`
  return new DecodeError('CRL_TOO_LARGE', 0, message)
}
