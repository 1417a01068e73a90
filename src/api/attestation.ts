import { type Static, Type } from 'typebox'
import {
  AuditPage,
  AuditQuery,
  AuditVerdict,
  Bank,
  Empty,
  Exactly,
  FindingView,
  HexDigest,
  Name,
  Next,
  NumberedPageQuery,
  Octets,
  PageQuery,
  PcrList,
  Sentence,
  Time,
  Uuid,
} from './common.js'
import { operation } from './operation.js'

const BASE = '/attestation/v1'

// ---------------------------------------------------------------- what hosts call

export const EnrolmentRequest = Exactly({
  hostId: Name,
  ticket: Type.String({
    maxLength: 128,
    description: 'enrolment ticket that an administrator issued',
  }),
  ekPublic: Octets(1024, 'TPMT_PUBLIC of the endorsement key'),
  ekCertificate: Type.Optional(
    Octets(8192, 'certificate of the endorsement key, DER, as the TPM holds it'),
  ),
  akPublic: Octets(1024, 'TPMT_PUBLIC of the attestation key'),
  device: Type.Optional(
    Exactly(
      {
        certificate: Octets(8192, 'certificate of the initial attestation key (IAK), DER'),
        iakPublic: Octets(1024, 'TPMT_PUBLIC of the initial attestation key'),
        attest: Octets(1024, 'TPMS_ATTEST of TPM2_Certify over the attestation key'),
        signature: Octets(1024, 'TPMT_SIGNATURE of the initial attestation key'),
      },
      'the word of the key that the machine was delivered with',
    ),
  ),
})
export type EnrolmentRequest = Static<typeof EnrolmentRequest>

export const createEnrolment = operation({
  id: 'createEnrolment',
  summary: 'Ask to enrol a host; answers with a credential that only its TPM can open',
  method: 'POST',
  path: `${BASE}/enrolments`,
  status: 201,
  body: EnrolmentRequest,
  answer: Exactly({
    enrolmentId: Uuid,
    credentialBlob: Octets(1024, 'TPM2B_ID_OBJECT'),
    encryptedSecret: Octets(1024, 'TPM2B_ENCRYPTED_SECRET'),
    expiresAt: Time,
  }),
})

/** Who said that the keys are in a TPM. */
const Endorsement = Type.Union([
  Type.Literal('ca'),
  Type.Literal('pinned'),
  Type.Literal('device'),
  Type.Literal('approved'),
])

export const HostState = Type.Union([
  Type.Literal('awaiting-approval'),
  Type.Literal('enrolled'),
  Type.Literal('trusted'),
  Type.Literal('refused'),
  Type.Literal('late'),
  Type.Literal('revoked'),
])
export type HostState = Static<typeof HostState>

export const activateEnrolment = operation({
  id: 'activateEnrolment',
  summary: 'Show the secret of the credential; one wrong answer ends the enrolment',
  method: 'POST',
  path: `${BASE}/enrolments/:enrolmentId/activation`,
  status: 200,
  params: Exactly({ enrolmentId: Uuid }),
  body: Exactly({ secret: Octets(64, 'the secret that TPM2_ActivateCredential gave') }),
  answer: Exactly({ hostId: Name, cluster: Name, state: HostState }),
})

export const createNonce = operation({
  id: 'createNonce',
  summary: 'Ask for a nonce and for what the quote must cover',
  method: 'POST',
  path: `${BASE}/nonces`,
  status: 201,
  body: Exactly({ hostId: Name }),
  answer: Exactly({
    nonce: Octets(64, 'single use'),
    expiresAt: Time,
    verifier: Type.String({
      maxLength: 200,
      description: 'identifier of this attestation service',
    }),
    bank: Bank,
    pcrs: PcrList,
    bindingPcrs: PcrList,
    ima: Type.Boolean({ description: 'whether the measurement list of the kernel is wanted' }),
  }),
})

/** A public P-256 key. */
export const PublicJwk = Exactly({
  kty: Type.Literal('EC'),
  crv: Type.Literal('P-256'),
  x: Octets(32, 'x coordinate'),
  y: Octets(32, 'y coordinate'),
})
export type PublicJwk = Static<typeof PublicJwk>

