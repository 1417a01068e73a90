import type { FastifyRequest } from 'fastify'
import { listHandOvers, offerVm, takeVm, withdrawVm } from '../../api/vm-moves.js'
import { fromBase64url } from '../../core/bytes.js'
import { type Clock, isoTime } from '../../core/clock.js'
import { pageOf } from '../../core/page.js'
import { type App, addOperation, type CallerAccess, type HostAccess } from '../../http/index.js'
import type { HandOvers } from '../domain/hand-overs.js'
import { attestedHost } from './host-caller.js'

const HOST = { access: 'host' } as const
const FOR_PEOPLE = { access: { people: 'control-plane' } } as const

/** VMs that go from one host to another. */
export function addHandOverRoutes(
  app: App,
  deps: {
    readonly handOvers: HandOvers
    readonly hosts: HostAccess
    readonly callers: CallerAccess
    readonly clock: Clock
  },
): void {
  const { handOvers, clock } = deps
  const callerOf = async (request: FastifyRequest) =>
    (await attestedHost(deps.hosts, request)).caller

  addOperation(app, offerVm, HOST, async ({ params, body, request }) => {
    const ticketDigest = fromBase64url(body.ticketDigest)
    const offered = { vmId: params.vmId, exportId: body.exportId, ticketDigest }
    await handOvers.offer(await callerOf(request), offered, clock.nowMs())
    return {}
  })
  addOperation(app, withdrawVm, HOST, async ({ params, request }) => {
    await handOvers.withdraw(await callerOf(request), params.vmId, clock.nowMs())
    return {}
  })
  addOperation(app, takeVm, HOST, async ({ params, body, request }) => {
    const { exportId, report } = body
    const shown = { vmId: params.vmId, exportId, ticket: fromBase64url(body.ticket), report }
    await handOvers.take(await callerOf(request), shown, clock.nowMs())
    return {}
  })
  addOperation(app, listHandOvers, FOR_PEOPLE, async ({ query, request }) => {
    const found = await handOvers.list(deps.callers.actOf(request, clock.nowMs()))
    const { items, ...next } = await pageOf(found, query, ({ vmId }) => vmId)
    return {
      handOvers: items.map(({ ticketDigest: _, offeredAtMs, ...handOver }) => ({
        ...handOver,
        offeredAt: isoTime(offeredAtMs),
      })),
      ...next,
    }
  })
}
