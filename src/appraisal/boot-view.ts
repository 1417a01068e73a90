import type { BootView } from '../api/base-images.js'
import type { Policy } from '../api/policies.js'
import { toHex } from '../core/bytes.js'
import type { BootSummary } from '../eventlog/index.js'

/** What a verdict and a base image keep of a boot: the log's own words, bounded and escaped by the parser. */
export function bootView(summary: BootSummary, bank: Policy['bank']): BootView {
  return {
    secureBoot: summary.secureBoot,
    bootApplications: summary.bootApplications.flatMap((application) => {
      const digest = application.digests.get(bank)
      return digest ? [{ name: application.name, digest: toHex(digest) }] : []
    }),
    ...(summary.firmwareVersion === undefined ? {} : { firmwareVersion: summary.firmwareVersion }),
    ...(summary.kernel === undefined ? {} : { kernel: summary.kernel }),
    ...(summary.commandLine === undefined ? {} : { commandLine: summary.commandLine }),
  }
}
