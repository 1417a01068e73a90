import type { Assurance, ProviderSettings } from '../../api/key-provider.js'
import { type Finding, failed, passed } from '../../core/finding.js'
import type { AttestationResultClaims } from '../../tokens/index.js'

/** What the store says of a host at this moment. */
export interface CurrentHostStatus {
  readonly state: string
  readonly epoch: number
  readonly policyEpoch: number
}

/**
 * Decides whether a key provider serves a host: every condition, each with what was expected and found.
 *
 * Token and proof are verified already; the status was read in the transaction that records the release.
 */
export function verifyRelease(input: {
  readonly claims: AttestationResultClaims
  readonly status: CurrentHostStatus | undefined
  readonly settings: ProviderSettings
  /** Assurance of the answer; absent where the answer holds no key. */
  readonly assurance: Assurance | undefined
  readonly nowSeconds: number
}): readonly Finding[] {
  const { claims, status, settings, assurance, nowSeconds } = input
  const { sigillo } = claims
  const ageSeconds = nowSeconds - claims.iat
  const earStatus = claims.submods.host.ear_status
  return [
    check(
      'release.status',
      'KEY_HOST_STATUS',
      status?.state === 'trusted' && status.epoch === sigillo.host_epoch,
      'a host that is trusted since this token was issued',
      status ? `${status.state}, epoch ${status.epoch}` : 'no such host',
    ),
    check(
      'release.policy-epoch',
      'KEY_STALE_POLICY',
      status?.policyEpoch === sigillo.policy_epoch,
      `a token under policy epoch ${status?.policyEpoch ?? 'none'}`,
      `epoch ${sigillo.policy_epoch}`,
    ),
    check('release.verdict', 'KEY_VERDICT', earStatus === 'affirming', 'affirming', earStatus),
    check(
      'release.cluster',
      'KEY_CLUSTER',
      settings.clusters.includes(sigillo.cluster),
      'a host of a cluster that this provider serves',
      `a host of ${sigillo.cluster}`,
    ),
    check(
      'release.token-age',
      'KEY_TOKEN_AGE',
      ageSeconds <= settings.maxTokenAgeSeconds,
      `a token of at most ${settings.maxTokenAgeSeconds} s`,
      `${ageSeconds} s`,
    ),
    ...(assurance === undefined ? [] : [verifyAssurance(claims, settings, assurance)]),
  ]
}

function verifyAssurance(
  claims: AttestationResultClaims,
  settings: ProviderSettings,
  assurance: Assurance,
): Finding {
  const name = 'release.assurance'
  if (settings.minimumAssurance === 'tpm' && assurance !== 'tpm') {
    return failed(name, 'KEY_ASSURANCE', 'assurance tpm', assurance)
  }
  if (assurance === 'tpm' && !claims.sigillo.binding_key) {
    return failed(name, 'KEY_ASSURANCE', 'an attested binding key', 'none')
  }
  return passed(name, assurance)
}

function check(
  name: string,
  code: 'KEY_HOST_STATUS' | 'KEY_STALE_POLICY' | 'KEY_VERDICT' | 'KEY_CLUSTER' | 'KEY_TOKEN_AGE',
  holds: boolean,
  expected: string,
  found: string,
): Finding {
  return holds ? passed(name, found) : failed(name, code, expected, found)
}