export const Evidence = Exactly({
  hostId: Name,
  nonce: Octets(64, 'the nonce asked for'),
  attest: Octets(1024, 'TPMS_ATTEST of the quote'),
  signature: Octets(1024, 'TPMT_SIGNATURE of the quote'),
  pcrs: Type.Array(Exactly({ pcr: Type.Integer({ minimum: 0, maximum: 23 }), digest: HexDigest }), {
    maxItems: 24,
    description: 'values of the quoted PCRs, ascending',
  }),
  eventLog: Type.Optional(Octets(1024 * 1024, 'boot event log as the firmware wrote it')),
  ima: Type.Optional(
    Exactly(
      {
        from: Type.Integer({
          minimum: 0,
          description: 'entries left out: accepted before in this boot',
        }),
        list: Octets(8 * 1024 * 1024, 'measurement list of the kernel from there on'),
      },
      'not bound to the quote by its digest: PCR 10 proves it',
    ),
  ),
  proofKey: PublicJwk,
  sessionKey: PublicJwk,
  bindingKey: Type.Optional(
    Exactly({
      publicArea: Octets(1024, 'TPMT_PUBLIC of the binding key'),
      attest: Octets(1024, 'TPMS_ATTEST of TPM2_Certify by the attestation key'),
      signature: Octets(1024, 'TPMT_SIGNATURE of it'),
    }),
  ),
})
export type Evidence = Static<typeof Evidence>

export const createAttestation = operation({
  id: 'createAttestation',
  summary: 'Give evidence; answers with a token for key providers',
  method: 'POST',
  path: `${BASE}/attestations`,
  status: 201,
  body: Evidence,
  answer: Exactly({
    token: Type.String(),
    expiresAt: Time,
    imaEntries: Type.Optional(
      Type.Integer({ description: 'entries of the measurement list that are accepted now' }),
    ),
  }),
})

export const getJwks = operation({
  id: 'getJwks',
  summary: 'Public keys that verify tokens',
  method: 'GET',
  path: `${BASE}/jwks.json`,
  status: 200,
  answer: Exactly({ keys: Type.Array(Type.Record(Type.String(), Type.Unknown())) }),
})

export const getDiscovery = operation({
  id: 'getDiscovery',
  summary: 'Discovery document in the manner of OpenID Connect',
  method: 'GET',
  path: '/attestation/.well-known/openid-configuration',
  status: 200,
  answer: Exactly({
    issuer: Type.String(),
    jwks_uri: Type.String(),
    id_token_signing_alg_values_supported: Type.Array(Type.String()),
    response_types_supported: Type.Array(Type.String()),
    subject_types_supported: Type.Array(Type.String()),
    eat_profile: Type.String(),
  }),
})

// ---------------------------------------------------------------- what administrators call

export const TicketView = Exactly({
  ticketId: Uuid,
  cluster: Name,
  hostId: Type.Optional(Name),
  usesLeft: Type.Integer(),
  createdAt: Time,
  expiresAt: Time,
})

export const createTicket = operation({
  id: 'createTicket',
  summary: 'Issue a ticket with which hosts may enrol into a cluster',
  method: 'POST',
  path: `${BASE}/tickets`,
  status: 201,
  body: Exactly({
    cluster: Name,
    hostId: Type.Optional(Name),
    uses: Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000 })),
    ttlSeconds: Type.Optional(Type.Integer({ minimum: 60, maximum: 30 * 86_400 })),
  }),
  answer: Exactly({ ticket: Type.String(), details: TicketView }),
})

export const listTickets = operation({
  id: 'listTickets',
  summary: 'Tickets that can still be used',
  method: 'GET',
  path: `${BASE}/tickets`,
  status: 200,
  query: Exactly(PageQuery),
  answer: Exactly({ tickets: Type.Array(TicketView), next: Next }),
})

export const revokeTicket = operation({
  id: 'revokeTicket',
  summary: 'End a ticket',
  method: 'DELETE',
  path: `${BASE}/tickets/:ticketId`,
  status: 200,
  params: Exactly({ ticketId: Uuid }),
  answer: Empty,
})

