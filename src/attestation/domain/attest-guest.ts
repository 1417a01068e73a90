import { createHash } from 'node:crypto'
import type { GuestBundle, GuestEvidence, GuestVerdictView } from '../../api/guests.js'
import {
  appraiseGuest,
  bootView,
  type DecodedGuestEvidence,
  decodeGuestEvidence,
  type GuestHostVerdict,
  type GuestKeysVerdict,
  guestPolicyDigest,
  rulesOfGuests,
  verifyGuestHost,
  verifyGuestKeys,
  verifyGuestQuote,
} from '../../appraisal/index.js'
import { toHex } from '../../core/bytes.js'
import { isoTime, secondsOf } from '../../core/clock.js'
import { DecodeError } from '../../core/errors.js'
import { describeFinding, type Finding, failed, failures, passed } from '../../core/finding.js'
import type { Secret } from '../../core/secret.js'
import type { RevocationList } from '../../pki/index.js'
import type {
  AttestationResultClaims,
  GuestResultClaims,
  VerificationKeys,
} from '../../tokens/index.js'
import type { StoredGuest, StoredGuestPolicy } from '../guest-ports.js'
import type { AttestationStore, AttestationTransaction, EventLogReader } from '../ports.js'
import { nonceContext, verifyCredentialSecret } from './guest-challenge.js'
import { createGuestClaims } from './guest-claims.js'
import { guestPolicyOf } from './guest-policies.js'
import { guestRefused, refuseGuest } from './guest-refusal.js'
import { whyNotNow } from './introspection.js'
import { verifyNonce } from './nonce.js'
import { readEventLog } from './read-event-log.js'
import { type EndorsementRules, judgeMarks, type SiteTrust, storedTrust } from './trust.js'

export interface GuestAttestationDeps {
  readonly store: AttestationStore
  readonly rules: EndorsementRules
  readonly nonceKey: Secret
  readonly sign: (claims: GuestResultClaims) => Promise<string>
  /** Keys of the service's own tokens: those of hosts come back with the evidence of guests. */
  readonly verificationKeys: () => VerificationKeys
  readonly eventLogs: EventLogReader
  readonly issuer: string
  readonly audiences: readonly string[]
  readonly nonceTtlSeconds: number
  readonly build: string
}

/**
 * Judges the evidence of a guest with the word of its host, and answers with a token about the VM.
 *
 * Only evidence that is wholly authentic changes what is known of the VM: the virtual TPM was certified for this VM and
 * this host, the quote is of a key in it, and the host, trusted now, says that the VM runs there. Anything else is refused
 * and leaves a trace in the audit alone: nobody can make a good VM look bad.
 *
 * @throws PlatformError `ATTESTATION_REFUSED`, always with the same words
 */
export async function attestGuest(
  deps: GuestAttestationDeps,
  evidence: GuestEvidence,
  input: { readonly tokenId: string; readonly nowMs: number },
): Promise<{ readonly token: string; readonly expiresAtMs: number }> {
  const { store } = deps
  const { nowMs, tokenId } = input
  const decoded = decodeGuestEvidence(evidence)
  const trust = await store.transaction((tx) => storedTrust(tx, deps.rules, 'vms'))
  const identity = await identify(deps, decoded, trust, nowMs)
  const { keys, claims } = identity
  if (!keys || !claims || failures(identity.findings).length > 0) {
    return refuseGuest(store, decoded.vmId, nowMs, identity.findings)
  }
  const before = await store.transaction((tx) => snapshot(tx, { decoded, keys, claims }))
  const quote = verifyGuestQuote(decoded, {
    ak: keys.ak,
    verifier: deps.issuer,
    policy: before.policy.policy,
  })
  const authentic = [...identity.findings, ...before.findings, ...quote]
  if (failures(authentic).length > 0) return refuseGuest(store, decoded.vmId, nowMs, authentic)

  const bundle = await judge(deps, {
    ...{ evidence, decoded, before, authentic, tokenId, nowMs },
    cluster: claims.sigillo.cluster,
  })
  const guest: StoredGuest = {
    vmId: decoded.vmId,
    hostId: claims.sub,
    cluster: claims.sigillo.cluster,
    ekFingerprint: before.ekFingerprint,
    certificateIssuedAtMs: Math.max(
      keys.certificate.notBeforeMs,
      before.guest?.certificateIssuedAtMs ?? 0,
    ),
    state: bundle.verdict.accepted ? 'attested' : 'refused',
    bundle,
  }
  const resultClaims = createGuestClaims({
    deps,
    bundle,
    host: { claims, token: evidence.host?.token ?? '' },
    ekFingerprint: guest.ekFingerprint,
    certificateFingerprint: keys.certificate.fingerprint,
    proofKeyThumbprint: decoded.proofKeyThumbprint,
    insecureTest: identity.insecureTest,
    tokenId,
    issuedAtSeconds: secondsOf(nowMs),
  })
  const token = bundle.verdict.accepted ? await deps.sign(resultClaims) : undefined
  const committed = await store.transaction((tx) =>
    commit(tx, { deps, decoded, keys, claims, before, guest, nowMs }),
  )
  if (!committed || token === undefined) throw guestRefused()
  return { token, expiresAtMs: resultClaims.exp * 1000 }
}

