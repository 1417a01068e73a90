import type { FastifyRequest } from 'fastify'
import {
  changeStoragePolicy,
  createStoragePolicy,
  createVmByPolicy,
  deleteStoragePolicy,
  getStoragePolicy,
  giveVmPolicies,
  listStoragePolicies,
  planVmPolicies,
} from '../../api/storage-policies.js'
import type { Clock } from '../../core/clock.js'
import { type App, addOperation, type CallerAccess } from '../../http/index.js'
import type { VmPolicyActs } from '../domain/give-policies.js'
import type { StoragePolicyActs } from '../domain/storage-policies.js'

const FOR_PEOPLE = { access: { people: 'control-plane' } } as const

/** Storage policies, those of VMs, and VMs that are made by them. */
export function addStoragePolicyRoutes(
  app: App,
  deps: {
    readonly policies: StoragePolicyActs
    readonly vmPolicies: VmPolicyActs
    readonly callers: CallerAccess
    readonly clock: Clock
  },
): void {
  const { policies, vmPolicies, clock } = deps
  const actOf = (request: FastifyRequest) => deps.callers.actOf(request, clock.nowMs())

  addOperation(app, listStoragePolicies, FOR_PEOPLE, async ({ query, request }) => {
    const { items, ...next } = await policies.list(actOf(request), query)
    return { policies: [...items], ...next }
  })
  addOperation(app, getStoragePolicy, FOR_PEOPLE, ({ params, request }) =>
    policies.get(actOf(request), params.policy),
  )
  addOperation(app, createStoragePolicy, FOR_PEOPLE, ({ body, request }) =>
    policies.create(actOf(request), body),
  )
  addOperation(app, changeStoragePolicy, FOR_PEOPLE, ({ params, body, request }) =>
    policies.change(actOf(request), params.policy, body),
  )
  addOperation(app, deleteStoragePolicy, FOR_PEOPLE, async ({ params, request }) => {
    await policies.remove(actOf(request), params.policy)
    return {}
  })
  addOperation(app, planVmPolicies, FOR_PEOPLE, async ({ params, body, request }) => ({
    steps: [...(await vmPolicies.plan(actOf(request), params.vmId, body))],
  }))
  addOperation(app, giveVmPolicies, FOR_PEOPLE, async ({ params, body, request }) => {
    const { steps, ...task } = await vmPolicies.give(actOf(request), params.vmId, body)
    return { steps: [...steps], ...task }
  })
  addOperation(app, createVmByPolicy, FOR_PEOPLE, ({ body, request }) =>
    vmPolicies.create(actOf(request), body),
  )
}
