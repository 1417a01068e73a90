import type { ConnectionFinding } from '../api/key-servers.js'
import type { ErrorCode } from '../core/error-codes.js'

/** Notes what the steps of a test find at one server. */
export interface Report {
  readonly findings: readonly ConnectionFinding[]
  ok(step: ConnectionFinding['step'], message: string): void
  warning(step: ConnectionFinding['step'], message: string): void
  failed(step: ConnectionFinding['step'], code: ErrorCode, message: string): void
}

export function createReport(server: string): Report {
  const findings: ConnectionFinding[] = []
  return {
    findings,
    ok: (step, message) => findings.push({ server, step, result: 'ok', message }),
    warning: (step, message) => findings.push({ server, step, result: 'warning', message }),
    failed: (step, code, message) =>
      findings.push({ server, step, result: 'failed', code, message }),
  }
}