interface Identity {
  readonly findings: readonly Finding[]
  readonly insecureTest: boolean
  readonly keys?: GuestKeysVerdict
  readonly claims?: AttestationResultClaims
}

/** Who the guest is and whose word it brings. A structure that cannot be read is a failed check like any other. */
async function identify(
  deps: GuestAttestationDeps,
  decoded: DecodedGuestEvidence,
  trust: SiteTrust,
  nowMs: number,
): Promise<Identity> {
  const ttlMs = deps.nonceTtlSeconds * 1000
  const { nonce } = decoded
  const nonceFinding = deps.nonceKey.use((key) =>
    verifyNonce({ key, hostId: nonceContext(decoded.vmId), nonce, nowMs, ttlMs }),
  )
  let keys: GuestKeysVerdict
  let credential: Finding
  try {
    keys = verifyGuestKeys(decoded, { trust, nowMs })
    const { akName } = keys
    credential = deps.nonceKey.use((key) =>
      verifyCredentialSecret(key, { nonce, ekPublic: decoded.ekPublic, akName }, decoded.secret),
    )
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error
    const expected = 'structures of a TPM and a certificate that can be read'
    const unreadable = failed('evidence', error.code, expected, error.message)
    return { findings: [nonceFinding, unreadable], insecureTest: false }
  }
  const marks = judgeMarks(keys.chain, trust, deps.rules.mode)
  const host: GuestHostVerdict = await verifyGuestHost(decoded, {
    names: keys.names,
    verifier: deps.issuer,
    jwks: deps.verificationKeys(),
    audience: deps.audiences[0] ?? '',
    nowSeconds: secondsOf(nowMs),
    skewSeconds: 0,
    maxAgeSeconds: deps.nonceTtlSeconds,
  })
  return {
    findings: [nonceFinding, credential, ...keys.findings, ...marks.findings, ...host.findings],
    insecureTest: marks.insecureTest,
    keys,
    ...(host.claims ? { claims: host.claims } : {}),
  }
}

interface Snapshot {
  /** What the service knows of the VM, its keys and its host. */
  readonly findings: readonly Finding[]
  readonly guest: StoredGuest | undefined
  readonly policy: StoredGuestPolicy
  readonly ekFingerprint: string
}

async function snapshot(
  tx: AttestationTransaction,
  about: {
    readonly decoded: DecodedGuestEvidence
    readonly keys: GuestKeysVerdict
    readonly claims: AttestationResultClaims
  },
): Promise<Snapshot> {
  const { decoded, keys, claims } = about
  const guest = await tx.findGuest(decoded.vmId)
  const ekFingerprint = createHash('sha256').update(decoded.ekPublic).digest('hex')
  const revoked = await tx.findRevokedKey([ekFingerprint, toHex(keys.akName)])
  const standing = await whyNotNow(tx, claims)
  const lists = await tx.publishedLists()
  return {
    findings: [
      certificateFinding(keys, lists),
      standing
        ? failed('host.trusted', standing.code, 'a host that is trusted now', standing.reason)
        : passed('host.trusted'),
      revoked
        ? failed('guest.keys', 'TPM_KEY_REVOKED', 'keys that are not revoked', revoked.reason)
        : passed('guest.keys'),
      ...knownFindings(guest, keys, claims.sub),
    ],
    guest,
    policy: await guestPolicyOf(tx, claims.sigillo.cluster),
    ekFingerprint,
  }
}

/** Whether the site took the certificate back since its path was verified. */
function certificateFinding(
  { certificate }: GuestKeysVerdict,
  lists: readonly RevocationList[],
): Finding {
  const isTakenBack = lists.some(
    ({ issuerName, serials }) =>
      issuerName === certificate.issuerName && serials.has(certificate.serial),
  )
  const expected = 'a certificate that is not revoked'
  return isTakenBack
    ? failed('guest.certificate', 'CERT_REVOKED', expected, 'one that the site took back')
    : passed('guest.certificate')
}

/** What was accepted before binds: a revocation, and the newest certificate, which says where the VM is. */
function knownFindings(
  guest: StoredGuest | undefined,
  { certificate }: GuestKeysVerdict,
  hostId: string,
): readonly Finding[] {
  if (!guest) return [passed('guest', 'not known before')]
  const expected = (what: string) => `a VM that ${what}`
  if (guest.state === 'revoked') {
    return [failed('guest', 'GUEST_REVOKED', expected('is not revoked'), 'revoked')]
  }
  const isElsewhere = guest.hostId !== hostId
  if (isElsewhere && certificate.notBeforeMs <= guest.certificateIssuedAtMs) {
    const found = `one for host ${guest.hostId} that was issued later`
    const wanted = `the newest certificate of its virtual TPM to be for host ${hostId}`
    return [failed('guest', 'GUEST_MOVED', wanted, found)]
  }
  return [passed('guest', isElsewhere ? `moved from host ${guest.hostId}` : guest.state)]
}

