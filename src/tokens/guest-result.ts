import { Compile } from 'typebox/compile'
import { canonicalJson } from '../core/canonical-json.js'
import { verifyAttestationResult } from './attestation-result.js'
import type { AttestationResultClaims } from './attestation-result-claims.js'
import { claimsOfProfile, requireProfile } from './claims-form.js'
import { parseJsonPart } from './compact.js'
import { requireSeconds, TokenError } from './errors.js'
import { type GuestResultClaims, GuestResultSchema } from './guest-result-claims.js'
import {
  checkParties,
  checkTimes,
  keyFor,
  MAX_SKEW_SECONDS,
  signIssuedToken,
  splitIssuedToken,
  type TokenExpectations,
  type TokenForm,
  verifyTokenSignature,
} from './issued-token.js'
import type { SigningKey } from './signing-key.js'

/** A type of its own: nobody who wants the token of a host takes that of a VM, or the reverse. */
const FORM: TokenForm = { type: 'guest-attest-result+jwt', maxCharacters: 16_384 }

const schema = Compile(GuestResultSchema)

export interface GuestResultExpectations extends TokenExpectations {
  /** The VM that the token has to be about; any where it is left out. */
  readonly vmId?: string | undefined
}

/** What a token about a VM says, with the token of the host that is in it: both verified. */
export interface GuestResult {
  readonly vm: GuestResultClaims
  readonly host: AttestationResultClaims
}

/** The token of these claims. Throws `TypeError` on claims that `verifyGuestResult` would refuse for their shape. */
export async function signGuestResult(claims: GuestResultClaims, key: SigningKey): Promise<string> {
  requireProfile(schema, claims)
  return signIssuedToken(claims, key, FORM)
}

/**
 * What a token says of a VM and of the host that runs it, once all of it is verified.
 *
 * The token of the host inside is verified as `verifyAttestationResult` does it, by the same issuer; it has to be the one
 * of the host that is named, its appraisal has to be the submodule `host`, and the token about the VM may not outlive it.
 *
 * **Does not check** what the verifier found, `insecure_test`, whether host, VM or policies have moved on, replay, nor the
 * possession of any key: without `cnf` the token is a report and lets nobody in.
 *
 * @throws TokenError `TOKEN_*`: those of `verifyAttestationResult` for the token itself; `TOKEN_VM`; `TOKEN_HOST_EXPIRED` and
 *   `TOKEN_HOST_PART` for the token inside, with its own code as the cause
 */
export async function verifyGuestResult(
  token: string,
  expected: GuestResultExpectations,
): Promise<GuestResult> {
  requireSeconds('nowSeconds', expected.nowSeconds)
  requireSeconds('skewSeconds', expected.skewSeconds, MAX_SKEW_SECONDS)
  const { header, payload } = splitIssuedToken(token, FORM)
  await verifyTokenSignature(token, keyFor(header, expected.jwks))
  const vm = parseClaims(payload)
  checkParties(vm, expected)
  checkTimes(vm, expected)
  checkVm(vm, expected.vmId)
  const host = await verifyHostPart(vm, expected)
  return { vm, host }
}

function parseClaims(payload: Uint8Array): GuestResultClaims {
  const claims = parseJsonPart(payload, 'the claims', 'TOKEN_MALFORMED')
  return claimsOfProfile(schema, claims)
}

function checkVm({ sub, sigillo }: GuestResultClaims, vmId: string | undefined): void {
  if (sub !== `urn:uuid:${sigillo.vm.id}`) {
    throw new TokenError('TOKEN_CLAIMS', `expected ${sigillo.vm.id} as the subject`)
  }
  if (vmId !== undefined && sigillo.vm.id !== vmId) {
    throw new TokenError('TOKEN_VM', `expected a token about VM ${vmId}, found ${sigillo.vm.id}`)
  }
}

async function verifyHostPart(
  { exp, submods, sigillo }: GuestResultClaims,
  expected: TokenExpectations,
): Promise<AttestationResultClaims> {
  let host: AttestationResultClaims
  try {
    host = await verifyAttestationResult(sigillo.host.token, expected)
  } catch (cause) {
    if (!(cause instanceof TokenError)) throw cause
    const code = cause.code === 'TOKEN_EXPIRED' ? 'TOKEN_HOST_EXPIRED' : 'TOKEN_HOST_PART'
    throw new TokenError(code, `the token of the host: ${cause.message}`, { cause })
  }
  const refuse = (message: string) => new TokenError('TOKEN_HOST_PART', message)
  if (host.sub !== sigillo.host.id) {
    throw refuse(`expected the token of host ${sigillo.host.id}, found that of ${host.sub}`)
  }
  if (exp > host.exp) {
    throw refuse(`expected a token that ends with that of the host at ${host.exp}, found ${exp}`)
  }
  if (canonicalJson(submods.host) !== canonicalJson(host.submods.host)) {
    throw refuse('expected the appraisal of the host as its token has it, found another')
  }
  if (host.sigillo.insecure_test && !sigillo.insecure_test) {
    throw refuse('expected the mark of a test authority that the host has')
  }
  return host
}
