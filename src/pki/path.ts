import { isoTime } from '../core/clock.js'
import type { ErrorCode } from '../core/error-codes.js'
import { type Finding, failed, passed } from '../core/finding.js'
import type { Certificate } from './certificate.js'
import { authorityKeyId, EXTENSION, mayUse, subjectKeyId } from './extensions.js'
import { isCurrent, type RevocationList, verifyRevocationList } from './revocation-list.js'
import { verifySignature } from './signature.js'

/** Whom certificates are judged by. */
export interface Trust {
  /** Each ends a path by being trusted; its own dates are not checked. */
  readonly anchors: readonly Certificate[]
  /** Help to find a path; trusted for nothing. */
  readonly intermediates: readonly Certificate[]
  readonly revocation: {
    /** Of any authority. Each counts for the one whose name it has and whose key signed it. */
    readonly lists: readonly RevocationList[]
    /** `required`: every authority on the path has a current list. `present`: a list that is there counts, and is current. */
    readonly mode: 'present' | 'required'
  }
}

/** What the findings of one kind of certificate are called. */
export interface PathNames {
  readonly prefix: 'ek' | 'iak'
  readonly unknownCa: ErrorCode
  readonly expired: ErrorCode
  readonly notYetValid: ErrorCode
  readonly criticalExtension: ErrorCode
}

export interface PathVerdict {
  readonly findings: readonly Finding[]
  /** From the certificate to its anchor; empty where there is no path. */
  readonly chain: readonly Certificate[]
}

/** Certificates of a path, the anchor included. */
const MAX_PATH = 5
/** Many authorities of one name could be made to cost a signature each. */
const MAX_SIGNATURES = 64

/** Extensions that are understood here, or that say nothing that could be violated: others must not be critical. */
const KNOWN_EXTENSIONS: ReadonlySet<string> = new Set([
  EXTENSION.subjectDirectoryAttributes,
  EXTENSION.subjectKeyIdentifier,
  EXTENSION.keyUsage,
  EXTENSION.subjectAltName,
  EXTENSION.basicConstraints,
  EXTENSION.crlDistributionPoints,
  EXTENSION.certificatePolicies,
  EXTENSION.authorityKeyIdentifier,
  EXTENSION.extendedKeyUsage,
  EXTENSION.authorityInfoAccess,
])

/**
 * Verifies the path of a certificate to a trust anchor: signatures, authority and path length, dates, critical extensions
 * and revocation.
 *
 * The dates of an anchor do not count, as the authorities of makers expire while their TPMs live on. Constraints of names
 * are refused rather than processed. Nothing is fetched: neither issuers nor lists.
 *
 * @see RFC 5280, section 6
 */
export function verifyPath(
  certificate: Certificate,
  trust: Trust,
  names: PathNames,
  nowMs: number,
): PathVerdict {
  const { chain, reason } = findPath(certificate, trust)
  const { prefix } = names
  const known = chain.length > 0 ? chain : [certificate]
  return {
    findings: [
      chain.length > 0
        ? passed(`${prefix}.chain`, chain.at(-1)?.subject)
        : failed(
            `${prefix}.chain`,
            reason?.code ?? names.unknownCa,
            'a path to one of the trust anchors',
            reason?.found ?? `${certificate.issuer || 'no name'} as the issuer`,
          ),
      ...verifyDates(known, names, nowMs),
      ...verifyExtensions(known, names),
      ...(chain.length > 0 ? verifyRevocation(chain, trust.revocation, prefix, nowMs) : []),
    ],
    chain,
  }
}

interface Reason {
  readonly code: ErrorCode | undefined
  readonly found: string
}

/** A path of signatures from a certificate to an anchor, or the first reason why there is none. */
function findPath(
  certificate: Certificate,
  { anchors, intermediates }: Trust,
): { readonly chain: readonly Certificate[]; readonly reason?: Reason | undefined } {
  let signatures = 0
  let reason: Reason | undefined

  const accepts = (issuer: Certificate, path: readonly Certificate[], last: Certificate) => {
    if (!isNamed(issuer, last)) return false
    signatures += 1
    const code =
      signatures > MAX_SIGNATURES ? 'CHAIN_TOO_LONG' : whyNotIssued(issuer, last, path.length - 1)
    if (code !== undefined) reason ??= { code, found: `${issuer.subject} as the issuer` }
    return code === undefined
  }
  const extend = (path: readonly Certificate[], last: Certificate): readonly Certificate[] => {
    if (path.length >= MAX_PATH) {
      reason ??= { code: 'CHAIN_TOO_LONG', found: `more than ${MAX_PATH} certificates` }
      return []
    }
    for (const anchor of anchors) {
      if (accepts(anchor, path, last)) return [...path, anchor]
    }
    for (const candidate of intermediates) {
      if (path.some(({ fingerprint }) => fingerprint === candidate.fingerprint)) continue
      if (!accepts(candidate, path, last)) continue
      const whole = extend([...path, candidate], candidate)
      if (whole.length > 0) return whole
    }
    return []
  }
  const chain = extend([certificate], certificate)
  return { chain, reason }
}

