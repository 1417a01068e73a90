import type { FastifyRequest } from 'fastify'
import { sealOperations } from '../api/seal.js'
import { type App, addOperation, type CallerAccess, actorOf as callerName } from '../http/index.js'
import type { SealAdministration } from './seal-administration.js'
import type { ServiceKeeper } from './service-keeper.js'

/** For each address: a person does not type faster. */
const ATTEMPTS_PER_MINUTE = 60

/**
 * Routes by which operators see and change the seals of one service. They are always there, whatever the service itself
 * answers, and read no key of it: operators are known by the hashes of their tokens.
 */
export function addSealRoutes(
  app: App,
  deps: {
    readonly service: ServiceKeeper['service']
    readonly administration: SealAdministration
    readonly callers: CallerAccess
  },
): void {
  const { service, administration, callers } = deps
  const operations = sealOperations(service)
  const forPeople = {
    access: { people: service },
    requestsPerMinute: ATTEMPTS_PER_MINUTE,
  } as const
  const actorOf = ({ request }: { readonly request: FastifyRequest }) =>
    callerName(callers.callerOf(request))

  addOperation(app, operations.status, { access: { people: service } }, () =>
    administration.status(),
  )
  addOperation(app, operations.unseal, forPeople, async (input) => {
    await administration.unseal(input.body, actorOf(input))
    return administration.status()
  })
  addOperation(app, operations.forgetShares, forPeople, async (input) => {
    await administration.forgetShares(actorOf(input))
    return administration.status()
  })
  addOperation(app, operations.seal, forPeople, async (input) => {
    await administration.seal(actorOf(input))
    return administration.status()
  })
  addOperation(app, operations.rotateRoot, forPeople, async (input) => {
    const { resealed, shares } = await administration.rotateRoot(input.body, actorOf(input))
    const status = await administration.status()
    return { status, resealed, ...(shares ? { shares: [...shares] } : {}) }
  })
  addOperation(app, operations.addSeal, forPeople, async (input) => {
    const { sealId, shares } = await administration.addSeal(input.body, actorOf(input))
    const status = await administration.status()
    return { sealId, status, ...(shares ? { shares: [...shares] } : {}) }
  })
  addOperation(app, operations.removeSeal, forPeople, async (input) => {
    await administration.removeSeal(input.params.sealId, actorOf(input))
    return administration.status()
  })
}
