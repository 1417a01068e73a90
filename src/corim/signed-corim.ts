import { PlatformError } from '../core/errors.js'
import { type CborArray, type CborItem, type CborLimits, type CborMap, parseCbor } from './cbor.js'
import {
  arrayOf,
  listOf,
  Members,
  mapOf,
  nameOf,
  octetsOf,
  refuse,
  secondsOf,
  tupleOf,
  uriOf,
} from './cbor-fields.js'
import { CORIM_LIMITS, openCorim, parseValidity } from './parse-corim.js'

/** Labels of COSE headers. @see RFC 9052, section 3.1; RFC 9360; RFC 9597; draft-ietf-rats-corim-11 for 8 */
const LABEL = {
  alg: 1,
  crit: 2,
  contentType: 3,
  kid: 4,
  corimMeta: 8,
  cwtClaims: 15,
  x5chain: 33,
} as const

/** What may be named as critical: each of them is read, or stands for nothing that could be violated. */
export const UNDERSTOOD_LABELS: ReadonlySet<CborItem> = new Set<CborItem>(Object.values(LABEL))

const CLAIM = { iss: 1, exp: 4, nbf: 5 } as const
const MAX_KID_OCTETS = 256
const MAX_CERTIFICATES = 10
const MAX_CERTIFICATE_OCTETS = 16_384

/** What the protected headers of a signed manifest claim. **Not verified** by being read. */
export interface CorimSigner {
  /** COSE algorithm identifier, or its name where it is none of the registry. */
  readonly algorithm: number | string
  readonly contentType?: number | string
  readonly critical: readonly CborItem[]
  /** Chooses nothing here: every key that is trusted is tried. */
  readonly kid?: Uint8Array
  /** DER, the signer's first. Which of them is trusted is for the caller to say. */
  readonly certificates: readonly Uint8Array[]
  /** By `corim-meta`. */
  readonly meta?: SignerClaims
  /** By CWT claims. */
  readonly claims?: SignerClaims
}

export interface SignerClaims {
  readonly name: string
  readonly uri?: string
  readonly notBeforeMs?: number
  readonly notAfterMs?: number
}

export interface SignedCorim {
  readonly signer: CorimSigner
  /** As they were signed. */
  readonly protectedHeaders: Uint8Array
  /** Nothing where the payload is detached. */
  readonly payload?: Uint8Array
  readonly signature: Uint8Array
}

/**
 * What a signed manifest says of its signer, for finding the key to verify it with: a path from `certificates` to a
 * trust anchor, say.
 *
 * @throws DecodeError `CORIM_TOO_LARGE`, `CORIM_CBOR`; PlatformError `CORIM_TYPE`, `CORIM_VALUE`
 */
export function readCorimSigner(
  octets: Uint8Array,
  limits: CborLimits = CORIM_LIMITS,
): CorimSigner {
  const { isSigned, content } = openCorim(octets, limits)
  if (isSigned) return parseSignedCorim(content, limits).signer
  throw new PlatformError('CORIM_TYPE', 'expected a signed manifest, found an unsigned one')
}

/**
 * COSE_Sign1 around a manifest. The payload is not read.
 *
 * Unprotected headers bear no trust: they must be a map without labels of the protected one, and are not used.
 *
 * @throws DecodeError `CORIM_TOO_LARGE`, `CORIM_CBOR`; PlatformError `CORIM_VALUE`
 * @see RFC 9052, sections 3 and 4.2; draft-ietf-rats-corim-11, section "Signed CoRIM"
 */
export function parseSignedCorim(item: CborItem, limits: CborLimits): SignedCorim {
  const [protectedItem, unprotected, payload, signature]: CborArray = tupleOf(item, 'signed', 4)
  const protectedHeaders = octetsOf(protectedItem, 'signed.protected')
  const headers = mapOf(parseCbor(protectedHeaders, limits), 'signed.protected')
  for (const label of mapOf(unprotected, 'signed.unprotected').keys()) {
    if (headers.has(label)) throw refuse('signed.unprotected', 'each header once', label)
  }
  return {
    signer: signerOf(headers, limits),
    protectedHeaders,
    ...(payload === null ? {} : { payload: octetsOf(payload, 'signed.payload') }),
    signature: octetsOf(signature, 'signed.signature'),
  }
}

