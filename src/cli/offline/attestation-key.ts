import { createPublicKey, type KeyObject } from 'node:crypto'
import { fromBase64url, view } from '../../core/bytes.js'
import { DecodeError, isPlatformError, messageOf } from '../../core/errors.js'
import { type Finding, passed } from '../../core/finding.js'
import {
  attributesOf,
  type EccCurve,
  type PublicArea,
  parsePublicArea,
  parseTpm2bPublic,
  type Signature,
  verifyAttestationKey,
} from '../../tpm/index.js'

export interface AttestationKeyFile {
  readonly area: PublicArea
  /** What the file itself proves of the key. */
  readonly findings: readonly Finding[]
}

/**
 * An attestation key as tools write it: TPM2B_PUBLIC (`tpm2_createak -u`), TPMT_PUBLIC, or SubjectPublicKeyInfo as PEM
 * or DER.
 *
 * A SubjectPublicKeyInfo says neither what the key may be used for nor its scheme: the scheme is then taken from the
 * signature, and the finding says that nothing is known of the attributes. A key without `restricted` would sign any
 * octets, also some that look like a quote.
 *
 * @throws DecodeError `DECODE_VALUE` where it is none of these
 */
export function parseAttestationKey(octets: Uint8Array, signature: Signature): AttestationKeyFile {
  const area = firstReadable([() => parseTpm2bPublic(octets), () => parsePublicArea(octets)])
  if (area) return { area, findings: verifyAttestationKey(area) }
  return {
    area: areaOf(readKey(octets), signature),
    findings: [
      passed('ak.attributes', 'not known: the file holds a public key and no public area'),
    ],
  }
}

function firstReadable<T>(readers: readonly (() => T)[]): T | undefined {
  for (const read of readers) {
    try {
      return read()
    } catch (error) {
      if (!isPlatformError(error)) throw error
    }
  }
  return undefined
}

function readKey(octets: Uint8Array): KeyObject {
  const isPem = Buffer.from(octets.subarray(0, 11)).toString('latin1') === '-----BEGIN '
  try {
    return createPublicKey(
      isPem ? { key: view(octets) } : { key: view(octets), format: 'der', type: 'spki' },
    )
  } catch (cause) {
    const message = `expected TPM2B_PUBLIC, TPMT_PUBLIC, PEM or DER of a public key: ${messageOf(cause)}`
    throw new DecodeError('DECODE_VALUE', 0, message, { cause })
  }
}

const SIGNING_KEY = attributesOf((name) => name === 'sign')

function areaOf(key: KeyObject, signature: Signature): PublicArea {
  const base = {
    nameAlg: 'sha256',
    attributes: SIGNING_KEY,
    authPolicy: new Uint8Array(),
    scheme: { kind: signature.kind, hash: signature.hash },
  } as const
  const { kty, n, e, crv, x, y } = key.export({ format: 'jwk' })
  if (kty === 'RSA' && n !== undefined && e !== undefined) {
    const modulus = fromBase64url(n)
    const exponent = fromBase64url(e).reduce((value, octet) => value * 256 + octet, 0)
    return { ...base, type: 'rsa', keyBits: modulus.length * 8, exponent, modulus }
  }
  if (kty === 'EC' && isCurve(crv) && x !== undefined && y !== undefined) {
    return { ...base, type: 'ecc', curve: crv, x: fromBase64url(x), y: fromBase64url(y) }
  }
  throw new DecodeError('DECODE_VALUE', 0, 'expected an RSA key or one on P-256, P-384 or P-521')
}

function isCurve(name: string | undefined): name is EccCurve {
  return name === 'P-256' || name === 'P-384' || name === 'P-521'
}