/** What the measurements say was booted. Text comes from the host's log: covered by digests, chosen by the host. */
export const BootView = Exactly({
  secureBoot: Type.Union([Type.Literal('on'), Type.Literal('off'), Type.Literal('unknown')]),
  bootApplications: Type.Array(Exactly({ name: Type.String(), digest: HexDigest })),
  firmwareVersion: Type.Optional(Type.String()),
  kernel: Type.Optional(Type.String()),
  commandLine: Type.Optional(Type.String()),
})
export type BootView = Static<typeof BootView>

export const VerdictView = Exactly({
  at: Time,
  accepted: Type.Boolean(),
  baseImage: Type.Optional(Name),
  boot: Type.Optional(BootView),
  findings: Type.Array(FindingView),
  differences: Type.Array(Sentence, {
    description: 'what changed against the nearest base image, in words',
  }),
  bank: Bank,
  pcrs: PcrList,
  tookMs: Type.Number(),
  tokenId: Type.Optional(Uuid),
  bundleId: Type.Optional(Uuid),
})
export type VerdictView = Static<typeof VerdictView>

export const HostView = Exactly({
  hostId: Name,
  cluster: Name,
  state: HostState,
  endorsement: Endorsement,
  insecureTest: Type.Boolean(),
  ekFingerprint: HexDigest,
  akName: HexDigest,
  tpm: Type.Optional(Type.String()),
  epoch: Type.Integer(),
  enrolledAt: Time,
  lastVerdict: Type.Optional(VerdictView),
})
export type HostView = Static<typeof HostView>

const HostParams = Exactly({ hostId: Name })

export const listHosts = operation({
  id: 'listHosts',
  summary: 'Enrolled hosts with their last verdict',
  method: 'GET',
  path: `${BASE}/hosts`,
  status: 200,
  query: Exactly({
    cluster: Type.Optional(Name),
    ...PageQuery,
  }),
  answer: Exactly({ hosts: Type.Array(HostView), next: Next }),
})

export const getHost = operation({
  id: 'getHost',
  summary: 'One host with its last verdict: every check, expected and found',
  method: 'GET',
  path: `${BASE}/hosts/:hostId`,
  status: 200,
  params: HostParams,
  answer: HostView,
})

export const getHostHistory = operation({
  id: 'getHostHistory',
  summary: 'Verdicts of a host, newest first',
  method: 'GET',
  path: `${BASE}/hosts/:hostId/history`,
  status: 200,
  params: HostParams,
  query: Exactly(NumberedPageQuery),
  answer: Exactly({ verdicts: Type.Array(VerdictView), next: Next }),
})

export const approveHost = operation({
  id: 'approveHost',
  summary: 'Accept an endorsement key that no trusted authority certified',
  method: 'POST',
  path: `${BASE}/hosts/:hostId/approval`,
  status: 200,
  params: HostParams,
  body: Exactly({ ekFingerprint: HexDigest }),
  answer: HostView,
})

export const acceptHostReboot = operation({
  id: 'acceptHostReboot',
  summary: 'Accept that a host was rebooted, where its policy refuses that',
  method: 'POST',
  path: `${BASE}/hosts/:hostId/reboot-acceptance`,
  status: 200,
  params: HostParams,
  body: Empty,
  answer: HostView,
})

export const revokeHost = operation({
  id: 'revokeHost',
  summary: 'Trust a host no longer: its tokens end at once',
  method: 'POST',
  path: `${BASE}/hosts/:hostId/revocation`,
  status: 200,
  params: HostParams,
  body: Exactly({ reason: Sentence }),
  answer: HostView,
})

export const removeHost = operation({
  id: 'removeHost',
  summary: 'Forget a revoked host, so that its name can be enrolled again',
  method: 'DELETE',
  path: `${BASE}/hosts/:hostId`,
  status: 200,
  params: HostParams,
  answer: Empty,
})

/** Accepted digests of each PCR. */
export const ReferencePcrs = Type.Array(
  Exactly({
    pcr: Type.Integer({ minimum: 0, maximum: 23 }),
    digests: Type.Array(HexDigest, { minItems: 1, maxItems: 64 }),
  }),
  { minItems: 1, maxItems: 24 },
)

