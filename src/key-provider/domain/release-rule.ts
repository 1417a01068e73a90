import type { Assurance, ProviderSettings, Purpose } from '../../api/key-provider.js'
import type { ErrorCode } from '../../core/error-codes.js'
import { PlatformError } from '../../core/errors.js'
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
    verifyCluster(settings, sigillo.cluster),
    verifyHours(settings, nowSeconds),
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

/**
 * What can be said without a token: whether the host is trusted, of a cluster that is served, and at a time that is.
 *
 * **Does not check** token, proof, assurance and purpose, which a request brings.
 */
export function explainRelease(input: {
  readonly status: CurrentHostStatus & { readonly cluster: string }
  readonly settings: ProviderSettings
  readonly hasActiveVersion: boolean
  readonly nowSeconds: number
}): readonly Finding[] {
  const { status, settings } = input
  return [
    check(
      'release.status',
      'KEY_HOST_STATUS',
      status.state === 'trusted',
      'a host that is trusted',
      `${status.state}, epoch ${status.epoch}`,
    ),
    verifyCluster(settings, status.cluster),
    verifyHours(settings, input.nowSeconds),
    check(
      'release.key',
      'KEY_STATE',
      input.hasActiveVersion,
      'an active version of the primary key',
      input.hasActiveVersion ? 'one' : 'none',
    ),
    passed('release.token-age', `at most ${settings.maxTokenAgeSeconds} s: for a request to show`),
    passed('release.assurance', `at least ${settings.minimumAssurance}: for a request to show`),
    passed('release.purpose', settings.purposes?.join(', ') ?? 'any'),
  ]
}

/** @throws PlatformError `KEY_PURPOSE` */
export function requirePurpose({ purposes }: ProviderSettings, purpose: Purpose): void {
  if (purposes === undefined || purposes.includes(purpose)) return
  const expected = `expected a key for ${purposes.join(' or ')}`
  throw new PlatformError('KEY_PURPOSE', `${expected}, found ${purpose}`)
}

function verifyCluster({ clusters }: ProviderSettings, cluster: string): Finding {
  return check(
    'release.cluster',
    'KEY_CLUSTER',
    clusters.includes(cluster),
    'a host of a cluster that this provider serves',
    `a host of ${cluster}`,
  )
}

/** Both ends of the hours are of the day on which they begin. */
function verifyHours({ hours }: ProviderSettings, nowSeconds: number): Finding {
  if (!hours) return passed('release.hours', 'any')
  const now = new Date(nowSeconds * 1000)
  const clock = now.toISOString().slice(11, 16)
  const overMidnight = hours.to <= hours.from
  const isAfterMidnight = overMidnight && clock < hours.to
  const day = ((now.getUTCDay() + 6 - (isAfterMidnight ? 1 : 0)) % 7) + 1
  const within = overMidnight
    ? clock >= hours.from || clock < hours.to
    : clock >= hours.from && clock < hours.to
  return check(
    'release.hours',
    'KEY_HOURS',
    within && (hours.days?.includes(day) ?? true),
    `${hours.from} to ${hours.to} UTC${hours.days ? ` on days ${hours.days.join(', ')}` : ''}`,
    `${clock} UTC on day ${day}`,
  )
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
  code: ErrorCode,
  holds: boolean,
  expected: string,
  found: string,
): Finding {
  return holds ? passed(name, found) : failed(name, code, expected, found)
}