function signerOf(headers: CborMap, limits: CborLimits): CorimSigner {
  const read = <T>(label: number, name: string, parse: (item: CborItem, path: string) => T) => {
    const item = headers.get(label)
    return item === undefined ? undefined : parse(item, `signed.protected.${name}`)
  }
  const algorithm = read(LABEL.alg, 'alg', numberOrName)
  if (algorithm === undefined) throw refuse('signed.protected.alg', 'an algorithm', undefined)
  const contentType = read(LABEL.contentType, 'content-type', numberOrName)
  const critical = read(LABEL.crit, 'crit', (list, path) => parseCritical(list, path, headers))
  const kid = read(LABEL.kid, 'kid', parseKid)
  const certificates = read(LABEL.x5chain, 'x5chain', parseChain)
  const meta = read(LABEL.corimMeta, 'corim-meta', (octets, path) =>
    parseMeta(parseCbor(octetsOf(octets, path), limits), path),
  )
  const claims = read(LABEL.cwtClaims, 'cwt-claims', parseClaims)
  return {
    algorithm,
    ...(contentType === undefined ? {} : { contentType }),
    critical: critical ?? [],
    ...(kid ? { kid } : {}),
    certificates: certificates ?? [],
    ...(meta ? { meta } : {}),
    ...(claims ? { claims } : {}),
  }
}

function numberOrName(item: CborItem, path: string): number | string {
  return typeof item === 'number' ? item : nameOf(item, path)
}

function parseCritical(item: CborItem, path: string, headers: CborMap): readonly CborItem[] {
  return listOf(item, path, (label, at) => {
    const isLabel = typeof label === 'number' || typeof label === 'string'
    if (isLabel && headers.has(label)) return label
    throw refuse(at, 'the label of a protected header', label)
  })
}

function parseKid(item: CborItem, path: string): Uint8Array {
  const kid = octetsOf(item, path)
  if (kid.length <= MAX_KID_OCTETS) return kid
  throw refuse(path, `at most ${MAX_KID_OCTETS} octets`, item)
}

/** @see RFC 9360, section 2 (COSE_X509) */
function parseChain(item: CborItem, path: string): readonly Uint8Array[] {
  const list = item instanceof Uint8Array ? [item] : arrayOf(item, path)
  if (list.length > MAX_CERTIFICATES) {
    throw refuse(path, `at most ${MAX_CERTIFICATES} certificates`, item)
  }
  return listOf(list, path, (certificate, at) => {
    const der = octetsOf(certificate, at)
    if (der.length <= MAX_CERTIFICATE_OCTETS) return der
    throw refuse(at, `at most ${MAX_CERTIFICATE_OCTETS} octets`, certificate)
  })
}

/** @see draft-ietf-rats-corim-11, section "Meta Map" */
function parseMeta(item: CborItem, path: string): SignerClaims {
  const members = new Members(item, path)
  const signer = members.required(0, 'signer', (map, at) => {
    const names = new Members(map, at)
    const name = names.required(0, 'signer-name', nameOf)
    const uri = names.optional(1, 'signer-uri', uriOf)
    names.end()
    return { name, ...(uri === undefined ? {} : { uri }) }
  })
  const validity = members.optional(1, 'signature-validity', parseValidity)
  members.end()
  return { ...signer, ...validity }
}

/** Claims other than issuer and dates are not looked at. @see draft-ietf-rats-corim-11, section "CWT Claims" */
function parseClaims(item: CborItem, path: string): SignerClaims {
  const claims = mapOf(item, path)
  const name = nameOf(claims.get(CLAIM.iss), `${path}.iss`)
  const notAfter = claims.get(CLAIM.exp)
  const notBefore = claims.get(CLAIM.nbf)
  return {
    name,
    ...(notBefore === undefined ? {} : { notBeforeMs: secondsOf(notBefore, `${path}.nbf`) }),
    ...(notAfter === undefined ? {} : { notAfterMs: secondsOf(notAfter, `${path}.exp`) }),
  }
}