/** Where reference values came from. */
export const BaseImageSource = Type.Union([
  Exactly({ kind: Type.Literal('captured'), hostId: Name }),
  Exactly({
    kind: Type.Literal('json'),
    digest: HexDigest,
    description: Type.Optional(Sentence),
  }),
  Exactly({
    kind: Type.Literal('corim'),
    digest: HexDigest,
    id: Type.String({ maxLength: 200 }),
    signer: Type.Optional(Sentence),
  }),
])

export const BaseImageView = Exactly({
  name: Name,
  cluster: Name,
  source: BaseImageSource,
  addedAt: Time,
  notBefore: Type.Optional(Time),
  notAfter: Type.Optional(Time),
  bank: Bank,
  pcrs: ReferencePcrs,
  boot: Type.Optional(BootView),
})
export type BaseImageView = Static<typeof BaseImageView>

export const captureBaseImage = operation({
  id: 'captureBaseImage',
  summary: 'Make a base image of what a host last proved that it booted',
  method: 'POST',
  path: `${BASE}/base-images`,
  status: 201,
  body: Exactly({ name: Name, hostId: Name, notAfter: Type.Optional(Time) }),
  answer: BaseImageView,
})

export const listBaseImages = operation({
  id: 'listBaseImages',
  summary: 'Base images: what good hosts measure',
  method: 'GET',
  path: `${BASE}/base-images`,
  status: 200,
  query: Exactly({ cluster: Type.Optional(Name), ...PageQuery }),
  answer: Exactly({ baseImages: Type.Array(BaseImageView), next: Next }),
})

const BaseImageParams = Exactly({ cluster: Name, name: Name })

export const removeBaseImage = operation({
  id: 'removeBaseImage',
  summary: 'Accept a base image no longer; tokens issued under it end at once',
  method: 'DELETE',
  path: `${BASE}/base-images/:cluster/:name`,
  status: 200,
  params: BaseImageParams,
  answer: Empty,
})

const Pattern = Type.String({
  minLength: 1,
  maxLength: 1024,
  description: 'text in which * stands for any characters',
})
const Patterns = (description: string) =>
  Type.Optional(Type.Array(Pattern, { minItems: 1, maxItems: 256, description }))

const PcrIndexes = (minItems: number, description: string) =>
  Type.Array(Type.Integer({ minimum: 0, maximum: 15 }), {
    minItems,
    maxItems: 16,
    uniqueItems: true,
    description,
  })

/** What may run on hosts, by the measurement list of the kernel (IMA). */
export const ImaRules = Exactly({
  allow: Type.Array(
    Exactly({ path: Pattern, digests: Type.Array(HexDigest, { minItems: 1, maxItems: 4096 }) }),
    { maxItems: 20_000, description: 'accepted digests of files by patterns of their paths' },
  ),
  exclude: Type.Array(Pattern, { maxItems: 1024, description: 'paths that are not looked at' }),
  allowViolations: Type.Boolean(),
  signers: Type.Array(Type.String({ maxLength: 16_384 }), {
    maxItems: 64,
    description: 'public keys or certificates, PEM: files signed by them are accepted',
  }),
})

/** What hosts of a cluster must prove. Members that are left out ask for nothing. */
export const Policy = Exactly({
  bank: Bank,
  pcrs: PcrIndexes(1, 'PCRs that every quote must cover'),
  pinnedPcrs: PcrIndexes(
    0,
    'PCRs that must have the values of a base image; a subset of pcrs. With none, no base image is needed',
  ),
  bindingPcrs: PcrIndexes(1, 'PCRs that the binding key of a host is tied to; a subset of pcrs'),
  requireEventLog: Type.Boolean(),
  requireSecureBoot: Type.Boolean(),
  tokenTtlSeconds: Type.Integer({ minimum: 30, maximum: 300 }),
  maxEventLogOctets: Type.Optional(Type.Integer({ minimum: 1024, maximum: 1024 * 1024 })),
  bootApplications: Type.Optional(
    Type.Array(Exactly({ digest: HexDigest, name: Type.Optional(Sentence) }), {
      minItems: 1,
      maxItems: 1024,
      description: 'digests, in the bank of the policy, of everything that the firmware may start',
    }),
  ),
  kernels: Patterns('kernel file, as GRUB loaded it, or the unified kernel image'),
  commandLines: Patterns('command line of the kernel, where the log proves it'),
  firmwareVersions: Patterns('version of the firmware (EV_S_CRTM_VERSION)'),
  dbxAtLeast: Type.Optional(
    Type.Array(HexDigest, {
      minItems: 1,
      maxItems: 4096,
      description: 'SHA-256 hashes that the forbidden signatures (dbx) must have',
    }),
  ),
  reboot: Type.Optional(
    Type.Union([Type.Literal('allow'), Type.Literal('refuse')], {
      description: 'refuse: a host that was rebooted is not trusted until it is approved again',
    }),
  ),
  suspend: Type.Optional(
    Type.Union([Type.Literal('allow'), Type.Literal('refuse')], {
      description:
        'refuse, the default: a host whose TPM went on after a suspend is not trusted until it is rebooted or accepted',
    }),
  ),
  requireSafeClock: Type.Optional(Type.Boolean()),
  ima: Type.Optional(ImaRules),
  maxAgeSeconds: Type.Optional(
    Type.Integer({
      minimum: 30,
      maximum: 86_400,
      description: 'a host whose last accepted attestation is older is late, and not trusted',
    }),
  ),
})
export type Policy = Static<typeof Policy>

