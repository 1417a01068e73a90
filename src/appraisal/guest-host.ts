import { isPlatformError } from '../core/errors.js'
import { type Finding, failed, passed } from '../core/finding.js'
import type { VtpmNames } from '../pki/index.js'
import {
  type AttestationResultClaims,
  TokenError,
  type VerificationKeys,
  verifyAttestationResult,
  verifyPlacement,
} from '../tokens/index.js'
import type { DecodedGuestEvidence } from './guest-evidence.js'

export interface GuestHostVerdict {
  readonly findings: readonly Finding[]
  /** What the attestation service said of the host; absent where its token does not verify. */
  readonly claims?: AttestationResultClaims
}

/**
 * Verifies the word of the host that a VM runs on: its attestation result, its statement about this VM, this nonce and
 * these keys, and that the virtual TPM was certified for this host and no other.
 *
 * The last is what keeps an attested host that lies from having a VM of another host: the authority of virtual TPMs
 * certifies for the host that the VM belongs to.
 *
 * **Does not check** whether the host is trusted now.
 *
 * @param input.names what the certificate of the virtual TPM says
 */
export async function verifyGuestHost(
  evidence: DecodedGuestEvidence,
  input: {
    readonly names: VtpmNames | undefined
    readonly verifier: string
    readonly jwks: VerificationKeys
    /** One of the audiences that the token of the host has to be for. */
    readonly audience: string
    readonly nowSeconds: number
    readonly skewSeconds: number
    readonly maxAgeSeconds: number
  },
): Promise<GuestHostVerdict> {
  const { host } = evidence
  if (!host) {
    const expected = 'the word of the host that runs the VM'
    return { findings: [failed('host.token', 'GUEST_HOST_MISSING', expected, 'none')] }
  }
  const { verifier, nowSeconds } = input
  let claims: AttestationResultClaims
  try {
    claims = await verifyAttestationResult(host.token, {
      jwks: input.jwks,
      issuer: verifier,
      audience: input.audience,
      nowSeconds,
      skewSeconds: input.skewSeconds,
    })
  } catch (error) {
    return { findings: [refusedBy('host.token', 'an attestation result of the host', error)] }
  }
  const findings: Finding[] = [passed('host.token', `host ${claims.sub}, ${claims.jti}`)]
  try {
    await verifyPlacement(host.placement, {
      verifier,
      vmId: evidence.vmId,
      nonce: evidence.nonce,
      ekPublic: evidence.ekPublic,
      akPublic: evidence.akPublic,
      hostToken: host.token,
      jkt: claims.cnf.jkt,
      nowSeconds,
      maxAgeSeconds: input.maxAgeSeconds,
    })
    findings.push(passed('host.placement'))
  } catch (error) {
    findings.push(refusedBy('host.placement', 'a statement of this host about this VM', error))
  }
  const certified = input.names?.hostId
  findings.push(
    certified === claims.sub
      ? passed('host.certificate', claims.sub)
      : failed(
          'host.certificate',
          'GUEST_HOST',
          `a virtual TPM that was certified for host ${claims.sub}`,
          `one for host ${certified ?? 'unknown'}`,
        ),
  )
  return { findings, claims }
}

function refusedBy(check: string, expected: string, error: unknown): Finding {
  if (!(error instanceof TokenError) && !isPlatformError(error)) throw error
  return failed(check, error.code, expected, error.message)
}
