import type { FastifyRequest } from 'fastify'
import {
  acceptHostReboot,
  activatePolicyDraft,
  approveHost,
  captureBaseImage,
  createTicket,
  getEvidenceBundle,
  getHost,
  getHostHistory,
  getPolicy,
  getPolicyDraft,
  listAttestationAudit,
  listBaseImages,
  listHosts,
  listPolicyRevisions,
  listTickets,
  removeBaseImage,
  removeHost,
  removePolicyDraft,
  revokeHost,
  revokeTicket,
  setPolicyDraft,
  testPolicyDraft as testPolicyOperation,
  verifyAttestationAudit,
} from '../../api/attestation.js'
import { policyDigest } from '../../appraisal/index.js'
import { type Clock, isoTime } from '../../core/clock.js'
import { newUuid, randomOctets } from '../../core/random.js'
import { type App, addOperation, type OperatorAccess } from '../../http/index.js'
import type { AuditLog } from '../../store/index.js'
import type { Administration } from '../domain/administration.js'
import type { PolicyTest } from '../domain/policy-test.js'
import type { StoredPolicyDraft, StoredTicket } from '../ports.js'
import { baseImageView } from './base-image-view.js'

const SERVICE = 'attestation'
const READ = { access: { operator: ['administrator', 'auditor'], service: SERVICE } } as const
const CHANGE = { access: { operator: ['administrator'], service: SERVICE } } as const
const DEFAULT_TICKET_TTL_SECONDS = 3600
const POLICY_BODY_OCTETS = 16 * 1024 * 1024
const DEFAULT_PAGE = 1000

/** What administrators and auditors call. */
export function addOperatorRoutes(
  app: App,
  deps: {
    readonly administration: Administration
    readonly testPolicyDraft: (cluster: string, nowMs: number) => Promise<PolicyTest>
    readonly audit: AuditLog
    readonly operators: OperatorAccess
    readonly clock: Clock
  },
): void {
  const { administration, audit, clock } = deps
  const actOf = (request: FastifyRequest) => ({
    operator: deps.operators.operatorOf(request).name,
    nowMs: clock.nowMs(),
  })

  addOperation(app, createTicket, CHANGE, async ({ body, request }) => {
    const { text, ticket } = await administration.createTicket(actOf(request), {
      ticketId: newUuid(),
      random: randomOctets(32),
      cluster: body.cluster,
      hostId: body.hostId,
      uses: body.uses ?? 1,
      ttlSeconds: body.ttlSeconds ?? DEFAULT_TICKET_TTL_SECONDS,
    })
    return { ticket: text, details: ticketView(ticket) }
  })
  addOperation(app, listTickets, READ, async () => ({
    tickets: (await administration.listTickets(clock.nowMs())).map(ticketView),
  }))
  addOperation(app, revokeTicket, CHANGE, async ({ params, request }) => {
    await administration.revokeTicket(actOf(request), params.ticketId)
    return {}
  })

  addOperation(app, listHosts, READ, async ({ query: { limit, ...filter } }) =>
    administration.listHosts(filter, limit ?? DEFAULT_PAGE),
  )
  addOperation(app, getHost, READ, async ({ params }) => administration.getHost(params.hostId))
  addOperation(app, getHostHistory, READ, async ({ params, query }) => ({
    verdicts: [...(await administration.getHistory(params.hostId, query.limit ?? 10))],
  }))
  addOperation(app, getEvidenceBundle, READ, async ({ params }) =>
    administration.getBundle(params.hostId, params.bundleId),
  )
  addOperation(app, approveHost, CHANGE, async ({ params, body, request }) =>
    administration.approveHost(actOf(request), params.hostId, body.ekFingerprint),
  )
  addOperation(app, acceptHostReboot, CHANGE, async ({ params, request }) =>
    administration.acceptReboot(actOf(request), params.hostId),
  )
  addOperation(app, revokeHost, CHANGE, async ({ params, body, request }) =>
    administration.revokeHost(actOf(request), params.hostId, body.reason),
  )
  addOperation(app, removeHost, CHANGE, async ({ params, request }) => {
    await administration.removeHost(actOf(request), params.hostId)
    return {}
  })

  addOperation(app, captureBaseImage, CHANGE, async ({ body, request }) =>
    baseImageView(
      await administration.captureBaseImage(actOf(request), {
        name: body.name,
        hostId: body.hostId,
        notAfterMs: body.notAfter === undefined ? undefined : Date.parse(body.notAfter),
      }),
    ),
  )
  addOperation(app, listBaseImages, READ, async ({ query }) => ({
    baseImages: (await administration.listBaseImages(query.cluster)).map(baseImageView),
  }))
  addOperation(app, removeBaseImage, CHANGE, async ({ params, request }) => {
    await administration.removeBaseImage(actOf(request), params.cluster, params.name)
    return {}
  })

  addOperation(app, getPolicy, READ, async ({ params }) => administration.getPolicy(params.cluster))
  addOperation(app, getPolicyDraft, READ, async ({ params: { cluster } }) =>
    draftView(cluster, await administration.getDraft(cluster)),
  )
  addOperation(
    app,
    setPolicyDraft,
    { ...CHANGE, bodyLimitOctets: POLICY_BODY_OCTETS },
    async ({ params: { cluster }, body, request }) =>
      draftView(cluster, await administration.setDraft(actOf(request), cluster, body)),
  )
  addOperation(app, removePolicyDraft, CHANGE, async ({ params, request }) => {
    await administration.removeDraft(actOf(request), params.cluster)
    return {}
  })
  addOperation(app, testPolicyOperation, READ, async ({ params }) => {
    const { hosts, ...test } = await deps.testPolicyDraft(params.cluster, clock.nowMs())
    return { ...test, hosts: hosts.map((host) => ({ ...host, findings: [...host.findings] })) }
  })
  addOperation(app, activatePolicyDraft, CHANGE, async ({ params, body, request }) =>
    administration.activateDraft(actOf(request), params.cluster, body.digest),
  )
  addOperation(app, listPolicyRevisions, READ, async ({ params }) => ({
    revisions: (await administration.listRevisions(params.cluster)).map((revision) => ({
      revision: revision.revision,
      digest: policyDigest(revision.policy),
      activatedAt: isoTime(revision.activatedAtMs),
      activatedBy: revision.operator,
      policy: revision.policy,
    })),
  }))

  addOperation(app, listAttestationAudit, READ, async ({ query }) => audit.list(query))
  addOperation(app, verifyAttestationAudit, READ, async () => audit.verify())
}

function ticketView(ticket: StoredTicket) {
  return {
    ticketId: ticket.ticketId,
    cluster: ticket.cluster,
    ...(ticket.hostId === undefined ? {} : { hostId: ticket.hostId }),
    usesLeft: ticket.usesLeft,
    createdAt: isoTime(ticket.createdAtMs),
    expiresAt: isoTime(ticket.expiresAtMs),
  }
}

function draftView(cluster: string, draft: StoredPolicyDraft) {
  return {
    cluster,
    digest: policyDigest(draft.policy),
    updatedAt: isoTime(draft.updatedAtMs),
    updatedBy: draft.operator,
    policy: draft.policy,
  }
}
