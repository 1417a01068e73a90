import { sealOperations } from '../api/seal.js'
import { type App, addOperation, type OperatorAccess } from '../http/index.js'
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
    readonly operators: OperatorAccess
  },
): void {
  const { service, administration, operators } = deps
  const operations = sealOperations(service)
  const read = { access: { operator: ['administrator', 'auditor'], service } } as const
  const change = {
    access: { operator: ['administrator'], service },
    requestsPerMinute: ATTEMPTS_PER_MINUTE,
  } as const
  const actorOf = ({
    request,
  }: {
    readonly request: Parameters<OperatorAccess['operatorOf']>[0]
  }) => `operator:${operators.operatorOf(request).name}`

  addOperation(app, operations.status, read, () => administration.status())
  addOperation(app, operations.unseal, change, async (input) => {
    await administration.unseal(input.body, actorOf(input))
    return administration.status()
  })
  addOperation(app, operations.forgetShares, change, async (input) => {
    await administration.forgetShares(actorOf(input))
    return administration.status()
  })
  addOperation(app, operations.seal, change, async (input) => {
    await administration.seal(actorOf(input))
    return administration.status()
  })
  addOperation(app, operations.rotateRoot, change, async (input) => {
    const { resealed, shares } = await administration.rotateRoot(input.body, actorOf(input))
    const status = await administration.status()
    return { status, resealed, ...(shares ? { shares: [...shares] } : {}) }
  })
  addOperation(app, operations.addSeal, change, async (input) => {
    const { sealId, shares } = await administration.addSeal(input.body, actorOf(input))
    const status = await administration.status()
    return { sealId, status, ...(shares ? { shares: [...shares] } : {}) }
  })
  addOperation(app, operations.removeSeal, change, async (input) => {
    await administration.removeSeal(input.params.sealId, actorOf(input))
    return administration.status()
  })
}
