import { createHash } from 'node:crypto'
import type { GuestPolicy } from '../api/guests.js'
import type { Policy } from '../api/policies.js'
import { canonicalJson } from '../core/canonical-json.js'
import { PlatformError } from '../core/errors.js'
import type { Finding } from '../core/finding.js'
import { HASH_ALGORITHMS } from '../tpm/index.js'
import { appraise, type EventLogReport } from './appraise.js'

/** Until an administrator sets another: who the VM is and where it runs, and nothing of what it booted. */
export const DEFAULT_GUEST_POLICY: GuestPolicy = {
  bank: 'sha256',
  pcrs: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 14],
  pinnedPcrs: [],
  baseImages: [],
  requireEventLog: false,
  requireSecureBoot: false,
  tokenTtlSeconds: 300,
}

/** The policy with its PCRs in ascending order; throws `POLICY_INVALID` where its parts contradict one another. */
export function checkGuestPolicy(policy: GuestPolicy): GuestPolicy {
  const { pcrs, pinnedPcrs, baseImages, bank } = policy
  const extra = pinnedPcrs.filter((pcr) => !pcrs.includes(pcr))
  if (extra.length > 0) {
    throw invalid(`expected pinnedPcrs to be among pcrs, found PCR ${extra.join(', ')} besides`)
  }
  const names = baseImages.map(({ name }) => name)
  if (new Set(names).size !== names.length) throw invalid('expected base images of different names')
  const characters = 2 * HASH_ALGORITHMS[bank].digestOctets
  for (const { name, pcrs: values } of baseImages) {
    const missing = pinnedPcrs.filter((pinned) => !values.some(({ pcr }) => pcr === pinned))
    if (missing.length > 0) {
      throw invalid(
        `expected base image ${name} to have every pinned PCR, found no ${missing.join(', ')}`,
      )
    }
    if (values.some(({ digests }) => digests.some(({ length }) => length !== characters))) {
      throw invalid(`expected digests by ${bank} in base image ${name}`)
    }
  }
  return { ...policy, pcrs: ascending(pcrs), pinnedPcrs: ascending(pinnedPcrs) }
}

/** SHA-256 of the canonical JSON of a policy, in hexadecimal: what tokens and verdicts cite. */
export function guestPolicyDigest(policy: GuestPolicy): string {
  return createHash('sha256').update(canonicalJson(policy)).digest('hex')
}

/** The rules of a guest policy as those of hosts, which reading and judging an event log take. */
export function rulesOfGuests(policy: GuestPolicy): Policy {
  const { baseImages: _, ...rules } = policy
  return { ...rules, bindingPcrs: [...policy.pcrs] }
}

/** Compares authentic evidence of a guest with the policy and the base images in it. */
export function appraiseGuest(input: {
  readonly policy: GuestPolicy
  readonly pcrValues: ReadonlyMap<number, Uint8Array>
  readonly eventLog: EventLogReport | undefined
  readonly eventLogOctets: number
  readonly nowMs: number
}): { readonly findings: readonly Finding[]; readonly baseImage?: string } {
  const { policy, ...evidence } = input
  const { bank } = policy
  const { findings, baseImage } = appraise({
    ...evidence,
    policy: rulesOfGuests(policy),
    baseImages: policy.baseImages.map(({ name, pcrs }) => ({
      ...{ name, bank },
      pcrs: new Map(pcrs.map(({ pcr, digests }) => [pcr, digests])),
    })),
  })
  return { findings, ...(baseImage === undefined ? {} : { baseImage }) }
}

function invalid(message: string): PlatformError {
  return new PlatformError('POLICY_INVALID', message)
}

function ascending(pcrs: readonly number[]): number[] {
  return [...pcrs].sort((a, b) => a - b)
}
