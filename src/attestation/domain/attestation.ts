import type { Evidence } from '../../api/attestation.js'
import type { EvidenceBundle, VerdictView } from '../../api/hosts.js'
import type { Policy } from '../../api/policies.js'
import {
  appraise,
  bootView,
  DEFAULT_POLICY,
  type DecodedEvidence,
  decodeEvidence,
  type IdentityVerdict,
  policyDigest,
  verifyEvidence,
} from '../../appraisal/index.js'
import { toBase64url, toHex } from '../../core/bytes.js'
import { isoTime, secondsOf } from '../../core/clock.js'
import { DecodeError, PlatformError } from '../../core/errors.js'
import { describeFinding, type Finding, failed, failures } from '../../core/finding.js'
import { parsePublicArea } from '../../tpm/index.js'
import type {
  AttestationKeys,
  AttestationStore,
  AttestationTransaction,
  EventLogReader,
  StoredBaseImage,
  StoredHost,
  StoredPolicy,
} from '../ports.js'
import { createClaims } from './claims.js'
import type { NewEvent } from './events.js'
import { type AcceptedIma, type HostIma, judgeHostIma } from './host-ima.js'
import { verifyNonce } from './nonce.js'
import { readEventLog } from './read-event-log.js'
import type { EndorsementRules } from './trust.js'

export interface AttestationDeps {
  readonly store: AttestationStore
  readonly mode: EndorsementRules['mode']
  readonly keys: AttestationKeys
  readonly eventLogs: EventLogReader
  /** Identifier of this service: the issuer of its tokens and the verifier in every quote. */
  readonly issuer: string
  readonly audiences: readonly string[]
  readonly nonceTtlSeconds: number
  readonly verdictsPerHost: number
  readonly bundlesPerHost: number
  readonly build: string
}

/**
 * Judges the evidence of a host and answers with a token.
 *
 * Evidence that the enrolled TPM did not sign, for a nonce of ours, is refused and changes nothing but the audit. What it
 * did sign is judged whole: every check is reported, the verdict is kept, the state of the host follows it, and the
 * nonce is spent, in one transaction with the audit record.
 *
 * @throws PlatformError `ATTESTATION_REFUSED`, always with the same words: which check failed is for administrators;
 *   `IMA_FROM` to a host that is genuine and has to bring its measurement list from the start
 */
export async function attest(
  deps: AttestationDeps,
  evidence: Evidence,
  input: {
    readonly tokenId: string
    readonly bundleId: string
    readonly nowMs: number
    readonly monotonicMs: () => number
  },
): Promise<{ readonly token: string; readonly expiresAtMs: number; readonly imaEntries?: number }> {
  const startedMs = input.monotonicMs()
  const { nowMs } = input
  const decoded = decodeEvidence(evidence)
  const before = await deps.store.transaction((tx) => snapshot(tx, decoded.hostId, deps.mode))
  if (before.host === undefined || before.notAllowed) {
    return refuseUnauthentic(deps, decoded, nowMs, [
      before.notAllowed ?? failed('host', 'HOST_UNKNOWN', 'an enrolled host', 'none of this id'),
    ])
  }
  const { host, policy } = before
  const identity = identify(deps, decoded, { host, policy }, nowMs)
  if (!identity.authentic || !identity.clock) {
    return refuseUnauthentic(deps, decoded, nowMs, identity.findings)
  }

  const report = await readEventLog(
    deps.eventLogs,
    decoded.eventLog,
    policy.policy,
    decoded.pcrValues,
  )
  const appraisal = appraise({
    policy: policy.policy,
    pcrValues: decoded.pcrValues,
    clock: identity.clock,
    previousClock: host.clock,
    eventLog: report,
    eventLogOctets: decoded.eventLog?.length ?? 0,
    baseImages: before.baseImages,
    nowMs,
  })
  const ima = await judgeHostIma({
    evidence: evidence.ima,
    policy: policy.policy,
    policyDigest: policyDigest(policy.policy),
    clock: identity.clock,
    accepted: before.ima,
    pcrValues: decoded.pcrValues,
  })
  const findings = [...identity.findings, ...appraisal.findings, ...ima.findings]
  const accepted = failures(findings).length === 0
  const differences = accepted ? [] : await explain(deps, decoded, before, appraisal.nearest)
  const verdict: VerdictView & { readonly bundleId: string } = {
    at: isoTime(nowMs),
    accepted,
    ...(appraisal.baseImage === undefined ? {} : { baseImage: appraisal.baseImage }),
    ...(report?.summary ? { boot: bootView(report.summary, policy.policy.bank) } : {}),
    findings: [...findings],
    differences: [...differences],
    bank: policy.policy.bank,
    pcrs: [...policy.policy.pcrs],
    tookMs: Math.round((input.monotonicMs() - startedMs) * 100) / 100,
    ...(accepted ? { tokenId: input.tokenId } : {}),
    bundleId: input.bundleId,
  }
  const expiresAtMs = nowMs + policy.policy.tokenTtlSeconds * 1000
  const token = accepted
    ? await deps.keys.sign(
        createClaims({
          deps,
          evidence,
          decoded,
          host,
          policy,
          verdict,
          identity: { ...identity, clock: identity.clock },
          tokenId: input.tokenId,
          issuedAtSeconds: secondsOf(nowMs),
        }),
      )
    : undefined
  const bundle = bundleOf({ deps, evidence, before: { ...before, host }, appraisal, ima, verdict })
  const committed = await deps.store.transaction((tx) =>
    commit(tx, { deps, decoded, before: { host, policy }, identity, ima, bundle, nowMs }),
  )
  if (!committed || token === undefined) throw refused()
  const { progress } = ima
  return { token, expiresAtMs, ...(progress ? { imaEntries: progress.entries } : {}) }
}

