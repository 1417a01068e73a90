import type { FastifyRequest } from 'fastify'
import {
  changeVmTags,
  getInventoryHost,
  getVm,
  listInventoryHosts,
  setHostEncryption,
} from '../../api/inventory.js'
import type { Clock } from '../../core/clock.js'
import { type App, addOperation, type CallerAccess } from '../../http/index.js'
import type { HostActs } from '../domain/hosts.js'
import type { Inventory } from '../domain/inventory.js'
import type { TagActs } from '../domain/tags.js'

const FOR_PEOPLE = { access: { people: 'control-plane' } } as const

/** Hosts with their encryption modes, single VMs, and tags. */
export function addInventoryRoutes(
  app: App,
  deps: {
    readonly inventory: Inventory
    readonly inventoryHosts: HostActs
    readonly tags: TagActs
    readonly callers: CallerAccess
    readonly clock: Clock
  },
): void {
  const { inventory, inventoryHosts, tags, clock } = deps
  const actOf = (request: FastifyRequest) => deps.callers.actOf(request, clock.nowMs())

  addOperation(app, listInventoryHosts, FOR_PEOPLE, async ({ query, request }) => {
    const { after, limit, ...filter } = query
    const { items, ...next } = await inventoryHosts.list(actOf(request), filter, { after, limit })
    return { hosts: [...items], ...next }
  })
  addOperation(app, getInventoryHost, FOR_PEOPLE, ({ params, request }) =>
    inventoryHosts.get(actOf(request), params.hostId),
  )
  addOperation(app, setHostEncryption, FOR_PEOPLE, ({ params, body, request }) =>
    inventoryHosts.setEncryption(actOf(request), params.hostId, body.setting),
  )
  addOperation(app, getVm, FOR_PEOPLE, ({ params, request }) =>
    inventory.getVm(actOf(request), params.vmId),
  )
  addOperation(app, changeVmTags, FOR_PEOPLE, ({ params, body, request }) =>
    tags.change(actOf(request), params.vmId, body),
  )
}
