import type { FastifyRequest } from 'fastify'
import {
  checkVtpmState,
  listVtpmCertificates,
  listVtpmStates,
  noteVtpmState,
  reportVtpmProblem,
} from '../../api/vtpm-states.js'
import { type Clock, isoTime } from '../../core/clock.js'
import { type App, addOperation, type CallerAccess, type HostAccess } from '../../http/index.js'
import { certificatePem } from '../../pki/index.js'
import type { VtpmStates } from '../domain/vtpm-states.js'
import { attestedHost } from './host-caller.js'

const SERVICE = 'control-plane'
const FOR_PEOPLE = { access: { people: SERVICE } } as const
const HOST = { access: 'host' } as const

/** States and certificates of virtual TPMs: what hosts tell of them, and what administrators see. */
export function addVtpmRoutes(
  app: App,
  deps: {
    readonly states: VtpmStates
    readonly hosts: HostAccess
    readonly callers: CallerAccess
    readonly clock: Clock
  },
): void {
  const { states, clock } = deps
  const callerOf = async (request: FastifyRequest) =>
    (await attestedHost(deps.hosts, request)).caller
  const actOf = (request: FastifyRequest) => deps.callers.actOf(request, clock.nowMs())

  addOperation(app, checkVtpmState, HOST, async ({ params, query, request }) =>
    states.check(await callerOf(request), params.vmId, query.digest, clock.nowMs()),
  )
  addOperation(app, noteVtpmState, HOST, async ({ params, body, request }) => {
    await states.note(await callerOf(request), params.vmId, body, clock.nowMs())
    return {}
  })
  addOperation(app, reportVtpmProblem, HOST, async ({ params, body, request }) => {
    await states.complain(await callerOf(request), params.vmId, body, clock.nowMs())
    return {}
  })

  addOperation(app, listVtpmStates, FOR_PEOPLE, async ({ params, query, request }) => {
    const { items, ...next } = await states.list(actOf(request), params.vmId, query)
    return {
      states: items.map(({ generation, digest, cause, hostId, notedAtMs }) => ({
        ...{ generation, digest, cause, hostId, notedAt: isoTime(notedAtMs) },
      })),
      ...next,
    }
  })
  addOperation(app, listVtpmCertificates, FOR_PEOPLE, async ({ query, request }) => {
    const { after, limit, ...filter } = query
    const page = { after, limit }
    const { items, ...next } = await states.listCertificates(actOf(request), filter, page)
    return {
      certificates: items.map(({ fingerprint, vmId, kind, hostId, revocation, ...one }) => ({
        ...{ fingerprint, vmId, kind, hostId, issuedAt: isoTime(one.issuedAtMs) },
        ...(revocation
          ? { revocation: { reason: revocation.reason, at: isoTime(revocation.revokedAtMs) } }
          : {}),
        pem: certificatePem(one.certificate),
      })),
      ...next,
    }
  })
}