export const PolicyView = Exactly({
  cluster: Name,
  revision: Type.Integer(),
  digest: HexDigest,
  epoch: Type.Integer(),
  updatedAt: Type.Optional(Time),
  policy: Policy,
})
export type PolicyView = Static<typeof PolicyView>

export const PolicyDraftView = Exactly({
  cluster: Name,
  digest: HexDigest,
  updatedAt: Time,
  updatedBy: Type.String(),
  policy: Policy,
})
export type PolicyDraftView = Static<typeof PolicyDraftView>

/** TPMS_CLOCK_INFO; the time in milliseconds as text, since it has 64 bits. */
const ClockView = Exactly({
  clock: Type.String({ pattern: '^\\d{1,20}$' }),
  resetCount: Type.Integer(),
  restartCount: Type.Integer(),
  safe: Type.Boolean(),
})

/** Everything that a verdict was made of, to be judged again anywhere. */
export const EvidenceBundle = Exactly({
  format: Type.Literal('sigillo-evidence-bundle/1'),
  bundleId: Uuid,
  hostId: Name,
  cluster: Name,
  verifier: Type.String({ maxLength: 200 }),
  akPublic: Octets(1024, 'TPMT_PUBLIC of the attestation key'),
  ekFingerprint: HexDigest,
  evidence: Evidence,
  policy: Policy,
  policyRevision: Type.Integer(),
  previousClock: Type.Optional(ClockView),
  imaStart: Type.Optional(
    Exactly(
      { entries: Type.Integer(), value: HexDigest },
      'where the measurement list goes on; the list is in the evidence unless it was too long to be kept',
    ),
  ),
  baseImage: Type.Optional(
    Exactly({ name: Name, bank: Bank, pcrs: ReferencePcrs }, 'the base image that came nearest'),
  ),
  verdict: VerdictView,
})
export type EvidenceBundle = Static<typeof EvidenceBundle>

export const getEvidenceBundle = operation({
  id: 'getEvidenceBundle',
  summary: 'The evidence of a verdict, to be judged again anywhere: sigillo verify bundle',
  method: 'GET',
  path: `${BASE}/hosts/:hostId/bundles/:bundleId`,
  status: 200,
  params: Exactly({ hostId: Name, bundleId: Uuid }),
  answer: EvidenceBundle,
})

export const listEvidenceBundles = operation({
  id: 'listEvidenceBundles',
  summary: 'The bundles of evidence that are kept of a host, newest first',
  method: 'GET',
  path: `${BASE}/hosts/:hostId/bundles`,
  status: 200,
  params: HostParams,
  query: Exactly(PageQuery),
  answer: Exactly({ bundles: Type.Array(Exactly({ bundleId: Uuid, at: Time })), next: Next }),
})

const ClusterParams = Exactly({ cluster: Name })

export const getPolicy = operation({
  id: 'getPolicy',
  summary: 'Appraisal policy of a cluster',
  method: 'GET',
  path: `${BASE}/policies/:cluster`,
  status: 200,
  params: ClusterParams,
  answer: PolicyView,
})

