import { createHash, type KeyObject } from 'node:crypto'
import { equalBytes, toHex } from '../core/bytes.js'
import { type Finding, failed, passed } from '../core/finding.js'
import { matchesPattern } from '../core/pattern.js'
import type { HashName } from '../tpm/index.js'
import type { ImaEntry } from './entry.js'
import { isSignedBy } from './file-signature.js'

/** What may run on a host. In patterns `*` stands for any characters. */
export interface ImaPolicy {
  /** Accepted digests of files, in hexadecimal, by patterns of their paths. */
  readonly allow: readonly { readonly path: string; readonly digests: ReadonlySet<string> }[]
  /** Paths that are not looked at. */
  readonly exclude: readonly string[]
  readonly allowViolations: boolean
  /** Files signed by one of these are accepted under any path. */
  readonly signers: readonly KeyObject[]
}

/** How many entries that are not allowed are named; the rest is counted. */
const MAX_NAMED = 20
const MAX_PATH_CHARACTERS = 200
const BOOT_AGGREGATE = 'boot_aggregate'
/** @see Linux, security/integrity/ima/ima_crypto.c, ima_calc_boot_aggregate_tfm */
const AGGREGATED = { sha1: 8, others: 10 } as const

/**
 * Judges entries that a quote proved.
 *
 * @param pcrValues quoted values in `bank`, which the boot aggregate is compared with
 */
export function judgeImaEntries(
  entries: readonly ImaEntry[],
  policy: ImaPolicy,
  quoted: { readonly bank: HashName; readonly pcrValues: ReadonlyMap<number, Uint8Array> },
): readonly Finding[] {
  const refused = entries.flatMap((entry) => judge(entry, policy, quoted))
  if (refused.length === 0) return [passed('ima.entries', `${entries.length} accepted`)]
  const named = refused.slice(0, MAX_NAMED)
  const left = refused.length - named.length
  if (left === 0) return named
  return [
    ...named,
    failed('ima.entries', 'IMA_NOT_ALLOWED', 'no others', `${left} more`, { pcr: 10 }),
  ]
}

function judge(
  entry: ImaEntry,
  policy: ImaPolicy,
  quoted: { readonly bank: HashName; readonly pcrValues: ReadonlyMap<number, Uint8Array> },
): readonly Finding[] {
  const { path, digest } = entry
  const shown = `${printable(path)} ${digest.algorithm}:${toHex(digest.digest)}`
  const where = { pcr: 10, event: entry.index }
  if (path === BOOT_AGGREGATE) return judgeAggregate(entry, quoted)
  if (policy.exclude.some((pattern) => matchesPattern(path, pattern))) return []
  if (entry.violation) {
    if (policy.allowViolations) return []
    return [failed('ima.violation', 'IMA_VIOLATION', 'no violation', shown, where)]
  }
  const text = toHex(digest.digest)
  const isAllowed = policy.allow.some(
    ({ path: pattern, digests }) => digests.has(text) && matchesPattern(path, pattern),
  )
  if (isAllowed || isSignedBy(entry, policy.signers)) return []
  return [failed('ima.entries', 'IMA_NOT_ALLOWED', 'a file that the policy allows', shown, where)]
}

/** The first entry of a boot: digest over the PCRs of the firmware, so that a list is of the boot that was quoted. */
function judgeAggregate(
  { digest, index }: ImaEntry,
  quoted: { readonly bank: HashName; readonly pcrValues: ReadonlyMap<number, Uint8Array> },
): readonly Finding[] {
  const check = 'ima.boot-aggregate'
  if (digest.algorithm !== quoted.bank) return []
  const count = quoted.bank === 'sha1' ? AGGREGATED.sha1 : AGGREGATED.others
  const hash = createHash(quoted.bank)
  for (let pcr = 0; pcr < count; pcr += 1) {
    const value = quoted.pcrValues.get(pcr)
    if (!value) return []
    hash.update(value)
  }
  const expected = hash.digest()
  if (equalBytes(expected, digest.digest)) return []
  const found = toHex(digest.digest)
  return [failed(check, 'IMA_BOOT_AGGREGATE', toHex(expected), found, { pcr: 10, event: index })]
}

/** A path as a person may be shown it. */
function printable(path: string): string {
  const shown = path.slice(0, MAX_PATH_CHARACTERS)
  return JSON.stringify(shown).replace(/[^\x20-\x7e]/g, '?')
}
