import type { FastifyRequest } from 'fastify'
import {
  addAnchors,
  approveHost,
  type BaseImageView,
  captureBaseImage,
  createTicket,
  getHost,
  getHostHistory,
  getPolicy,
  listAnchors,
  listAttestationAudit,
  listBaseImages,
  listHosts,
  listTickets,
  removeAnchor,
  removeBaseImage,
  removeHost,
  revokeHost,
  revokeTicket,
  setPolicy,
  verifyAttestationAudit,
} from '../../api/attestation.js'
import type { Bank } from '../../api/common.js'
import { type Clock, isoTime } from '../../core/clock.js'
import { newUuid, randomOctets } from '../../core/random.js'
import { type App, addOperation, type OperatorAccess } from '../../http/index.js'
import type { AuditLog } from '../../store/index.js'
import { parseAnchors } from '../adapters/anchors.js'
import type { Administration } from '../domain/administration.js'
import type { StoredAnchor, StoredBaseImage, StoredTicket } from '../ports.js'

const SERVICE = 'attestation'
const READ = { access: { operator: ['administrator', 'auditor'], service: SERVICE } } as const
const CHANGE = { access: { operator: ['administrator'], service: SERVICE } } as const
const DEFAULT_TICKET_TTL_SECONDS = 3600
const PEM_BODY_OCTETS = 2 * 1024 * 1024

/** What administrators and auditors call. */
export function addOperatorRoutes(
  app: App,
  deps: {
    readonly administration: Administration
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

  addOperation(
    app,
    addAnchors,
    { ...CHANGE, bodyLimitOctets: PEM_BODY_OCTETS },
    async ({ body, request }) => {
      const act = actOf(request)
      const anchors = parseAnchors(body.pem, body.insecureTest === true, act.nowMs)
      return { anchors: (await administration.addAnchors(act, anchors)).map(anchorView) }
    },
  )
  addOperation(app, listAnchors, READ, async () => ({
    anchors: (await administration.listAnchors()).map(anchorView),
  }))
  addOperation(app, removeAnchor, CHANGE, async ({ params, request }) => {
    await administration.removeAnchor(actOf(request), params.fingerprint)
    return {}
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

  addOperation(app, listHosts, READ, async ({ query }) => ({
    hosts: await administration.listHosts(query.cluster),
  }))
  addOperation(app, getHost, READ, async ({ params }) => administration.getHost(params.hostId))
  addOperation(app, getHostHistory, READ, async ({ params, query }) => ({
    verdicts: [...(await administration.getHistory(params.hostId, query.limit ?? 10))],
  }))
  addOperation(app, approveHost, CHANGE, async ({ params, body, request }) =>
    administration.approveHost(actOf(request), params.hostId, body.ekFingerprint),
  )
  addOperation(app, revokeHost, CHANGE, async ({ params, body, request }) =>
    administration.revokeHost(actOf(request), params.hostId, body.reason),
  )
  addOperation(app, removeHost, CHANGE, async ({ params, request }) => {
    await administration.removeHost(actOf(request), params.hostId)
    return {}
  })

  addOperation(app, captureBaseImage, CHANGE, async ({ body, request }) =>
    baseImageView(await administration.captureBaseImage(actOf(request), body.name, body.hostId)),
  )
  addOperation(app, listBaseImages, READ, async ({ query }) => ({
    baseImages: (await administration.listBaseImages(query.cluster)).map(baseImageView),
  }))
  addOperation(app, removeBaseImage, CHANGE, async ({ params, request }) => {
    await administration.removeBaseImage(actOf(request), params.cluster, params.name)
    return {}
  })

  addOperation(app, getPolicy, READ, async ({ params }) => administration.getPolicy(params.cluster))
  addOperation(app, setPolicy, CHANGE, async ({ params, body, request }) =>
    administration.setPolicy(actOf(request), params.cluster, body),
  )

  addOperation(app, listAttestationAudit, READ, async ({ query }) => audit.list(query))
  addOperation(app, verifyAttestationAudit, READ, async () => audit.verify())
}

function anchorView(anchor: StoredAnchor) {
  return {
    fingerprint: anchor.fingerprint,
    subject: anchor.subject,
    notAfter: isoTime(anchor.notAfterMs),
    insecureTest: anchor.insecureTest,
    addedAt: isoTime(anchor.addedAtMs),
  }
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

function baseImageView(image: StoredBaseImage): BaseImageView {
  return {
    name: image.name,
    cluster: image.cluster,
    capturedFrom: image.capturedFrom,
    capturedAt: isoTime(image.capturedAtMs),
    bank: image.bank as Bank,
    pcrs: [...image.pcrs].map(([pcr, digest]) => ({ pcr, digest })),
    ...(image.boot ? { boot: image.boot } : {}),
  }
}
