import { createHash } from 'node:crypto'
import type { Policy } from '../api/policies.js'
import { canonicalJson } from '../core/canonical-json.js'
import { isPlatformError, PlatformError } from '../core/errors.js'
import { IMA_PCR, readImaSigner } from '../ima/index.js'
import { HASH_ALGORITHMS } from '../tpm/index.js'

/**
 * The policy of a cluster until an administrator sets one.
 *
 * PCR 1 (boot variables) and PCR 5 (partition table) are quoted and replayed, and differ from host to host: they are
 * not pinned. PCR 10 (IMA) grows while a host runs: it is not quoted.
 */
export const DEFAULT_POLICY: Policy = {
  bank: 'sha256',
  pcrs: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 14],
  pinnedPcrs: [0, 2, 3, 4, 6, 7, 8, 9, 11, 14],
  bindingPcrs: [0, 2, 3, 4, 6, 7, 8, 9, 11, 14],
  requireEventLog: true,
  requireSecureBoot: true,
  tokenTtlSeconds: 300,
}

/** The policy with its PCRs in ascending order; throws `POLICY_INVALID` where its parts contradict one another. */
export function checkPolicy(policy: Policy): Policy {
  for (const [name, pcrs] of [
    ['pinnedPcrs', policy.pinnedPcrs],
    ['bindingPcrs', policy.bindingPcrs],
  ] as const) {
    const extra = pcrs.filter((pcr) => !policy.pcrs.includes(pcr))
    if (extra.length > 0) {
      throw new PlatformError(
        'POLICY_INVALID',
        `expected ${name} to be among pcrs, found PCR ${extra.join(', ')} besides`,
      )
    }
  }
  checkDigests(policy)
  checkIma(policy)
  return {
    ...policy,
    pcrs: ascending(policy.pcrs),
    pinnedPcrs: ascending(policy.pinnedPcrs),
    bindingPcrs: ascending(policy.bindingPcrs),
  }
}

const SHA256_CHARACTERS = 64

/** A digest of another length is one that no measurement can have. */
function checkDigests({ bank, bootApplications = [], dbxAtLeast = [] }: Policy): void {
  const characters = 2 * HASH_ALGORITHMS[bank].digestOctets
  const application = bootApplications.find(({ digest }) => digest.length !== characters)
  if (application) {
    const message = `expected boot applications by ${bank}, found ${application.digest}`
    throw new PlatformError('POLICY_INVALID', message)
  }
  const hash = dbxAtLeast.find(({ length }) => length !== SHA256_CHARACTERS)
  if (hash !== undefined) {
    throw new PlatformError('POLICY_INVALID', `expected SHA-256 in dbxAtLeast, found ${hash}`)
  }
}

/** PCR 10 grows while a host runs: it can be replayed, and never pinned. */
function checkIma({ ima, pcrs, pinnedPcrs, bindingPcrs }: Policy): void {
  const isFixed = pinnedPcrs.includes(IMA_PCR) || bindingPcrs.includes(IMA_PCR)
  if (isFixed || (ima !== undefined && !pcrs.includes(IMA_PCR))) {
    throw new PlatformError(
      'POLICY_INVALID',
      'expected PCR 10 among pcrs where there are rules for IMA, and never pinned or bound',
    )
  }
  const weak = ima?.allow.find(({ digests }) =>
    digests.some(({ length }) => length < SHA256_CHARACTERS),
  )
  if (weak) {
    const message = `expected digests of SHA-256 or stronger for ${weak.path}, found SHA-1`
    throw new PlatformError('POLICY_INVALID', message)
  }
  try {
    ima?.signers.forEach(readImaSigner)
  } catch (cause) {
    if (!isPlatformError(cause)) throw cause
    throw new PlatformError('POLICY_INVALID', `signer of files: ${cause.message}`, { cause })
  }
}

/** SHA-256 of the canonical JSON of a policy, in hexadecimal: what tokens and verdicts cite. */
export function policyDigest(policy: Policy): string {
  const known = digests.get(policy)
  if (known !== undefined) return known
  const digest = createHash('sha256').update(canonicalJson(policy)).digest('hex')
  if (Object.isFrozen(policy)) digests.set(policy, digest)
  return digest
}

/** Of policies that cannot change any more. */
const digests = new WeakMap<Policy, string>()

function ascending(pcrs: readonly number[]): number[] {
  return [...pcrs].sort((a, b) => a - b)
}
