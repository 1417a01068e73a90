import type { HostState } from '../../api/attestation.js'
import type { EvidenceBundle } from '../../api/hosts.js'
import type { Policy } from '../../api/policies.js'
import { appraise, policyDigest } from '../../appraisal/index.js'
import { fromBase64url, fromHex } from '../../core/bytes.js'
import { PlatformError } from '../../core/errors.js'
import { type Finding, failed, failures } from '../../core/finding.js'
import { readPage, type StoredPage } from '../../core/page.js'
import { parseAttest } from '../../tpm/index.js'
import type { AttestationStore, EventLogReader, StoredBaseImage } from '../ports.js'
import { judgeHostIma } from './host-ima.js'
import { readEventLog } from './read-event-log.js'

export interface PolicyTest {
  readonly cluster: string
  readonly digest: string
  readonly hosts: readonly PolicyTestOfHost[]
  readonly next?: string
}

interface PolicyTestOfHost {
  readonly hostId: string
  readonly now: HostState
  readonly outcome: 'accepted' | 'refused' | 'unknown'
  /** Why the last evidence does not say. */
  readonly reason?: string
  readonly findings: readonly Finding[]
}

/**
 * Judges the last evidence of the hosts of a cluster, a page of them, by the draft of its policy. Changes nothing.
 *
 * The quotes were verified when they came and are not verified again. A draft that asks for PCRs that a host did not
 * quote cannot be judged for it: `unknown`.
 *
 * @throws PlatformError `NOT_FOUND` where there is no draft
 */
export async function testPolicyDraft(
  deps: { readonly store: AttestationStore; readonly eventLogs: EventLogReader },
  cluster: string,
  page: StoredPage,
  nowMs: number,
): Promise<PolicyTest> {
  const { policy, hosts, baseImages } = await deps.store.transaction(async (tx) => {
    const draft = await tx.findPolicyDraft(cluster)
    if (!draft) throw new PlatformError('NOT_FOUND', `no draft of a policy for cluster ${cluster}`)
    return {
      policy: draft.policy,
      hosts: await readPage(
        page,
        (at) => tx.listHosts({ cluster, ...at }),
        ({ hostId }) => hostId,
      ),
      baseImages: await tx.listBaseImages(cluster),
    }
  })
  const results: PolicyTestOfHost[] = []
  const { items, ...rest } = hosts
  for (const host of items) {
    if (host.state === 'revoked') continue
    const bundle = await deps.store.transaction((tx) => tx.findBundle(host.hostId))
    const reason = bundle ? reasonNotToJudge(bundle, policy) : 'no evidence was kept'
    const about = { hostId: host.hostId, now: host.state }
    if (!bundle || reason !== undefined) {
      results.push({ ...about, outcome: 'unknown', reason: reason ?? '', findings: [] })
      continue
    }
    const findings = await judge({ bundle, policy, baseImages, nowMs, eventLogs: deps.eventLogs })
    results.push({ ...about, outcome: findings.length === 0 ? 'accepted' : 'refused', findings })
  }
  return { cluster, digest: policyDigest(policy), hosts: results, ...rest }
}

function reasonNotToJudge({ evidence, policy: then }: EvidenceBundle, policy: Policy) {
  if (policy.bank !== then.bank) return `bank ${policy.bank} was not quoted`
  const quoted = new Set(evidence.pcrs.map(({ pcr }) => pcr))
  const missing = policy.pcrs.filter((pcr) => !quoted.has(pcr))
  if (missing.length > 0) return `PCR ${missing.join(', ')} was not quoted`
  const hasWholeList = evidence.ima?.from === 0
  return policy.ima && !hasWholeList
    ? 'the measurement list from its start was not kept'
    : undefined
}

/** The checks that fail. */
async function judge(input: {
  readonly bundle: EvidenceBundle
  readonly policy: Policy
  readonly baseImages: readonly StoredBaseImage[]
  readonly eventLogs: EventLogReader
  readonly nowMs: number
}): Promise<readonly Finding[]> {
  const { bundle, policy } = input
  const quoted = new Map(bundle.evidence.pcrs.map(({ pcr, digest }) => [pcr, fromHex(digest)]))
  const { ima } = bundle.evidence
  const attest = parseAttest(fromBase64url(bundle.evidence.attest))
  const pcrValues = new Map(
    policy.pcrs.map((pcr) => [pcr, quoted.get(pcr) ?? new Uint8Array()] as const),
  )
  const { eventLog } = bundle.evidence
  const log = eventLog === undefined ? undefined : fromBase64url(eventLog)
  const { previousClock } = bundle
  const { findings } = appraise({
    policy,
    pcrValues,
    clock: attest.clockInfo,
    previousClock: previousClock && { ...previousClock, clock: BigInt(previousClock.clock) },
    eventLog: await readEventLog(input.eventLogs, log, policy, pcrValues),
    eventLogOctets: log?.length ?? 0,
    baseImages: input.baseImages,
    nowMs: input.nowMs,
  })
  const { findings: ofIma } = await judgeHostIma({
    evidence: ima,
    policy,
    policyDigest: policyDigest(policy),
    clock: attest.clockInfo,
    accepted: undefined,
    pcrValues,
  })
  return [
    ...failures([...findings, ...ofIma]),
    ...olderThanPolicyAllows(bundle, policy, input.nowMs),
  ]
}

function olderThanPolicyAllows(
  { verdict }: EvidenceBundle,
  { maxAgeSeconds }: Policy,
  nowMs: number,
): readonly Finding[] {
  const ageSeconds = Math.round((nowMs - Date.parse(verdict.at)) / 1000)
  if (maxAgeSeconds === undefined || ageSeconds <= maxAgeSeconds) return []
  const expected = `an attestation in the last ${maxAgeSeconds} s`
  return [failed('host.age', 'HOST_LATE', expected, `${ageSeconds} s ago`)]
}
