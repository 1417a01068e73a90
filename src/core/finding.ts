import type { ErrorCode } from './error-codes.js'

/**
 * What one check of a verifier found.
 *
 * A verifier reports every check that it could make and does not stop at the first that failed. `check` names the
 * check for good (`quote.magic`, `pcr.digest`), `code` is the stable reason of a refusal, `expected` and `found` are
 * for the administrator who has to understand it.
 */
export type Finding = PassedFinding | FailedFinding

export interface PassedFinding {
  readonly check: string
  readonly ok: true
  readonly found?: string
}

export interface FailedFinding {
  readonly check: string
  readonly ok: false
  readonly code: ErrorCode
  readonly expected: string
  readonly found: string
  /** The PCR that it is about. */
  readonly pcr?: number
  /** Index of the event in the log, from 0. */
  readonly event?: number
}

export function passed(check: string, found?: string): PassedFinding {
  return found === undefined ? { check, ok: true } : { check, ok: true, found }
}

export function failed(
  check: string,
  code: ErrorCode,
  expected: string,
  found: string,
  where?: { readonly pcr?: number; readonly event?: number },
): FailedFinding {
  return { check, ok: false, code, expected, found, ...where }
}

export function failures(findings: readonly Finding[]): readonly FailedFinding[] {
  return findings.filter((finding) => !finding.ok)
}

/** One sentence for a person: `quote.nonce: expected …, found … (QUOTE_NONCE)`. */
export function describeFinding(finding: Finding): string {
  if (finding.ok) return `${finding.check}: ok${finding.found ? ` (${finding.found})` : ''}`
  return `${finding.check}: expected ${finding.expected}, found ${finding.found} (${finding.code})`
}