/** A structure that cannot be read is a failed check like any other: it would tell which hosts are enrolled. */
function identify(
  deps: AttestationDeps,
  decoded: DecodedEvidence,
  { host, policy }: { readonly host: StoredHost; readonly policy: StoredPolicy },
  nowMs: number,
): IdentityVerdict {
  const nonceFinding = deps.keys.nonceKey.use((key) =>
    verifyNonce({
      key,
      hostId: decoded.hostId,
      nonce: decoded.nonce,
      nowMs,
      ttlMs: deps.nonceTtlSeconds * 1000,
    }),
  )
  try {
    return verifyEvidence(decoded, {
      ak: parsePublicArea(host.akPublic),
      verifier: deps.issuer,
      policy: policy.policy,
      nonceFinding,
    })
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error
    const expected = 'structures of a TPM that can be read'
    const unreadable = failed('evidence', error.code, expected, error.message)
    return { findings: [nonceFinding, unreadable], authentic: false }
  }
}

interface Snapshot {
  readonly host?: StoredHost
  readonly notAllowed?: Finding
  readonly policy: StoredPolicy
  readonly baseImages: Awaited<ReturnType<AttestationTransaction['listBaseImages']>>
  readonly ima?: AcceptedIma | undefined
}

async function snapshot(
  tx: AttestationTransaction,
  hostId: string,
  mode: EndorsementRules['mode'],
): Promise<Snapshot> {
  const host = await tx.findHost(hostId)
  const policy = await policyOf(tx, host?.cluster)
  if (!host) return { policy, baseImages: [] }
  const notAllowed = stateFinding(host) ?? markFinding(host, mode)
  return {
    host,
    policy,
    baseImages: await tx.listBaseImages(host.cluster),
    ima: policy.policy.ima ? await tx.findIma(hostId) : undefined,
    ...(notAllowed ? { notAllowed } : {}),
  }
}

/** The policy of a cluster, or the default where none was set. */
export async function policyOf(
  tx: AttestationTransaction,
  cluster: string | undefined,
): Promise<StoredPolicy> {
  const stored = cluster === undefined ? undefined : await tx.findPolicy(cluster)
  return stored ?? { revision: 0, epoch: 0, policy: DEFAULT_POLICY, updatedAtMs: 0 }
}

