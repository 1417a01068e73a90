import type { VmByPolicy } from '../../api/storage-policies.js'
import type { NewVmTask, VmTaskView } from '../../api/tasks.js'
import { PlatformError } from '../../core/errors.js'
import { describeStep, planPolicyChange } from '../../storage-policies/index.js'
import type { ControlPlaneTransaction } from '../ports.js'
import { newVmIn, queueTask, type TaskDeps, targetOf } from './create-task.js'
import { defaultInForce } from './default-in-force.js'
import type { Act } from './inventory.js'
import { givenBy, type PlannedChange, type PolicyChange, planVmPolicies } from './vm-policies.js'

/** What people do with the storage policies of VMs. */
export function createVmPolicies(deps: TaskDeps) {
  const { store, changes } = deps
  return {
    /** What a change would do, in words. @throws PlatformError as `planVmPolicies` */
    plan: async (act: Act, vmId: string, change: PolicyChange): Promise<readonly string[]> => {
      const { steps } = await store.transaction((tx) => planVmPolicies(tx, act, vmId, change))
      return steps.map(describeStep)
    },

    /**
     * Gives parts of a VM policies, and queues the task that brings it to them, in one transaction. Where it is as they ask
     * there is no task.
     *
     * @throws PlatformError as `planVmPolicies` and `createTask`
     */
    async give(
      act: Act,
      vmId: string,
      change: PolicyChange & TaskSettings,
    ): Promise<{ readonly steps: readonly string[]; readonly task?: VmTaskView }> {
      const { steps, queued } = await store.transaction(async (tx) => {
        const { vm, steps, given, request } = await planVmPolicies(tx, act, vmId, change)
        if (given.length === 0) {
          throw new PlatformError('REQUEST_INVALID', 'expected policies to give, found none')
        }
        await recordGivenPolicies(tx, act, { vmId, name: vm.report.name }, given)
        if (steps.length === 0) return { steps, queued: undefined }
        const { compare, expiresInSeconds } = change
        const queued = await queueTask(tx, deps, act, {
          ...{ kind: 'vm.apply-policy', vmId },
          request: { ...request, ...(compare === undefined ? {} : { compare }) },
          ...(expiresInSeconds === undefined ? {} : { expiresInSeconds }),
        })
        return { steps, queued }
      })
      if (queued) changes.raise(queued.task, true)
      const words = steps.map(describeStep)
      return { steps: words, ...(queued ? { task: queued.view } : {}) }
    },

    /**
     * Queues the making of a VM that is encrypted as policies ask. They are those of its home and disks from the start.
     *
     * @throws PlatformError `NOT_FOUND`, `POLICY_PROVIDERS`, `POLICY_NO_PROVIDER`, `VM_HOME_PLAIN`, and as `createTask`
     */
    async create(act: Act, wanted: VmByPolicy): Promise<VmTaskView> {
      const { name, policy, disks } = wanted
      const change = {
        home: policy,
        disks: disks.map((disk) => ({ name: disk.name, policy: disk.policy ?? policy })),
      }
      const { task, view } = await store.transaction(async (tx) => {
        const { cluster, named } = await targetOf(tx, wanted)
        const rights = await tx.rightsOf(act)
        rights.require(['StorageProfile.Apply'], newVmIn(cluster), named)
        const given = await givenBy(tx, change)
        const queued = await queueTask(tx, deps, act, await taskFor(tx, wanted, cluster, given))
        const { vmId = '' } = queued.task
        await recordGivenPolicies(tx, act, { vmId, name }, given)
        return queued
      })
      changes.raise(task, true)
      return view
    },
  }
}

export type VmPolicyActs = ReturnType<typeof createVmPolicies>

interface TaskSettings {
  readonly compare?: 'samples' | 'all'
  readonly expiresInSeconds?: number
}

/** A VM that is plain, brought to its policies, is what is to be made. */
async function taskFor(
  tx: ControlPlaneTransaction,
  wanted: VmByPolicy,
  /** In which it is made; none where nobody knows its host. */
  place: string | undefined,
  given: PlannedChange['given'],
): Promise<NewVmTask> {
  const { hostId, cluster, policy: _, disks, expiresInSeconds, ...spec } = wanted
  const plainVm = {
    ...{ name: spec.name, vtpm: false },
    disks: disks.map(({ name }) => ({ name, encrypted: false })),
  }
  const asked = new Map(given.map(({ part, wanted }) => [part as string, wanted]))
  const ofDisk = (name: string) => asked.get(`disk-${name}`)
  const named = disks.flatMap(({ name }) => {
    const one = ofDisk(name)
    return one ? [[name, one] as const] : []
  })
  const fallback =
    place === undefined ? undefined : defaultInForce(await tx.listDefaultProviders(), place)
  const steps = planPolicyChange(
    plainVm,
    { home: asked.get('home'), disks: new Map(named) },
    fallback?.provider,
  )
  const home = steps.find(({ part }) => part === 'home')
  if (!home && spec.vtpm) {
    throw new PlatformError('VM_HOME_PLAIN', 'a virtual TPM needs an encrypted home')
  }
  return {
    kind: 'vm.create',
    ...(hostId === undefined ? {} : { hostId }),
    ...(cluster === undefined ? {} : { cluster }),
    ...(expiresInSeconds === undefined ? {} : { expiresInSeconds }),
    request: {
      ...spec,
      ...(home?.do === 'encrypt' ? { provider: home.provider } : { plain: true }),
      disks: disks.map(({ policy: _, ...disk }) => ({
        ...disk,
        plain: ofDisk(disk.name)?.encrypted !== true,
      })),
    },
  }
}

/** Notes the policies that parts have from now on, with an event and an audit record. */
async function recordGivenPolicies(
  tx: ControlPlaneTransaction,
  act: Act,
  { vmId, name }: { readonly vmId: string; readonly name: string },
  given: PlannedChange['given'],
): Promise<void> {
  const { operator, nowMs } = act
  for (const { part, policy, wanted } of given) {
    const by = { givenBy: operator, givenAtMs: nowMs }
    await tx.saveGivenPolicy({ ...{ vmId, part, policy, given: wanted }, ...by })
  }
  const detail = Object.fromEntries(given.map(({ part, policy }) => [part, policy]))
  const words = given.map(({ part, policy }) => `${part} ${policy}`).join(', ')
  const common = { atMs: nowMs, subject: `vm:${vmId}`, detail }
  await tx.addEvent({
    ...{ ...common, severity: 'info', type: 'vm.policies-given' },
    message: `storage policies of VM ${name}: ${words}`,
  })
  await tx.audit({ ...common, actor: act.actor, action: 'vm.policies-give', outcome: 'done' })
}