async function judge(
  deps: GuestAttestationDeps,
  input: {
    readonly evidence: GuestEvidence
    readonly decoded: DecodedGuestEvidence
    readonly before: Snapshot
    readonly authentic: readonly Finding[]
    readonly cluster: string
    readonly tokenId: string
    readonly nowMs: number
  },
): Promise<GuestBundle> {
  const { evidence, decoded, before, nowMs } = input
  const { policy, revision } = before.policy
  const { pcrValues, eventLog } = decoded
  const report = await readEventLog(deps.eventLogs, eventLog, rulesOfGuests(policy), pcrValues)
  const appraisal = appraiseGuest({
    ...{ policy, pcrValues, nowMs },
    eventLog: report,
    eventLogOctets: eventLog?.length ?? 0,
  })
  const findings = [...input.authentic, ...appraisal.findings]
  const accepted = failures(findings).length === 0
  const verdict: GuestVerdictView = {
    at: isoTime(nowMs),
    accepted,
    ...(appraisal.baseImage === undefined ? {} : { baseImage: appraisal.baseImage }),
    ...(report?.summary ? { boot: bootView(report.summary, policy.bank) } : {}),
    findings: [...findings],
    ...(accepted ? { tokenId: input.tokenId } : {}),
  }
  return {
    format: 'sigillo guest bundle v1',
    cluster: input.cluster,
    verifier: deps.issuer,
    evidence,
    policy,
    policyRevision: revision,
    verdict,
  }
}

/** What was judged must still be so when it is written: the nonce unused, host and VM in the same standing. */
async function commit(
  tx: AttestationTransaction,
  input: {
    readonly deps: GuestAttestationDeps
    readonly decoded: DecodedGuestEvidence
    readonly keys: GuestKeysVerdict
    readonly claims: AttestationResultClaims
    readonly before: Snapshot
    readonly guest: StoredGuest
    readonly nowMs: number
  },
): Promise<boolean> {
  const { deps, decoded, before, guest, claims, nowMs } = input
  const { verdict } = guest.bundle
  const audit = (outcome: 'allowed' | 'refused', findings: readonly Finding[]) =>
    tx.audit({
      atMs: nowMs,
      actor: `host:${claims.sub}`,
      action: 'guest.attestation',
      subject: `vm:${guest.vmId}`,
      outcome,
      detail: {
        findings: failures(findings).map(describeFinding),
        policy: guestPolicyDigest(guest.bundle.policy),
        hostToken: claims.jti,
        ...(verdict.baseImage === undefined ? {} : { baseImage: verdict.baseImage }),
        ...(verdict.tokenId === undefined ? {} : { token: verdict.tokenId }),
      },
    })
  if (!(await tx.useNonce(decoded.nonce, nowMs + 2 * deps.nonceTtlSeconds * 1000))) {
    const used = failed('nonce', 'NONCE_USED', 'a nonce that was not used', 'a used one')
    await audit('refused', [used])
    return false
  }
  const now = await snapshot(tx, input)
  if (failures(now.findings).length > 0 || now.policy.revision !== before.policy.revision) {
    const expected = 'VM, host and policy as they were when the evidence arrived'
    await audit('refused', [
      ...now.findings,
      failed('guest', 'CONFLICT', expected, 'another state'),
    ])
    return false
  }
  await tx.saveGuest(guest)
  await tellOf(tx, before.guest, guest, nowMs)
  await audit(verdict.accepted ? 'allowed' : 'refused', verdict.findings as readonly Finding[])
  return verdict.accepted
}

/** What is worth telling: that a VM came or fell out, and that it moved. */
async function tellOf(
  tx: AttestationTransaction,
  before: StoredGuest | undefined,
  guest: StoredGuest,
  nowMs: number,
): Promise<void> {
  const { vmId, hostId, cluster, state, bundle } = guest
  const about = { atMs: nowMs, hostId, cluster }
  if (before && before.hostId !== hostId) {
    await tx.addEvent({ ...about, type: 'guest.moved', detail: { vmId, from: before.hostId } })
  }
  if (before?.state === state) return
  const { baseImage = null, findings } = bundle.verdict
  const was = before?.state ?? null
  await tx.addEvent(
    state === 'attested'
      ? { ...about, type: 'guest.attested', detail: { vmId, before: was, baseImage } }
      : {
          ...about,
          type: 'guest.refused',
          detail: {
            vmId,
            before: was,
            reasons: failures(findings as readonly Finding[]).map(describeFinding),
          },
        },
  )
}
