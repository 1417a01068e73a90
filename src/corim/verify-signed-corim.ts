import { type KeyObject, X509Certificate } from 'node:crypto'
import { toHex, view } from '../core/bytes.js'
import { isoTime } from '../core/clock.js'
import { type FailedFinding, type Finding, failed, failures, passed } from '../core/finding.js'
import type { CborLimits } from './cbor.js'
import { describeItem } from './cbor-fields.js'
import { COSE_ALGORITHMS, findSigningKey } from './cose-signature.js'
import type { Corim } from './manifest.js'
import { CORIM_LIMITS, CORIM_PROFILES, openCorim, parseCorim } from './parse-corim.js'
import {
  type CorimSigner,
  parseSignedCorim,
  type SignerClaims,
  UNDERSTOOD_LABELS,
} from './signed-corim.js'

const CONTENT_TYPE = 'application/rim+cbor'

export interface CorimVerdict {
  readonly findings: readonly Finding[]
  /** There if and only if every finding is good: what is not trusted is not handed out. */
  readonly manifest?: Corim
  /** What the headers claim, also where they are not proved; nothing where the manifest is unsigned. */
  readonly signer?: CorimSigner
}

/**
 * Verifies that one of these keys signed a manifest, for now, and reads it.
 *
 * Checked are the signature over the octets as they stand, its algorithm, content type and critical headers, that a
 * certificate in the headers is of the key that signed and is valid now, that the signer is named and in one way, and
 * the dates of signature and manifest. The payload is read only after everything before was found good.
 *
 * **Does not check** that the signer may speak for the makers that the manifest names, whether a certificate has a path
 * to an anchor (see `readCorimSigner`), and revocation. Detached payloads and hash envelopes are not accepted. An
 * unsigned manifest gets the one finding `CORIM_UNSIGNED`.
 *
 * @param input.keys see `readCorimKey`
 * @throws DecodeError `CORIM_TOO_LARGE`, `CORIM_CBOR`
 * @throws PlatformError `CORIM_TYPE`, `CORIM_VALUE`, and `CORIM_PROFILE` for what a trusted key signed
 * @see draft-ietf-rats-corim-11, section "Signed CoRIM"; RFC 9052, section 4.4
 */
export function verifySignedCorim(
  octets: Uint8Array,
  input: {
    readonly keys: readonly KeyObject[]
    readonly nowMs: number
    readonly limits?: CborLimits
    readonly profiles?: readonly string[]
  },
): CorimVerdict {
  const { keys, nowMs, limits = CORIM_LIMITS, profiles = CORIM_PROFILES } = input
  const { isSigned, content } = openCorim(octets, limits)
  if (!isSigned) {
    const finding = failed('corim.signed', 'CORIM_UNSIGNED', 'a signed manifest', 'an unsigned one')
    return { findings: [finding] }
  }
  const signed = parseSignedCorim(content, limits)
  const { signer, payload } = signed
  const key = findSigningKey(signed, keys)
  const before = [
    passed('corim.signed'),
    verifyContentType(signer),
    verifyCritical(signer),
    verifyAlgorithm(signer),
    payload
      ? verifySigner(key, keys)
      : failed('corim.signature', 'CORIM_PAYLOAD', 'an enclosed manifest', 'a detached one'),
    ...(key ? verifyCertificate(signer, key, nowMs) : []),
    ...verifyMeta(signer, nowMs),
  ]
  if (!payload || failures(before).length > 0) return { findings: before, signer }
  const manifest = parseCorim(payload, limits, profiles)
  const findings = [...before, verifyCorimValidity(manifest, nowMs)]
  return failures(findings).length > 0 ? { findings, signer } : { findings, manifest, signer }
}

/** Whether a manifest is valid now by its own dates. Without any it is. */
export function verifyCorimValidity({ validity }: Corim, nowMs: number): Finding {
  return verifyDates('corim.validity', validity ?? {}, nowMs)
}

function verifyContentType({ contentType }: CorimSigner): Finding {
  if (contentType === CONTENT_TYPE) return passed('corim.content-type')
  const found = contentType === undefined ? 'none' : describeItem(contentType)
  return failed('corim.content-type', 'CORIM_CONTENT_TYPE', CONTENT_TYPE, found)
}

