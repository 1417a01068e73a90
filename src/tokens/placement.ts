import { CompactSign, compactVerify, errors } from 'jose'
import { timingSafeEqual, toBase64url, utf8 } from '../core/bytes.js'
import { digestOf } from '../core/digest.js'
import { type JsonObject, parseJsonPart, requireMembers, splitCompact } from './compact.js'
import { quoted, requireSeconds, TokenError } from './errors.js'
import { importPublicJwk, jwkThumbprint, readPublicJwk } from './public-key.js'
import type { SessionKey } from './signing-key.js'

const PLACEMENT_TYPE = 'sigillo-placement+jwt'
const MAX_CHARACTERS = 4096
const CODES = { malformed: 'PLACEMENT_MALFORMED', tooLarge: 'PLACEMENT_MALFORMED' } as const
const MEMBERS = ['aud', 'vm', 'nonce', 'ek', 'ak', 'iat', 'ath'] as const
/** A statement is made when evidence is sent: as old as a nonce may get. */
const MAX_AGE_SECONDS = 600

/** What a host states: it runs this VM now, and these are keys of its virtual TPM. */
export interface Placement {
  /** Identifier of the attestation service that the statement is for. */
  readonly verifier: string
  readonly vmId: string
  readonly nonce: Uint8Array
  /** TPMT_PUBLIC of the endorsement key of the virtual TPM. */
  readonly ekPublic: Uint8Array
  /** TPMT_PUBLIC of the attestation key of the guest. */
  readonly akPublic: Uint8Array
  /** The attestation result of the host, whose key signs. */
  readonly hostToken: string
}

/**
 * A statement of a host about a VM that it runs, signed by the key that its token is bound to.
 *
 * It is of use for one nonce, one VM and one attestation service. What it says is the host's word, as good as the host.
 */
export async function createPlacement(
  placement: Placement,
  key: SessionKey,
  nowSeconds: number,
): Promise<string> {
  requireSeconds('nowSeconds', nowSeconds)
  const { kty, crv, x, y } = key.publicJwk
  return new CompactSign(utf8(JSON.stringify({ ...claimsOf(placement), iat: nowSeconds })))
    .setProtectedHeader({ typ: PLACEMENT_TYPE, alg: 'ES256', jwk: { kty, crv, x, y } })
    .sign(key.privateKey)
}

/**
 * Verifies that the host of a token stated just this.
 *
 * **Does not check** the token itself, nor whether the host may speak for this VM: see `verifyVtpmCertificate`.
 *
 * @param expected.hostToken verified by the caller
 * @param expected.jkt `cnf.jkt` of it
 * @throws TokenError one `PLACEMENT_*` code for each check
 */
export async function verifyPlacement(
  statement: string,
  expected: Placement & {
    readonly jkt: string
    readonly nowSeconds: number
    readonly maxAgeSeconds: number
  },
): Promise<void> {
  requireSeconds('nowSeconds', expected.nowSeconds)
  requireSeconds('maxAgeSeconds', expected.maxAgeSeconds, MAX_AGE_SECONDS)
  const [headerOctets, payload] = splitCompact(statement, 3, MAX_CHARACTERS, CODES)
  if (headerOctets === undefined || payload === undefined) throw new TypeError('three parts')
  await verifySignature(statement, headerOctets, expected.jkt)
  const claims = parseJsonPart(payload, 'the claims', 'PLACEMENT_MALFORMED')
  requireMembers(claims, MEMBERS, 'the claims', 'PLACEMENT_MALFORMED')
  checkClaims(claims, expected)
  checkTime(claims['iat'], expected)
}

function claimsOf({ verifier, vmId, nonce, ekPublic, akPublic, hostToken }: Placement) {
  return {
    aud: verifier,
    vm: vmId,
    nonce: toBase64url(nonce),
    ek: sha256(ekPublic),
    ak: sha256(akPublic),
    ath: sha256(utf8(hostToken)),
  }
}

async function verifySignature(statement: string, header: Uint8Array, jkt: string): Promise<void> {
  const members = parseJsonPart(header, 'the header', 'PLACEMENT_MALFORMED')
  requireMembers(members, ['typ', 'alg', 'jwk'], 'the header', 'PLACEMENT_MALFORMED')
  const { typ, alg, jwk: given } = members
  if (typ !== PLACEMENT_TYPE || alg !== 'ES256') {
    const found = `${quoted(typ)} by ${quoted(alg)}`
    throw new TokenError(
      'PLACEMENT_MALFORMED',
      `expected ${PLACEMENT_TYPE} by ES256, found ${found}`,
    )
  }
  const jwk = readPublicJwk(given, 'PLACEMENT_KEY')
  const found = jwkThumbprint(jwk)
  if (!timingSafeEqual(utf8(found), utf8(jkt))) {
    const message = `expected the key that the token of the host is bound to, found ${found}`
    throw new TokenError('PLACEMENT_KEY', message)
  }
  try {
    const key = await importPublicJwk(jwk, 'ES256', 'PLACEMENT_KEY')
    await compactVerify(statement, key, { algorithms: ['ES256'] })
  } catch (cause) {
    if (!(cause instanceof errors.JOSEError)) throw cause
    const message = 'expected a signature by the key of the host'
    throw new TokenError('PLACEMENT_SIGNATURE', message, { cause })
  }
}

function checkClaims(claims: JsonObject, expected: Placement): void {
  for (const [name, value] of Object.entries(claimsOf(expected))) {
    if (claims[name] === value) continue
    const message = `expected ${value} as ${name}, found ${quoted(claims[name])}`
    throw new TokenError('PLACEMENT_CLAIMS', message)
  }
}

function checkTime(
  iat: unknown,
  { nowSeconds, maxAgeSeconds }: { readonly nowSeconds: number; readonly maxAgeSeconds: number },
): void {
  const isTime = typeof iat === 'number' && Number.isSafeInteger(iat)
  if (!isTime || Math.abs(nowSeconds - iat) > maxAgeSeconds) {
    const message = `expected a statement made within ${maxAgeSeconds} s of ${nowSeconds}, found ${quoted(iat)}`
    throw new TokenError('PLACEMENT_TIME', message)
  }
}

function sha256(octets: Uint8Array): string {
  return toBase64url(digestOf('sha256', octets))
}
