import type { FastifyRequest } from 'fastify'
import {
  changeStoragePolicy,
  createStoragePolicy,
  deleteStoragePolicy,
  getStoragePolicy,
  listStoragePolicies,
  planVmPolicies as planOperation,
} from '../../api/storage-policies.js'
import type { Clock } from '../../core/clock.js'
import { type App, addOperation, type CallerAccess } from '../../http/index.js'
import { describeStep } from '../../storage-policies/index.js'
import type { StoragePolicyActs } from '../domain/storage-policies.js'
import { planVmPolicies } from '../domain/vm-policies.js'
import type { ControlPlaneStore } from '../ports.js'

const FOR_PEOPLE = { access: { people: 'control-plane' } } as const

/** Storage policies, and what a change of those of a VM would do. */
export function addStoragePolicyRoutes(
  app: App,
  deps: {
    readonly store: ControlPlaneStore
    readonly policies: StoragePolicyActs
    readonly callers: CallerAccess
    readonly clock: Clock
  },
): void {
  const { store, policies, clock } = deps
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
  addOperation(app, planOperation, FOR_PEOPLE, async ({ params, body, request }) => {
    const { steps } = await store.transaction((tx) =>
      planVmPolicies(tx, actOf(request), params.vmId, body),
    )
    return { steps: steps.map(describeStep) }
  })
}