function verifyCritical({ critical }: CorimSigner): Finding {
  const unknown = critical.filter((label) => !UNDERSTOOD_LABELS.has(label))
  if (unknown.length === 0) return passed('corim.critical')
  const found = unknown.slice(0, 10).map(describeItem).join(', ')
  return failed('corim.critical', 'CORIM_CRITICAL', 'critical headers that are known', found)
}

function verifyAlgorithm({ algorithm }: CorimSigner): Finding {
  const known = COSE_ALGORITHMS.get(algorithm)
  if (known) return passed('corim.algorithm', known.name)
  const names = [...COSE_ALGORITHMS.values()].map(({ name }) => name).join(', ')
  return failed('corim.algorithm', 'CORIM_ALGORITHM', names, describeItem(algorithm))
}

function verifySigner(key: KeyObject | undefined, keys: readonly KeyObject[]): Finding {
  if (key) return passed('corim.signature')
  return failed(
    'corim.signature',
    'CORIM_SIGNATURE',
    'a signature by a trusted key',
    `none that one of ${keys.length} keys made`,
  )
}

function verifyCertificate(
  { certificates: [der] }: CorimSigner,
  key: KeyObject,
  nowMs: number,
): readonly Finding[] {
  if (!der) return []
  const check = 'corim.certificate'
  const wrong = (expected: string, found: string): readonly FailedFinding[] => [
    failed(check, 'CORIM_CERTIFICATE', expected, found),
  ]
  const certificate = openCertificate(der)
  if (!certificate) return wrong('an X.509 certificate', toHex(der.subarray(0, 20)))
  if (!certificate.publicKey.equals(key)) return wrong('the key that signed', 'another key')
  const [from, to] = [Date.parse(certificate.validFrom), Date.parse(certificate.validTo)]
  if (nowMs < from || nowMs > to) {
    return wrong('a certificate that is valid now', `${isoTime(from)} to ${isoTime(to)}`)
  }
  return [passed(check, certificate.subject.replaceAll('\n', ', '))]
}

function openCertificate(der: Uint8Array): X509Certificate | undefined {
  try {
    return new X509Certificate(view(der))
  } catch {
    return undefined // the finding says so
  }
}

/**
 * Who signed, and for how long. Both forms may be there where they say the same.
 *
 * @see draft-ietf-rats-corim-11, section "Protected Header Map"
 */
function verifyMeta({ meta, claims }: CorimSigner, nowMs: number): readonly Finding[] {
  const said = meta ?? claims
  if (!said) {
    return [failed('corim.meta', 'CORIM_META', 'corim-meta or CWT claims', 'neither')]
  }
  const dates = verifyDates('corim.signature-validity', said, nowMs)
  if (meta && claims && !saySame(meta, claims)) {
    const found = `${JSON.stringify(meta.name)} and ${JSON.stringify(claims.name)}, or other dates`
    return [failed('corim.meta', 'CORIM_META', 'one signer with the same dates', found), dates]
  }
  return [passed('corim.meta', said.name), dates]
}

function saySame(meta: SignerClaims, claims: SignerClaims): boolean {
  return (
    meta.name === claims.name &&
    meta.notBeforeMs === claims.notBeforeMs &&
    meta.notAfterMs === claims.notAfterMs
  )
}

function verifyDates(
  check: string,
  { notBeforeMs, notAfterMs }: { readonly notBeforeMs?: number; readonly notAfterMs?: number },
  nowMs: number,
): Finding {
  if (notAfterMs !== undefined && nowMs > notAfterMs) {
    return failed(check, 'CORIM_EXPIRED', 'valid now', `${isoTime(notAfterMs)} as its end`)
  }
  if (notBeforeMs !== undefined && nowMs < notBeforeMs) {
    const found = `${isoTime(notBeforeMs)} as its beginning`
    return failed(check, 'CORIM_NOT_YET_VALID', 'valid now', found)
  }
  return passed(check, notAfterMs === undefined ? 'no end' : `until ${isoTime(notAfterMs)}`)
}
