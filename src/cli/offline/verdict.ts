import { type Finding, failures } from '../../core/finding.js'
import { findingLine } from '../findings.js'
import type { Output } from '../output.js'
import { EXIT_REFUSED } from '../run.js'

/** Prints what was found, and sets the exit status: 0 accepted, 3 refused. */
export function printVerdict(
  output: Output,
  findings: readonly Finding[],
  facts: { readonly data: object; readonly lines: readonly string[] },
): void {
  const accepted = failures(findings).length === 0
  output.data({ accepted, findings, ...facts.data }, () => [
    ...facts.lines,
    ...[...findings].sort((a, b) => Number(a.ok) - Number(b.ok)).map(findingLine),
    accepted ? 'accepted' : 'REFUSED',
  ])
  if (!accepted) process.exitCode = EXIT_REFUSED
}
