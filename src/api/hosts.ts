import { type Static, Type } from 'typebox'
import { Endorsement, Evidence, HostState } from './attestation.js'
import { BootView, ReferencePcrs } from './base-images.js'
import {
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
import { onSite } from './needs.js'
import { operation } from './operation.js'
import { Policy } from './policies.js'

const BASE = '/attestation/v1'

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
  needs: onSite('TrustedAdmin.ManageTrustedHosts'),
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
  needs: onSite('TrustedAdmin.ReadTrustedHosts'),
  summary: 'Tickets that can still be used',
  method: 'GET',
  path: `${BASE}/tickets`,
  status: 200,
  query: Exactly(PageQuery),
  answer: Exactly({ tickets: Type.Array(TicketView), next: Next }),
})

export const revokeTicket = operation({
  id: 'revokeTicket',
  needs: onSite('TrustedAdmin.ManageTrustedHosts'),
  summary: 'End a ticket',
  method: 'DELETE',
  path: `${BASE}/tickets/:ticketId`,
  status: 200,
  params: Exactly({ ticketId: Uuid }),
  answer: Empty,
})

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
  needs: onSite('TrustedAdmin.ReadTrustedHosts'),
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
  needs: onSite('TrustedAdmin.ReadTrustedHosts'),
  summary: 'One host with its last verdict: every check, expected and found',
  method: 'GET',
  path: `${BASE}/hosts/:hostId`,
  status: 200,
  params: HostParams,
  answer: HostView,
})

export const getHostHistory = operation({
  id: 'getHostHistory',
  needs: onSite('TrustedAdmin.ReadTrustedHosts'),
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
  needs: onSite('TrustedAdmin.ManageTrustedHosts'),
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
  needs: onSite('TrustedAdmin.ManageTrustedHosts'),
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
  needs: onSite('TrustedAdmin.ManageTrustedHosts'),
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
  needs: onSite('TrustedAdmin.ManageTrustedHosts'),
  summary: 'Forget a revoked host, so that its name can be enrolled again',
  method: 'DELETE',
  path: `${BASE}/hosts/:hostId`,
  status: 200,
  params: HostParams,
  answer: Empty,
})

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
  needs: onSite('TrustedAdmin.ReadTrustedHosts'),
  summary: 'The evidence of a verdict, to be judged again anywhere: sigillo verify bundle',
  method: 'GET',
  path: `${BASE}/hosts/:hostId/bundles/:bundleId`,
  status: 200,
  params: Exactly({ hostId: Name, bundleId: Uuid }),
  answer: EvidenceBundle,
})

export const listEvidenceBundles = operation({
  id: 'listEvidenceBundles',
  needs: onSite('TrustedAdmin.ReadTrustedHosts'),
  summary: 'The bundles of evidence that are kept of a host, newest first',
  method: 'GET',
  path: `${BASE}/hosts/:hostId/bundles`,
  status: 200,
  params: HostParams,
  query: Exactly(PageQuery),
  answer: Exactly({ bundles: Type.Array(Exactly({ bundleId: Uuid, at: Time })), next: Next }),
})
