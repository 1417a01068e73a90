import type { HostState } from '../api/attestation.js'
import type { BaseImageView, BootView } from '../api/base-images.js'
import type { EvidenceBundle, VerdictView } from '../api/hosts.js'
import type { Policy } from '../api/policies.js'
import type { EventLogReport, ReferenceValues, TpmClock } from '../appraisal/index.js'
import type { StoredPage } from '../core/page.js'
import type { Secret } from '../core/secret.js'
import type { BootQuestions } from '../eventlog/index.js'
import type { RevocationList } from '../pki/index.js'
import type { AuditEntry } from '../store/index.js'
import type { AttestationResultClaims, SignatureAlgorithm } from '../tokens/index.js'
import type { NewEvent, StoredEvent } from './domain/events.js'
import type { AcceptedIma } from './domain/host-ima.js'
import type { GuestTransaction } from './guest-ports.js'

/** The database, one transaction at a time: what is read, written and audited in `work` is true together or not at all. */
export interface AttestationStore {
  transaction<R>(work: (tx: AttestationTransaction) => Promise<R>): Promise<R>
}

/** Whom enrolment believes that a key is in a TPM. */
export interface EndorsementTransaction {
  /** Anchors and intermediates, by fingerprint. */
  listAuthorities(page?: StoredPage): Promise<readonly StoredAuthority[]>
  /** Replaces role and mark where the certificate is there already. */
  saveAuthority(authority: StoredAuthority): Promise<void>
  removeAuthority(fingerprint: string): Promise<boolean>

  /** By issuer. */
  listRevocationLists(page?: StoredPage): Promise<readonly StoredRevocationList[]>
  /** The lists of authorities of this site, which the services that have these keep. */
  publishedLists(): Promise<readonly RevocationList[]>
  /** One list for each authority: replaces the one before. */
  saveRevocationList(list: StoredRevocationList): Promise<void>
  removeRevocationList(issuerFingerprint: string): Promise<boolean>

  /** By fingerprint. */
  listEndorsementKeys(page: StoredPage): Promise<readonly StoredEndorsementKey[]>
  hasEndorsementKey(fingerprint: string): Promise<boolean>
  saveEndorsementKey(key: StoredEndorsementKey): Promise<void>
  removeEndorsementKey(fingerprint: string): Promise<boolean>

  /** By key. */
  listRevokedKeys(page: StoredPage): Promise<readonly StoredRevokedKey[]>
  /** The first of these keys that is revoked. */
  findRevokedKey(keys: readonly string[]): Promise<StoredRevokedKey | undefined>
  /** Replaces the reason where the key is there already. */
  saveRevokedKey(key: StoredRevokedKey): Promise<void>
  removeRevokedKey(key: string): Promise<boolean>
}

export interface AttestationTransaction extends EndorsementTransaction, GuestTransaction {
  /** That can still be used, by id. */
  listTickets(nowMs: number, page: StoredPage): Promise<readonly StoredTicket[]>
  findTicket(ticketHash: string): Promise<StoredTicket | undefined>
  insertTicket(ticket: StoredTicket, ticketHash: string): Promise<void>
  /** Takes one use of a ticket; false where none is left. */
  useTicket(ticketId: string): Promise<boolean>
  removeTicket(ticketId: string): Promise<boolean>

  /** Removes enrolments that were never activated in time; returns how many are left waiting. */
  purgeEnrolments(nowMs: number): Promise<number>
  insertEnrolment(enrolment: PendingEnrolment): Promise<void>
  /** Returns an enrolment and removes it: there is no second look. */
  takeEnrolment(enrolmentId: string): Promise<PendingEnrolment | undefined>

  /** By id, ascending. */
  listHosts(filter: HostFilter): Promise<readonly StoredHost[]>
  findHost(hostId: string): Promise<StoredHost | undefined>
  findHostByEk(ekFingerprint: string): Promise<StoredHost | undefined>
  /** Hosts with this name of an attestation key or fingerprint of an endorsement key. */
  listHostsWithKey(key: string): Promise<readonly StoredHost[]>
  /** @throws PlatformError `HOST_ID_TAKEN` or `EK_TAKEN`, kept by the database's own constraints */
  insertHost(host: Omit<StoredHost, 'epoch' | 'state'>): Promise<void>
  setClock(hostId: string, clock: TpmClock): Promise<void>
  setAccepted(hostId: string, atMs: number): Promise<void>
  removeHost(hostId: string): Promise<void>
  /** State, and whether tokens issued before end at once (a new epoch). */
  setState(
    host: { readonly hostId: string; readonly cluster: string },
    state: HostState,
    options: { readonly newEpoch: boolean; readonly policyEpoch: number; readonly nowMs: number },
  ): Promise<void>