/** Whether a certificate names this issuer: its name, and its key where both say which it is. */
function isNamed(issuer: Certificate, certificate: Certificate): boolean {
  const named = authorityKeyId(certificate.extensions)
  const own = subjectKeyId(issuer.extensions)
  const isSameKey = named === undefined || own === undefined || named === own
  return isSameKey && issuer.subjectName === certificate.issuerName
}

/** Whether `issuer` may not have signed `certificate`, or did not. `below`: how many authorities are under it already. */
function whyNotIssued(
  issuer: Certificate,
  certificate: Certificate,
  below: number,
): ErrorCode | undefined {
  if (!issuer.isCa) return 'CHAIN_NOT_CA'
  if (issuer.pathLength !== undefined && issuer.pathLength < below) return 'CHAIN_PATH_LENGTH'
  if (!mayUse(issuer.extensions, 'keyCertSign')) return 'CHAIN_KEY_USAGE'
  return verifySignature(certificate.signed, certificate.algorithm, issuer.publicKey)
}

function verifyDates(
  chain: readonly Certificate[],
  names: PathNames,
  nowMs: number,
): readonly Finding[] {
  const check = `${names.prefix}.validity`
  const dated = chain.length > 1 ? chain.slice(0, -1) : chain
  const expected = 'a certificate that is valid now'
  const wrong = dated.flatMap(({ notBeforeMs, notAfterMs, subject }) => {
    const of = `(${subject || 'no subject'})`
    if (nowMs > notAfterMs) {
      return [failed(check, names.expired, expected, `${isoTime(notAfterMs)} as its end ${of}`)]
    }
    if (nowMs < notBeforeMs) {
      const found = `${isoTime(notBeforeMs)} as its beginning ${of}`
      return [failed(check, names.notYetValid, expected, found)]
    }
    return []
  })
  return wrong.length > 0 ? wrong : [passed(check)]
}

function verifyExtensions(chain: readonly Certificate[], names: PathNames): readonly Finding[] {
  const check = `${names.prefix}.critical-extensions`
  const wrong = chain.flatMap(({ extensions }) =>
    [...extensions].flatMap(([oid, { critical }]) => {
      if (oid === EXTENSION.nameConstraints) {
        const expected = 'authorities that do not constrain names'
        return [failed(check, 'CHAIN_NAME_CONSTRAINTS', expected, 'one that does')]
      }
      if (!critical || KNOWN_EXTENSIONS.has(oid)) return []
      return [failed(check, names.criticalExtension, 'only known critical extensions', oid)]
    }),
  )
  return wrong.length > 0 ? wrong : [passed(check)]
}

/** Whether an authority of the path took back what it issued. */
function verifyRevocation(
  chain: readonly Certificate[],
  revocation: Trust['revocation'],
  prefix: string,
  nowMs: number,
): readonly Finding[] {
  const check = `${prefix}.revocation`
  const wrong = chain.slice(0, -1).flatMap((certificate, index) => {
    const issuer = chain[index + 1]
    if (!issuer) return []
    const list = newestOf(revocation.lists, issuer)
    if (list?.serials.has(certificate.serial)) {
      const found = `${certificate.subject || `serial number ${certificate.serial}`} on the list of ${issuer.subject}`
      return [failed(check, 'CERT_REVOKED', 'a certificate that is not revoked', found)]
    }
    if (list && !isCurrent(list, nowMs)) {
      const found = `one until ${isoTime(list.nextUpdateMs)}`
      return [failed(check, 'CRL_STALE', `a current list of ${issuer.subject}`, found)]
    }
    if (!list && revocation.mode === 'required') {
      return [failed(check, 'CRL_MISSING', `a revocation list of ${issuer.subject}`, 'none')]
    }
    return []
  })
  return wrong.length > 0 ? wrong : [passed(check)]
}

function newestOf(
  lists: readonly RevocationList[],
  issuer: Certificate,
): RevocationList | undefined {
  let newest: RevocationList | undefined
  for (const list of lists) {
    if (newest && newest.thisUpdateMs >= list.thisUpdateMs) continue
    if (verifyRevocationList(list, issuer) === undefined) newest = list
  }
  return newest
}
