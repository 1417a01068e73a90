import type { ErrorCode } from '../../core/error-codes.js'
import { isPlatformError } from '../../core/errors.js'
import {
  type AttestationResultClaims,
  type VerificationKeys,
  verifyAttestationResult,
} from '../../tokens/index.js'
import type { AttestationStore, AttestationTransaction } from '../ports.js'

export type Introspection =
  | { readonly active: true; readonly claims: AttestationResultClaims }
  | { readonly active: false; readonly code: string; readonly reason: string }

/**
 * Whether a token counts now: signature and times, and what may have changed since it was issued (host, policy, the
 * token itself).
 *
 * @see RFC 7662, section 2.2; the reason is told, since only administrators and auditors ask
 */
export async function introspect(
  deps: {
    readonly store: AttestationStore
    readonly keys: () => VerificationKeys
    readonly issuer: string
    readonly audiences: readonly string[]
  },
  token: string,
  nowMs: number,
): Promise<Introspection> {
  const [audience = ''] = deps.audiences
  let claims: AttestationResultClaims
  try {
    claims = await verifyAttestationResult(token, {
      jwks: deps.keys(),
      issuer: deps.issuer,
      audience,
      nowSeconds: Math.floor(nowMs / 1000),
      skewSeconds: 0,
    })
  } catch (error) {
    if (!isPlatformError(error)) throw error
    return { active: false, code: error.code, reason: error.message }
  }
  return deps.store.transaction(async (tx) => {
    const reason = await whyNotNow(tx, claims)
    return reason ? { active: false, ...reason } : { active: true, claims }
  })
}

/** Why a token that verifies does not count any more: what happened to it, its host or its policy since. */
export async function whyNotNow(
  tx: AttestationTransaction,
  claims: AttestationResultClaims,
): Promise<{ readonly code: ErrorCode; readonly reason: string } | undefined> {
  if (await tx.isTokenRevoked(claims.jti)) {
    return { code: 'TOKEN_REVOKED', reason: 'the token was revoked' }
  }
  const host = await tx.findHost(claims.sub)
  if (host?.state !== 'trusted') {
    return { code: 'HOST_STATUS', reason: `the host is ${host?.state ?? 'not enrolled'}` }
  }
  if (host.epoch !== claims.sigillo.host_epoch) {
    const reason = 'the host was revoked or enrolled anew since'
    return { code: 'HOST_STATUS', reason }
  }
  const policyEpoch = (await tx.findPolicy(host.cluster))?.epoch ?? 0
  if (policyEpoch !== claims.sigillo.policy_epoch) {
    return { code: 'KEY_STALE_POLICY', reason: 'the policy has changed since' }
  }
  return undefined
}