  findPolicy(cluster: string): Promise<StoredPolicy | undefined>
  /** Saves the policy and gives its epoch to every host of the cluster. */
  savePolicy(cluster: string, policy: StoredPolicy, nowMs: number): Promise<void>

  findPolicyDraft(cluster: string): Promise<StoredPolicyDraft | undefined>
  savePolicyDraft(cluster: string, draft: StoredPolicyDraft): Promise<void>
  removePolicyDraft(cluster: string): Promise<boolean>
  /** Newest first; a page goes on below a revision. */
  listPolicyRevisions(cluster: string, page: StoredPage): Promise<readonly StoredPolicyRevision[]>
  findPolicyRevision(cluster: string, revision: number): Promise<StoredPolicyRevision | undefined>
  addPolicyRevision(cluster: string, revision: StoredPolicyRevision): Promise<void>

  /** By cluster and name; a page goes on behind `cluster/name`. */
  listBaseImages(cluster?: string, page?: StoredPage): Promise<readonly StoredBaseImage[]>
  /** The boot event log of an image, where it was captured with one. */
  findBaseImageLog(cluster: string, name: string): Promise<Uint8Array | undefined>
  /** @throws PlatformError `CONFLICT` where the cluster has an image of this name */
  insertBaseImage(image: StoredBaseImage, eventLog?: Uint8Array): Promise<void>
  removeBaseImage(cluster: string, name: string): Promise<boolean>

  /** Oldest first. */
  listReferenceSigners(): Promise<readonly StoredReferenceSigner[]>
  /** Replaces the note where the key is there already. */
  saveReferenceSigner(signer: StoredReferenceSigner): Promise<void>
  removeReferenceSigner(signerId: string): Promise<boolean>

  findIma(hostId: string): Promise<AcceptedIma | undefined>
  saveIma(hostId: string, accepted: AcceptedIma): Promise<void>

  /** The newest bundle of a host, or the one of this id. */
  findBundle(hostId: string, bundleId?: string): Promise<EvidenceBundle | undefined>
  /** Newest first; a page goes on behind `time/id`. */
  listBundles(hostId: string, page: StoredPage): Promise<readonly StoredBundleName[]>
  /** Keeps the newest `keep` bundles of the host. */
  addBundle(bundle: EvidenceBundle, keep: number): Promise<void>

  /** Newest first; a page goes on below a number. */
  listVerdicts(hostId: string, page: StoredPage): Promise<readonly StoredVerdict[]>
  addVerdict(hostId: string, verdict: VerdictView, keep: number): Promise<void>

  /** Hosts that are trusted now, with the moment of their last accepted attestation. */
  listTrustedHosts(): Promise<
    readonly { readonly hostId: string; readonly cluster: string; readonly acceptedAtMs: number }[]
  >

  addEvent(event: NewEvent): Promise<void>
  /** Oldest first. */
  listEvents(afterSeq: number, limit: number): Promise<readonly StoredEvent[]>
  /** 0 where there is no event. */
  newestEvent(): Promise<number>
  /** Forgets all but the newest `keep` events. */
  purgeEvents(keep: number): Promise<void>

  listWebhooks(): Promise<readonly StoredWebhook[]>
  listDueWebhooks(nowMs: number): Promise<readonly StoredWebhook[]>
  insertWebhook(webhook: StoredWebhook): Promise<void>
  removeWebhook(webhookId: string): Promise<boolean>
  webhookDelivered(webhookId: string, seq: number): Promise<void>
  webhookFailed(
    webhookId: string,
    failure: {
      readonly failures: number
      readonly nextTryMs: number
      readonly lastError: string
    },
  ): Promise<void>

  /** False where the token was revoked before. */
  revokeToken(tokenId: string, untilMs: number): Promise<boolean>
  isTokenRevoked(tokenId: string): Promise<boolean>

  /** False where the nonce was used before. */
  useNonce(nonce: Uint8Array, expiresAtMs: number): Promise<boolean>

  audit(entry: Omit<AuditEntry, 'chain'>): Promise<void>
}

export interface HostFilter extends StoredPage {
  readonly cluster?: string | undefined
}

export interface StoredVerdict {
  /** Rises with each verdict. */
  readonly number: number
  readonly verdict: VerdictView
}

export interface StoredBundleName {
  readonly bundleId: string
  readonly atMs: number
}

