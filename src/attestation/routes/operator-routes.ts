import type { FastifyRequest } from 'fastify'
import { listAttestationAudit, verifyAttestationAudit } from '../../api/attestation.js'
import { captureBaseImage, listBaseImages, removeBaseImage } from '../../api/base-images.js'
import {
  acceptHostReboot,
  approveHost,
  createTicket,
  getEvidenceBundle,
  getHost,
  getHostHistory,
  listEvidenceBundles,
  listHosts,
  listTickets,
  removeHost,
  revokeHost,
  revokeTicket,
} from '../../api/hosts.js'
import { type Clock, isoTime } from '../../core/clock.js'
import { newUuid, randomOctets } from '../../core/random.js'
import { type App, addOperation, type CallerAccess } from '../../http/index.js'
import type { AuditLog } from '../../store/index.js'
import type { Administration } from '../domain/administration.js'
import type { StoredTicket } from '../ports.js'
import { baseImageView } from './base-image-view.js'

const SERVICE = 'attestation'
const FOR_PEOPLE = { access: { people: SERVICE } } as const
const DEFAULT_TICKET_TTL_SECONDS = 3600

/** What administrators and auditors call. */
export function addOperatorRoutes(
  app: App,
  deps: {
    readonly administration: Administration
    readonly audit: AuditLog
    readonly callers: CallerAccess
    readonly clock: Clock
  },
): void {
  const { administration, audit, clock } = deps
  const actOf = (request: FastifyRequest) => deps.callers.actOf(request, clock.nowMs())

  addOperation(app, createTicket, FOR_PEOPLE, async ({ body, request }) => {
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
  addOperation(app, listTickets, FOR_PEOPLE, async ({ query }) => {
    const { items, ...next } = await administration.listTickets(clock.nowMs(), query)
    return { tickets: items.map(ticketView), ...next }
  })
  addOperation(app, revokeTicket, FOR_PEOPLE, async ({ params, request }) => {
    await administration.revokeTicket(actOf(request), params.ticketId)
    return {}
  })

  addOperation(app, listHosts, FOR_PEOPLE, async ({ query: { cluster, ...page } }) =>
    administration.listHosts(cluster === undefined ? {} : { cluster }, page),
  )
  addOperation(app, getHost, FOR_PEOPLE, async ({ params }) =>
    administration.getHost(params.hostId),
  )
  addOperation(app, getHostHistory, FOR_PEOPLE, async ({ params, query }) => {
    const { items, ...next } = await administration.getHistory(params.hostId, query)
    return { verdicts: items.map(({ verdict }) => verdict), ...next }
  })
  addOperation(app, listEvidenceBundles, FOR_PEOPLE, async ({ params, query }) => {
    const { items, ...next } = await administration.listBundles(params.hostId, query)
    return {
      bundles: items.map(({ bundleId, atMs }) => ({ bundleId, at: isoTime(atMs) })),
      ...next,
    }
  })
  addOperation(app, getEvidenceBundle, FOR_PEOPLE, async ({ params }) =>
    administration.getBundle(params.hostId, params.bundleId),
  )
  addOperation(app, approveHost, FOR_PEOPLE, async ({ params, body, request }) =>
    administration.approveHost(actOf(request), params.hostId, body.ekFingerprint),
  )
  addOperation(app, acceptHostReboot, FOR_PEOPLE, async ({ params, request }) =>
    administration.acceptReboot(actOf(request), params.hostId),
  )
  addOperation(app, revokeHost, FOR_PEOPLE, async ({ params, body, request }) =>
    administration.revokeHost(actOf(request), params.hostId, body.reason),
  )
  addOperation(app, removeHost, FOR_PEOPLE, async ({ params, request }) => {
    await administration.removeHost(actOf(request), params.hostId)
    return {}
  })

  addOperation(app, captureBaseImage, FOR_PEOPLE, async ({ body, request }) =>
    baseImageView(
      await administration.captureBaseImage(actOf(request), {
        name: body.name,
        hostId: body.hostId,
        notAfterMs: body.notAfter === undefined ? undefined : Date.parse(body.notAfter),
      }),
    ),
  )
  addOperation(app, listBaseImages, FOR_PEOPLE, async ({ query: { cluster, ...page } }) => {
    const { items, ...next } = await administration.listBaseImages(cluster, page)
    return { baseImages: items.map(baseImageView), ...next }
  })
  addOperation(app, removeBaseImage, FOR_PEOPLE, async ({ params, request }) => {
    await administration.removeBaseImage(actOf(request), params.cluster, params.name)
    return {}
  })

  addOperation(app, listAttestationAudit, FOR_PEOPLE, async ({ query }) => audit.list(query))
  addOperation(app, verifyAttestationAudit, FOR_PEOPLE, async () => audit.verify())
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
