import type { KeyObject } from 'node:crypto'
import { toHex } from '../core/bytes.js'
import { unreachable } from '../core/errors.js'
import { type FailedFinding, type Finding, failed, passed } from '../core/finding.js'
import { matchesPattern } from '../core/pattern.js'
import type { HashName } from '../tpm/index.js'
import { BOOT_AGGREGATE, compareBootAggregate } from './boot-aggregate.js'
import type { ImaEntry } from './entry.js'
import { verifyFileSignature } from './file-signature.js'
import { isKeyOfImaKeyring } from './keyring.js'
import { IMA_PCR } from './replay.js'

/** What may run on a host. In patterns `*` stands for any characters. */
export interface ImaPolicy {
  /** Accepted digests of files, in hexadecimal, by patterns of their paths; also of measured keys and command lines. */
  readonly allow: readonly { readonly path: string; readonly digests: ReadonlySet<string> }[]
  /** Paths that are not looked at. Violations are: the path of one is the host's word. */
  readonly exclude: readonly string[]
  readonly allowViolations: boolean
  /** Files signed by one of these are accepted under any path, and so are their certificates in the keyring `.ima`. */
  readonly signers: readonly KeyObject[]
}

export interface QuotedPcrs {
  readonly bank: HashName
  readonly pcrValues: ReadonlyMap<number, Uint8Array>
}

/** How many entries that are not allowed are named; the rest is counted. */
const MAX_NAMED = 20
/** After so many the rest is not looked at: a host with that many is no better for having fewer. */
const MAX_REFUSED = 1000
const MAX_PATH_CHARACTERS = 200
const PAUSE_EVERY = 16
/** Algorithms of digests that say which file it was; SHA-1 and shorter ones are never accepted. */
const STRONG: ReadonlySet<string> = new Set([
  ...['sha256', 'sha384', 'sha512', 'sha3-256', 'sha3-384', 'sha3-512'],
])

/**
 * Judges entries that a quote proved. Each has to be allowed: by its digest, by a signature, or by an excluded path.
 *
 * Of a violation nothing is proved but that there was one. Calls `pause` every few entries: many rules and signatures
 * take their time.
 *
 * @param quoted values that the boot aggregate is compared with
 */
export async function judgeImaEntries(
  entries: readonly ImaEntry[],
  policy: ImaPolicy,
  quoted: QuotedPcrs,
  pause?: () => Promise<void>,
): Promise<readonly Finding[]> {
  const allowed = entries.length > 0 ? patternsByDigest(policy) : new Map()
  const refused: FailedFinding[] = []
  for (const [count, entry] of entries.entries()) {
    const isSlow = entry.signature !== undefined && policy.signers.length > 0
    if (isSlow || count % PAUSE_EVERY === PAUSE_EVERY - 1) await pause?.()
    const finding = judge(entry, policy, allowed, quoted)
    if (!finding) continue
    refused.push(finding)
    if (refused.length === MAX_REFUSED) break
  }
  if (refused.length === 0) return [passed('ima.entries', `${entries.length} accepted`)]
  const named = refused.slice(0, MAX_NAMED)
  const left = refused.length - named.length
  if (left === 0) return named
  const more = refused.length === MAX_REFUSED ? `${left} more or above` : `${left} more`
  return [...named, failed('ima.entries', 'IMA_NOT_ALLOWED', 'no others', more, { pcr: IMA_PCR })]
}

type AllowedPatterns = ReadonlyMap<string, readonly string[]>

/** So that the digest of an entry, and not each rule, says which paths it may have. */
function patternsByDigest({ allow }: ImaPolicy): AllowedPatterns {
  const patterns = new Map<string, string[]>()
  for (const { path, digests } of allow) {
    for (const digest of digests) {
      const known = patterns.get(digest)
      if (known) known.push(path)
      else patterns.set(digest, [path])
    }
  }
  return patterns
}

function judge(
  entry: ImaEntry,
  policy: ImaPolicy,
  allowed: AllowedPatterns,
  quoted: QuotedPcrs,
): FailedFinding | undefined {
  const refuse = (check: string, code: FailedFinding['code'], expected: string, found: string) =>
    failed(`ima.${check}`, code, expected, found, { pcr: entry.pcr, event: entry.index })
  if (entry.pcr !== IMA_PCR) {
    return refuse('entries', 'IMA_PCR', 'a measurement in PCR 10', `one in PCR ${entry.pcr}`)
  }
  if (entry.violation) {
    if (policy.allowViolations) return undefined
    return refuse('violation', 'IMA_VIOLATION', 'no violation', `one that is named ${shown(entry)}`)
  }
  const aggregate = entry.path === BOOT_AGGREGATE ? compareBootAggregate(entry, quoted) : undefined
  if (aggregate?.kind === 'same') return undefined
  if (aggregate?.kind === 'other') {
    return refuse('boot-aggregate', 'IMA_BOOT_AGGREGATE', aggregate.expected, shown(entry))
  }
  if (isAccepted(entry, policy, allowed)) return undefined
  if (aggregate) {
    const expected = `a digest over quoted PCRs of bank ${quoted.bank}`
    return refuse('boot-aggregate', 'IMA_BOOT_AGGREGATE', expected, shown(entry))
  }
  if (!STRONG.has(entry.digest.algorithm)) {
    return refuse('entries', 'IMA_DIGEST_WEAK', 'a digest of SHA-256 or longer', shown(entry))
  }
  const found = `${shown(entry)}${signatureOf(entry, policy)}`
  return refuse('entries', 'IMA_NOT_ALLOWED', 'a file that the policy allows', found)
}

function isAccepted(entry: ImaEntry, policy: ImaPolicy, allowed: AllowedPatterns): boolean {
  const { path, digest } = entry
  const isPath = (pattern: string) => matchesPattern(path, pattern)
  if (!STRONG.has(digest.algorithm)) return policy.exclude.some(isPath)
  return (
    allowed.get(toHex(digest.digest))?.some(isPath) ||
    policy.exclude.some(isPath) ||
    verifyFileSignature(entry, policy.signers) === 'valid' ||
    isKeyOfImaKeyring(entry, policy.signers)
  )
}

/** Why a signature did not help, where one could have. */
function signatureOf(entry: ImaEntry, { signers }: ImaPolicy): string {
  if (signers.length === 0) return ''
  const verdict = verifyFileSignature(entry, signers)
  switch (verdict) {
    case 'none':
      return entry.moduleSignature ? ', appended signature not verified' : ', not signed'
    case 'unknown-key':
      return ', signed with another key'
    case 'invalid':
      return ', signature not valid'
    case 'valid':
      return ''
    default:
      return unreachable(verdict)
  }
}

/** Path and digest as a person may be shown them. */
function shown({ path, digest }: ImaEntry): string {
  const text = JSON.stringify(path.slice(0, MAX_PATH_CHARACTERS)).replace(
    /[^\x20-\x7e]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
  const kind = digest.kind === 'verity' ? 'verity:' : ''
  return `${text} ${kind}${digest.algorithm}:${toHex(digest.digest)}`
}
