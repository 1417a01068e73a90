import type { FindingView } from '../api/common.js'
import type { VerdictView } from '../api/hosts.js'
import { fields } from './output.js'

/** One line for one check: what was expected and found where it failed. */
export function findingLine(finding: FindingView): string {
  const where = finding.pcr === undefined ? '' : ` PCR ${finding.pcr}`
  if (finding.ok) {
    return `  ok      ${finding.check}${where}${finding.found ? `: ${finding.found}` : ''}`
  }
  return `  FAILED  ${finding.check}${where}: expected ${finding.expected}, found ${finding.found} (${finding.code})`
}

/** A verdict as an administrator reads it: failed checks first, then what changed, then the rest. */
export function verdictLines(verdict: VerdictView): readonly string[] {
  const failedFirst = [...verdict.findings].sort((a, b) => Number(a.ok) - Number(b.ok))
  return [
    ...fields([
      ['verdict', verdict.accepted ? 'accepted' : 'refused'],
      ['at', verdict.at],
      ['base image', verdict.baseImage],
      ['Secure Boot', verdict.boot?.secureBoot],
      ['booted', verdict.boot?.bootApplications.map(({ name }) => name).join(', ')],
      ['kernel', verdict.boot?.kernel],
      ['command line', verdict.boot?.commandLine],
      ['PCRs', `${verdict.bank}:${verdict.pcrs.join(',')}`],
      ['bundle', verdict.bundleId],
      ['took', `${verdict.tookMs} ms`],
    ]),
    ...verdict.differences.map((difference) => `  CHANGED ${difference}`),
    ...failedFirst.map(findingLine),
  ]
}