export const getPolicyDraft = operation({
  id: 'getPolicyDraft',
  summary: 'Draft of the appraisal policy of a cluster',
  method: 'GET',
  path: `${BASE}/policies/:cluster/draft`,
  status: 200,
  params: ClusterParams,
  answer: PolicyDraftView,
})

export const setPolicyDraft = operation({
  id: 'setPolicyDraft',
  summary: 'Draft an appraisal policy; nothing changes for hosts until it is activated',
  method: 'PUT',
  path: `${BASE}/policies/:cluster/draft`,
  status: 200,
  params: ClusterParams,
  body: Policy,
  answer: PolicyDraftView,
})

export const removePolicyDraft = operation({
  id: 'removePolicyDraft',
  summary: 'Throw the draft of a policy away',
  method: 'DELETE',
  path: `${BASE}/policies/:cluster/draft`,
  status: 200,
  params: ClusterParams,
  answer: Empty,
})

export const testPolicyDraft = operation({
  id: 'testPolicyDraft',
  summary: 'Judge the last evidence of every host by the draft: who would fall out',
  method: 'GET',
  path: `${BASE}/policies/:cluster/draft/test`,
  status: 200,
  params: ClusterParams,
  query: Exactly(PageQuery),
  answer: Exactly({
    cluster: Name,
    digest: HexDigest,
    next: Next,
    hosts: Type.Array(
      Exactly({
        hostId: Name,
        now: HostState,
        outcome: Type.Union(
          [Type.Literal('accepted'), Type.Literal('refused'), Type.Literal('unknown')],
          { description: 'unknown: the last evidence does not say, or there is none' },
        ),
        reason: Type.Optional(Type.String({ description: 'why the last evidence does not say' })),
        findings: Type.Array(FindingView, { description: 'the failed checks' }),
      }),
    ),
  }),
})

export const activatePolicyDraft = operation({
  id: 'activatePolicyDraft',
  summary: 'Make the draft the policy; tokens issued under the policy before it end at once',
  method: 'POST',
  path: `${BASE}/policies/:cluster/draft/activation`,
  status: 200,
  params: ClusterParams,
  body: Exactly({ digest: HexDigest }),
  answer: PolicyView,
})

export const listPolicyRevisions = operation({
  id: 'listPolicyRevisions',
  summary: 'Every policy that a cluster had, newest first',
  method: 'GET',
  path: `${BASE}/policies/:cluster/revisions`,
  status: 200,
  params: ClusterParams,
  query: Exactly(NumberedPageQuery),
  answer: Exactly({
    revisions: Type.Array(
      Exactly({
        revision: Type.Integer(),
        digest: HexDigest,
        activatedAt: Time,
        activatedBy: Type.String(),
      }),
    ),
    next: Next,
  }),
})

export const getPolicyRevision = operation({
  id: 'getPolicyRevision',
  summary: 'A policy that a cluster had',
  method: 'GET',
  path: `${BASE}/policies/:cluster/revisions/:revision`,
  status: 200,
  params: Exactly({
    cluster: Name,
    revision: Type.String({ pattern: '^[1-9][0-9]{0,8}$' }),
  }),
  answer: Exactly({
    cluster: Name,
    revision: Type.Integer(),
    digest: HexDigest,
    activatedAt: Time,
    activatedBy: Type.String(),
    policy: Policy,
  }),
})

export const endPolicyTokens = operation({
  id: 'endPolicyTokens',
  summary: 'End every token of a cluster at once; its hosts attest again under the same policy',
  method: 'POST',
  path: `${BASE}/policies/:cluster/token-revocation`,
  status: 200,
  params: ClusterParams,
  body: Exactly({ reason: Sentence }),
  answer: PolicyView,
})

export const introspectToken = operation({
  id: 'introspectToken',
  summary: 'Whether a token counts now, and why not',
  method: 'POST',
  path: `${BASE}/introspection`,
  status: 200,
  body: Exactly({ token: Type.String({ maxLength: 8192 }) }),
  answer: Exactly({
    active: Type.Boolean(),
    code: Type.Optional(Type.String()),
    reason: Type.Optional(Type.String()),
    claims: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
  }),
})

