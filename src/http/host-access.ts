import type { FastifyRequest } from 'fastify'
import type { Clock } from '../core/clock.js'
import { secondsOf } from '../core/clock.js'
import { isPlatformError, PlatformError } from '../core/errors.js'
import {
  type AttestationResultClaims,
  type DpopProof,
  peekAttestationResult,
  TokenError,
  type VerificationKeys,
  verifyAttestationResult,
  verifyDpopProof,
} from '../tokens/index.js'
import { credentialsOf, singleHeader } from './authorization.js'
import { type Refusal, refusalOf } from './refusal.js'

/** A host that proved possession of the key in its token, for this request. */
export interface HostIdentity {
  readonly claims: AttestationResultClaims
  /** The service records `jti` for `jkt` in the transaction that does the work, until `recordUntilSeconds`. */
  readonly proof: DpopProof
  readonly recordUntilSeconds: number
}

export interface HostAccessOptions {
  /** Scheme and authority that hosts use: `https://authority.example:8440`. Never taken from the request. */
  readonly publicUrl: string
  /** What this service is called in `aud`. */
  readonly audience: string
  /**
   * Keys of an attestation service that is trusted, or nothing. Both arguments are untrusted: an unknown `kid` may
   * be a reason to fetch the key set again, but not for every request.
   */
  readonly keysOf: (issuer: string, kid: string) => Promise<VerificationKeys | undefined>
  readonly clock: Clock
  readonly skewSeconds: number
  readonly proofMaxAgeSeconds: number
  /** Writes the audit record of a refusal; what it throws is what the caller gets. */
  readonly onRefused?: (refusal: Refusal) => Promise<void>
}

export interface HostAccess {
  /**
   * Verifies token and proof of a request, once; a second call gives the same identity.
   *
   * **Does not check** replay of the proof, nor that host and policy are still at the epochs of the token: that is
   * for the transaction that does the work.
   *
   * @throws PlatformError with status 401
   */
  authenticate(request: FastifyRequest): Promise<HostIdentity>
}

/**
 * Attested hosts: `Authorization: DPoP <token>` and `DPoP: <proof>`.
 *
 * @see RFC 9449, section 7.1
 */
export function hostAccess(options: HostAccessOptions): HostAccess {
  const origin = new URL(options.publicUrl).origin
  const known = new WeakMap<FastifyRequest, Promise<HostIdentity>>()
  return {
    authenticate(request) {
      const earlier = known.get(request)
      if (earlier) return earlier
      const identity = verify(request, origin, options).catch(async (error: unknown) => {
        if (isPlatformError(error)) await options.onRefused?.(refusalOf(error, request))
        throw error
      })
      known.set(request, identity)
      return identity
    },
  }
}

async function verify(
  request: FastifyRequest,
  origin: string,
  options: HostAccessOptions,
): Promise<HostIdentity> {
  const accessToken = credentialsOf(request, 'DPoP')
  const proofText = singleHeader(request, 'dpop')
  const { issuer, kid } = peekAttestationResult(accessToken)
  const jwks = await options.keysOf(issuer, kid)
  if (!jwks) throw new TokenError('TOKEN_ISSUER', 'expected an issuer that is trusted here')
  const nowSeconds = secondsOf(options.clock.nowMs())
  const claims = await verifyAttestationResult(accessToken, {
    jwks,
    issuer,
    audience: options.audience,
    nowSeconds,
    skewSeconds: options.skewSeconds,
  })
  const proof = await verifyDpopProof(proofText, {
    method: request.method,
    url: origin + pathOf(request),
    accessToken,
    expectedJkt: claims.cnf.jkt,
    nowSeconds,
    maxAgeSeconds: options.proofMaxAgeSeconds,
  })
  return { claims, proof, recordUntilSeconds: proof.iat + options.proofMaxAgeSeconds + 1 }
}

/** The path as it was sent, before any router decoded it. */
function pathOf(request: FastifyRequest): string {
  const target = request.raw.url ?? ''
  if (!target.startsWith('/')) {
    throw new PlatformError('UNAUTHENTICATED', 'expected a request target in origin form')
  }
  return target.split('?', 1)[0] ?? ''
}