function stateFinding(host: StoredHost): Finding | undefined {
  switch (host.state) {
    case 'revoked':
      return failed('host', 'HOST_REVOKED', 'a host that is not revoked', 'revoked')
    case 'awaiting-approval':
      return failed('host', 'HOST_NOT_APPROVED', 'a host that was approved', 'awaiting approval')
    default:
      return undefined
  }
}

/** A site that became one for production has hosts of its laboratory still. */
function markFinding(host: StoredHost, mode: EndorsementRules['mode']): Finding | undefined {
  if (!host.insecureTest || mode !== 'production') return undefined
  return failed('host', 'ANCHOR_INSECURE', 'an anchor for production', 'an insecure test anchor')
}

async function explain(
  { store, eventLogs }: AttestationDeps,
  evidence: DecodedEvidence,
  before: Snapshot,
  nearest: string | undefined,
): Promise<readonly string[]> {
  const cluster = before.host?.cluster
  if (cluster === undefined || nearest === undefined || !evidence.eventLog) return []
  const reference = await store.transaction((tx) => tx.findBaseImageLog(cluster, nearest))
  if (!reference) return []
  try {
    return await eventLogs.compare(reference, evidence.eventLog, before.policy.policy.bank)
  } catch (error) {
    if (!(error instanceof PlatformError)) throw error
    return [`the event log cannot be compared: ${error.message}`]
  }
}

function bundleOf(input: {
  readonly deps: AttestationDeps
  readonly evidence: Evidence
  readonly before: Snapshot & { readonly host: StoredHost }
  readonly appraisal: { readonly nearest?: string }
  readonly ima: HostIma
  readonly verdict: VerdictView & { readonly bundleId: string }
}): EvidenceBundle {
  const { before, evidence, verdict } = input
  const { host, policy } = before
  const image = before.baseImages.find(({ name }) => name === input.appraisal.nearest)
  return {
    format: 'sigillo-evidence-bundle/1',
    bundleId: verdict.bundleId,
    hostId: host.hostId,
    cluster: host.cluster,
    verifier: input.deps.issuer,
    akPublic: toBase64url(host.akPublic),
    ekFingerprint: host.ekFingerprint,
    evidence: withoutLongList(evidence),
    policy: policy.policy,
    policyRevision: policy.revision,
    ...(host.clock ? { previousClock: { ...host.clock, clock: host.clock.clock.toString() } } : {}),
    ...(input.ima.from
      ? { imaStart: { entries: input.ima.from.entries, value: toHex(input.ima.from.value) } }
      : {}),
    ...(image ? { baseImage: referenceView(image) } : {}),
    verdict,
  }
}

/** A measurement list of more than this is judged and not kept. */
const MAX_KEPT_LIST_CHARACTERS = 1024 * 1024

function withoutLongList({ ima, ...evidence }: Evidence): Evidence {
  return ima && ima.list.length <= MAX_KEPT_LIST_CHARACTERS ? { ...evidence, ima } : evidence
}

function referenceView({ name, bank, pcrs }: StoredBaseImage) {
  return {
    name,
    bank: bank as Policy['bank'],
    pcrs: [...pcrs].map(([pcr, digests]) => ({ pcr, digests: [...digests] })),
  }
}