export const revokeToken = operation({
  id: 'revokeToken',
  summary: 'End one token at once',
  method: 'POST',
  path: `${BASE}/tokens/:tokenId/revocation`,
  status: 200,
  params: Exactly({ tokenId: Uuid }),
  body: Exactly({ reason: Sentence }),
  answer: Empty,
})

export const SignatureAlgorithm = Type.Union([
  Type.Literal('ES256'),
  Type.Literal('ES384'),
  Type.Literal('EdDSA'),
])

export const SigningKeyView = Exactly({
  kid: Type.String(),
  algorithm: SignatureAlgorithm,
  createdAt: Time,
  retiredAt: Type.Optional(Time),
})

export const listSigningKeys = operation({
  id: 'listSigningKeys',
  summary:
    'Keys that tokens are signed with: the active one, and retired ones that are still published',
  method: 'GET',
  path: `${BASE}/signing-keys`,
  status: 200,
  query: Exactly(PageQuery),
  answer: Exactly({ keys: Type.Array(SigningKeyView), next: Next }),
})

export const rotateSigningKey = operation({
  id: 'rotateSigningKey',
  summary:
    'Sign tokens with a new key from now on; tokens of the old one stay valid until they end',
  method: 'POST',
  path: `${BASE}/signing-keys`,
  status: 201,
  body: Exactly({ algorithm: Type.Optional(SignatureAlgorithm) }),
  answer: SigningKeyView,
})

export const AttestationEventView = Exactly({
  seq: Type.Integer(),
  at: Time,
  type: Type.String({ description: 'host.trusted, host.refused, host.late, policy.activated, …' }),
  hostId: Type.Optional(Name),
  cluster: Type.Optional(Name),
  detail: Type.Record(Type.String(), Type.Unknown()),
})
export type AttestationEventView = Static<typeof AttestationEventView>

export const listAttestationEvents = operation({
  id: 'listAttestationEvents',
  summary: 'Events, oldest first',
  method: 'GET',
  path: `${BASE}/events`,
  status: 200,
  query: Exactly(NumberedPageQuery),
  answer: Exactly({ events: Type.Array(AttestationEventView), next: Next }),
})

/** Server-Sent Events: not a JSON answer, and so not an operation. */
export const ATTESTATION_EVENT_STREAM = {
  id: 'streamAttestationEvents',
  summary: 'Events as they happen, as Server-Sent Events',
  path: `${BASE}/events/stream`,
} as const

export const WebhookView = Exactly({
  webhookId: Uuid,
  url: Type.String(),
  deliveredSeq: Type.Integer({ description: 'every event up to this one was delivered' }),
  failures: Type.Integer({ description: 'in a row' }),
  nextTryAt: Type.Optional(Time),
  lastError: Type.Optional(Type.String()),
  createdAt: Time,
})

export const createWebhook = operation({
  id: 'createWebhook',
  summary: 'Have events delivered to a URL, signed; the secret is shown once',
  method: 'POST',
  path: `${BASE}/webhooks`,
  status: 201,
  body: Exactly({ url: Type.String({ maxLength: 2000 }) }),
  answer: Exactly({ secret: Type.String(), webhook: WebhookView }),
})

export const listWebhooks = operation({
  id: 'listWebhooks',
  summary: 'Webhooks, and how far each came',
  method: 'GET',
  path: `${BASE}/webhooks`,
  status: 200,
  query: Exactly(PageQuery),
  answer: Exactly({ webhooks: Type.Array(WebhookView), next: Next }),
})

export const removeWebhook = operation({
  id: 'removeWebhook',
  summary: 'Deliver events to a URL no longer',
  method: 'DELETE',
  path: `${BASE}/webhooks/:webhookId`,
  status: 200,
  params: Exactly({ webhookId: Uuid }),
  answer: Empty,
})

export const listAttestationAudit = operation({
  id: 'listAttestationAudit',
  summary: 'Audit records of the attestation service',
  method: 'GET',
  path: `${BASE}/audit`,
  status: 200,
  query: AuditQuery,
  answer: AuditPage,
})

export const verifyAttestationAudit = operation({
  id: 'verifyAttestationAudit',
  summary: 'Recompute the hash chain of the audit records',
  method: 'GET',
  path: `${BASE}/audit/verification`,
  status: 200,
  answer: AuditVerdict,
})
