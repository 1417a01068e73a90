import type { Policy } from '../api/policies.js'
import { toHex } from '../core/bytes.js'
import type { ErrorCode } from '../core/error-codes.js'
import { type Finding, failed, passed } from '../core/finding.js'
import { matchesPattern } from '../core/pattern.js'
import type { BootQuestions, BootSummary } from '../eventlog/index.js'

/**
 * Compares what was booted with the rules of a policy. A rule that is not in the policy is not looked at; what a rule
 * asks for and the log does not prove is a failure.
 */
export function appraiseBoot(policy: Policy, boot: BootSummary | undefined): readonly Finding[] {
  return [
    ...(policy.requireSecureBoot ? [appraiseSecureBoot(boot)] : []),
    ...appraiseApplications(policy, boot),
    ...appraiseText('boot.kernel', 'BOOT_KERNEL', policy.kernels, boot?.kernel),
    ...appraiseText(
      'boot.command-line',
      'BOOT_COMMAND_LINE',
      policy.commandLines,
      boot?.commandLine,
    ),
    ...appraiseText(
      'boot.firmware',
      'BOOT_FIRMWARE',
      policy.firmwareVersions,
      boot?.firmwareVersion,
    ),
    ...appraiseDbx(policy, boot),
  ]
}

/** What the summary of a boot must hold for the rules of a policy. */
export function bootQuestions({ dbxAtLeast }: Policy): BootQuestions {
  return { dbx: dbxAtLeast !== undefined }
}

function appraiseSecureBoot(boot: BootSummary | undefined): Finding {
  const secureBoot = boot?.secureBoot ?? 'unknown'
  return secureBoot === 'on'
    ? passed('secure-boot', 'on')
    : failed('secure-boot', 'SECURE_BOOT_OFF', 'Secure Boot on', secureBoot)
}

/** Every boot application must be one of the allowed ones, by the digest that was measured: its name is the host's word. */
function appraiseApplications(policy: Policy, boot: BootSummary | undefined): readonly Finding[] {
  const { bootApplications: allowed, bank } = policy
  if (!allowed) return []
  const check = 'boot.application'
  const expected = 'a boot application that the policy names'
  const started = boot?.bootApplications ?? []
  if (started.length === 0) return [failed(check, 'BOOT_APPLICATION', expected, 'none at all')]
  const digests = new Map(allowed.map(({ digest, name }) => [digest, name]))
  return started.map(({ name, digests: measured, event }) => {
    const octets = measured.get(bank)
    const digest = octets ? toHex(octets) : 'no digest'
    return digests.has(digest)
      ? passed(check, `${name} (${digests.get(digest) ?? digest})`)
      : failed(check, 'BOOT_APPLICATION', expected, `${name} ${bank}:${digest}`, { pcr: 4, event })
  })
}

function appraiseText(
  check: string,
  code: ErrorCode,
  patterns: readonly string[] | undefined,
  found: string | undefined,
): readonly Finding[] {
  if (!patterns) return []
  const expected = patterns.join(' or ')
  if (found === undefined) return [failed(check, code, expected, 'nothing that the log proves')]
  return patterns.some((pattern) => matchesPattern(found, pattern))
    ? [passed(check, found)]
    : [failed(check, code, expected, found)]
}

/** The forbidden signatures must have at least these hashes: an older dbx lets revoked boot loaders start. */
function appraiseDbx({ dbxAtLeast }: Policy, boot: BootSummary | undefined): readonly Finding[] {
  if (!dbxAtLeast) return []
  const check = 'boot.dbx'
  const dbx = boot?.dbx
  if (!dbx?.covered) {
    return [failed(check, 'BOOT_DBX', 'the forbidden signatures, as measured', 'none')]
  }
  const held = new Set(dbx.hashes)
  const missing = dbxAtLeast.filter((hash) => !held.has(hash))
  const [first] = missing
  return first === undefined
    ? [passed(check, `${dbx.hashes.length} hashes`)]
    : [
        failed(check, 'BOOT_DBX', `${first} among the forbidden`, `${missing.length} missing`, {
          pcr: 7,
        }),
      ]
}