export interface StoredAuthority {
  readonly fingerprint: string
  /**
   * `anchor`: endorses TPMs of hosts; `vtpm`: endorses virtual TPMs; `intermediate`: helps to find a path, and is trusted
   * for nothing.
   */
  readonly role: 'anchor' | 'vtpm' | 'intermediate'
  readonly subject: string
  readonly certificate: Uint8Array
  readonly notAfterMs: number
  readonly insecureTest: boolean
  readonly addedAtMs: number
}

export interface StoredRevocationList {
  /** Of the authority's certificate. */
  readonly issuerFingerprint: string
  readonly list: Uint8Array
  readonly thisUpdateMs: number
  readonly nextUpdateMs: number
  readonly addedAtMs: number
}

/** An endorsement key that an administrator trusts by itself. */
export interface StoredEndorsementKey {
  /** SHA-256 of SubjectPublicKeyInfo, hexadecimal. */
  readonly fingerprint: string
  readonly note: string
  readonly addedAtMs: number
}

/** A key that no host may have. */
export interface StoredRevokedKey {
  /** Name of an attestation key, or SHA-256 of the TPMT_PUBLIC of an endorsement key, hexadecimal. */
  readonly key: string
  readonly reason: string
  readonly revokedAtMs: number
}

/** Who said that a host's keys are in a TPM. */
export type Endorsement = 'ca' | 'pinned' | 'device' | 'approved'

export interface StoredTicket {
  readonly ticketId: string
  readonly cluster: string
  readonly hostId?: string
  readonly usesLeft: number
  readonly createdAtMs: number
  readonly expiresAtMs: number
}

/** The parts of a host that enrolment decides. */
export interface HostKeys {
  readonly hostId: string
  readonly cluster: string
  readonly ekPublic: Uint8Array
  readonly ekFingerprint: string
  readonly akPublic: Uint8Array
  readonly endorsement: Endorsement
  /** DER; absent where the TPM has none. */
  readonly ekCertificate?: Uint8Array
  readonly insecureTest: boolean
  readonly tpm?: string
}

export interface PendingEnrolment extends HostKeys {
  readonly enrolmentId: string
  readonly ticketId: string
  readonly secretHash: string
  readonly expiresAtMs: number
}

export interface StoredHost extends HostKeys {
  /** Hexadecimal. */
  readonly akName: string
  readonly clock?: TpmClock
  readonly enrolledAtMs: number
  readonly state: HostState
  readonly epoch: number
}

export interface StoredPolicy {
  readonly revision: number
  readonly epoch: number
  readonly policy: Policy
  readonly updatedAtMs: number
}

export interface StoredSigningKey {
  readonly kid: string
  readonly algorithm: SignatureAlgorithm
  readonly createdAtMs: number
  readonly retiredAtMs?: number
}

export interface StoredWebhook {
  readonly webhookId: string
  readonly url: string
  readonly sealedSecret: Uint8Array
  /** Every event up to this one was delivered. */
  readonly deliveredSeq: number
  /** In a row. */
  readonly failures: number
  readonly nextTryMs: number
  readonly lastError?: string
  readonly createdAtMs: number
}

export interface StoredPolicyDraft {
  readonly policy: Policy
  readonly operator: string
  readonly updatedAtMs: number
}

export interface StoredPolicyRevision {
  readonly revision: number
  readonly policy: Policy
  readonly operator: string
  readonly activatedAtMs: number
}

export interface StoredBaseImage extends ReferenceValues {
  readonly cluster: string
  readonly source: BaseImageView['source']
  readonly addedAtMs: number
  readonly boot?: BootView
}

/** A key that reference values may be signed with. */
export interface StoredReferenceSigner {
  /** SHA-256 of SubjectPublicKeyInfo, hexadecimal. */
  readonly signerId: string
  readonly pem: string
  readonly note: string
  readonly addedAtMs: number
}

/** Reads event logs away from the main thread, within a time and a heap of their own. */
export interface EventLogReader {
  verify(
    eventLog: Uint8Array,
    bank: string,
    pcrValues: ReadonlyMap<number, Uint8Array>,
    questions: BootQuestions,
  ): Promise<EventLogReport>
  /** What changed between two boots, in sentences. */
  compare(reference: Uint8Array, found: Uint8Array, bank: string): Promise<readonly string[]>
}

/** Keys of the service. */
export interface AttestationKeys {
  /** MAC key of nonces. */
  readonly nonceKey: Secret
  sign(claims: AttestationResultClaims): Promise<string>
}