async function commit(
  tx: AttestationTransaction,
  input: {
    readonly deps: AttestationDeps
    readonly decoded: DecodedEvidence
    readonly before: { readonly host: StoredHost; readonly policy: StoredPolicy }
    readonly identity: IdentityVerdict
    readonly ima: HostIma
    readonly bundle: EvidenceBundle
    readonly nowMs: number
  },
): Promise<boolean> {
  const { deps, decoded, before, bundle, nowMs } = input
  const { verdict } = bundle
  const { hostId } = decoded
  const audit = (outcome: 'allowed' | 'refused', findings: readonly Finding[]) =>
    tx.audit({
      atMs: nowMs,
      actor: `host:${hostId}`,
      action: 'attestation',
      subject: `host:${hostId}`,
      outcome,
      detail: {
        findings: failures(findings).map(describeFinding),
        policy: policyDigest(before.policy.policy),
        ...(verdict.baseImage === undefined ? {} : { baseImage: verdict.baseImage }),
        ...(outcome === 'allowed' && verdict.tokenId ? { token: verdict.tokenId } : {}),
      },
    })

  const expiresAtMs = nowMs + 2 * deps.nonceTtlSeconds * 1000
  if (!(await tx.useNonce(decoded.nonce, expiresAtMs))) {
    await audit('refused', [
      failed('nonce', 'NONCE_USED', 'a nonce that was not used', 'a used one'),
    ])
    return false
  }
  // What was judged must still be so: the host, its policy and its counters may have moved meanwhile.
  const now = await tx.findHost(hostId)
  const policy = await policyOf(tx, now?.cluster)
  const moved =
    !now ||
    now.epoch !== before.host.epoch ||
    policy.epoch !== before.policy.epoch ||
    now.clock?.clock !== before.host.clock?.clock
  if (moved) {
    await audit('refused', [
      failed('host', 'CONFLICT', 'the host as it was when its evidence arrived', 'another state'),
    ])
    return false
  }
  if (verdict.accepted && input.identity.clock) {
    await tx.setClock(hostId, input.identity.clock)
    await tx.setAccepted(hostId, nowMs)
    const { progress } = input.ima
    if (progress) {
      await tx.saveIma(hostId, {
        ...progress,
        resetCount: input.identity.clock.resetCount,
        policyDigest: policyDigest(policy.policy),
      })
    }
  }
  await tx.setState(now, verdict.accepted ? 'trusted' : 'refused', {
    // Of a host that falls out, tokens end for good: they do not come back with the next evidence that is accepted
    newEpoch: !verdict.accepted && now.state !== 'refused',
    policyEpoch: policy.epoch,
    nowMs,
  })
  for (const event of eventsOf(now, input.identity, bundle, nowMs)) await tx.addEvent(event)
  await tx.addBundle(bundle, deps.bundlesPerHost)
  await tx.addVerdict(hostId, verdict, deps.verdictsPerHost)
  await audit(verdict.accepted ? 'allowed' : 'refused', verdict.findings as readonly Finding[])
  return verdict.accepted
}

/** What is worth telling: that the host came or fell out, and that it was rebooted. */
function eventsOf(
  host: StoredHost,
  identity: IdentityVerdict,
  { verdict }: EvidenceBundle,
  nowMs: number,
): readonly NewEvent[] {
  const { hostId, cluster } = host
  const about = { atMs: nowMs, hostId, cluster }
  const events: NewEvent[] = []
  const [before, after] = [host.clock, identity.clock]
  if (before && after && before.resetCount !== after.resetCount) {
    const detail = { before: before.resetCount, after: after.resetCount }
    events.push({ ...about, type: 'host.rebooted', detail })
  } else if (before && after && before.restartCount !== after.restartCount) {
    const detail = { before: before.restartCount, after: after.restartCount }
    events.push({ ...about, type: 'host.resumed', detail })
  }
  if (verdict.accepted && host.state !== 'trusted') {
    const { baseImage = null } = verdict
    events.push({ ...about, type: 'host.trusted', detail: { before: host.state, baseImage } })
  }
  if (!verdict.accepted && host.state !== 'refused') {
    const reasons = failures(verdict.findings as readonly Finding[]).map(describeFinding)
    const differences = [...verdict.differences]
    events.push({
      ...about,
      type: 'host.refused',
      detail: { before: host.state, reasons, differences },
    })
  }
  return events
}

async function refuseUnauthentic(
  deps: AttestationDeps,
  evidence: DecodedEvidence,
  nowMs: number,
  findings: readonly Finding[],
): Promise<never> {
  await deps.store.transaction((tx) =>
    tx.audit({
      atMs: nowMs,
      actor: 'unknown',
      action: 'attestation',
      subject: `host:${evidence.hostId}`,
      outcome: 'refused',
      detail: { findings: failures(findings).map(describeFinding) },
    }),
  )
  throw refused()
}

function refused(): PlatformError {
  return new PlatformError('ATTESTATION_REFUSED', 'the evidence was not accepted')
}
