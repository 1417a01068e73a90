import type { Privilege } from '../../api/privileges.js'
import type { ApplyPolicy } from '../../api/vm-policy.js'
import { PlatformError } from '../../core/errors.js'
import {
  diskPart,
  isAsWanted,
  type PolicyPart,
  type PolicyStep,
  partsToOpen,
  planPolicyChange,
  requireNoObstacle,
  type VmProtection,
  type Wanted,
} from '../../storage-policies/index.js'
import type { ControlPlaneTransaction, StoredVm } from '../ports.js'
import { defaultInForce } from './default-in-force.js'
import { requireEncryptionHost } from './hosts.js'
import type { Act } from './inventory.js'
import { policyByName } from './storage-policies.js'
import { requireVm } from './tags.js'
import { protectionOf } from './vm-views.js'

/** Policies by name, as a person gives them. */
export interface PolicyChange {
  readonly home?: string
  readonly disks?: readonly { readonly name: string; readonly policy: string }[]
}

/** A change that nothing speaks against, as far as the inventory knows. */
export interface PlannedChange {
  readonly vm: StoredVm
  readonly steps: readonly PolicyStep[]
  readonly given: readonly {
    readonly part: PolicyPart
    readonly policy: string
    readonly wanted: Wanted
  }[]
  /** What the host is to do. */
  readonly request: ApplyPolicy
}

/**
 * What a change of storage policies of a VM comes to, and whether this caller may have it. The host plans again, from how
 * the VM is then.
 *
 * @throws PlatformError `FORBIDDEN`, `VM_NOT_FOUND`, `NOT_FOUND` for a policy, what `planPolicyChange` and `requireNoObstacle` throw, `VM_KEYS_NEEDED`,
 *   `HOST_ENCRYPTION_OFF`
 */
export async function planVmPolicies(
  tx: ControlPlaneTransaction,
  act: Act,
  vmId: string,
  change: PolicyChange,
): Promise<PlannedChange> {
  const rights = await tx.rightsOf(act)
  const place = await tx.placeOfVm(vmId)
  rights.require(['StorageProfile.Apply'], place)
  const vm = await requireVm(tx, vmId)
  const given = await givenBy(tx, change)
  const protection = protectionOf(vm.report)
  const { home, disks } = await wantedWith(tx, vmId, protection, given)
  const fallback = defaultInForce(await tx.listDefaultProviders(), vm.cluster)?.provider
  const steps = planPolicyChange(protection, { home, disks }, fallback)
  const { state, snapshots = 0 } = vm.report
  requireNoObstacle(protection, steps, { isRunning: state === 'running', snapshots })
  requireKeys(vm, protection, steps)
  rights.require(privilegesFor(steps), place)
  if (steps.some((step) => step.do !== 'decrypt')) await requireEncryptionHost(tx, act, vm)
  return {
    ...{ vm, steps, given },
    request: {
      ...(home ? { home: asked(home) } : {}),
      ...(disks.size > 0
        ? { disks: [...disks].map(([name, one]) => ({ name, ...asked(one) })) }
        : {}),
    },
  }
}

/** What a person has to have for the steps of a plan, beside the right to give policies. */
export function privilegesFor(steps: readonly PolicyStep[]): readonly Privilege[] {
  const needed = new Set(
    steps.map((step): Privilege => {
      if (step.do === 'encrypt') return 'Cryptographer.Encrypt'
      return step.do === 'decrypt' ? 'Cryptographer.Decrypt' : 'Cryptographer.Recrypt'
    }),
  )
  return [...needed]
}

/** What the host said is missing is not asked for: a part is decrypted with its own key and that of the home. */
function requireKeys(
  { report: { name, lock } }: StoredVm,
  protection: VmProtection,
  steps: readonly PolicyStep[],
): void {
  if (lock?.reason !== 'missing') return
  if (!steps.some((step) => partsToOpen(protection, step).length > 0)) return
  const expected = `expected every key that the change of VM ${name} needs, found it locked since ${lock.since} (${lock.code})`
  throw new PlatformError('VM_KEYS_NEEDED', expected)
}

/** The policies that are meant, with what they ask now. @throws PlatformError `NOT_FOUND`, `REQUEST_INVALID` */
export async function givenBy(
  tx: ControlPlaneTransaction,
  { home, disks = [] }: PolicyChange,
): Promise<PlannedChange['given']> {
  const named = [
    ...(home === undefined ? [] : [{ part: 'home' as const, policy: home }]),
    ...disks.map((disk) => ({ part: diskPart(disk), policy: disk.policy })),
  ]
  if (new Set(named.map(({ part }) => part)).size < named.length) {
    throw new PlatformError('REQUEST_INVALID', 'expected each disk once')
  }
  const given: PlannedChange['given'][number][] = []
  for (const { part, policy } of named) {
    given.push({ part, policy, wanted: await policyByName(tx, policy) })
  }
  return given
}

/**
 * What is asked of the VM: by the policies that are given now, and by those that other parts have, are as they ask, and name
 * a key provider. So that is not changed behind their back.
 */
async function wantedWith(
  tx: ControlPlaneTransaction,
  vmId: string,
  vm: VmProtection,
  given: PlannedChange['given'],
): Promise<{ readonly home: Wanted | undefined; readonly disks: ReadonlyMap<string, Wanted> }> {
  const now = new Map(given.map(({ part, wanted }) => [part, wanted]))
  const home = now.get('home')
  const disks = new Map<string, Wanted>()
  const before = await tx.listGivenPolicies([vmId])
  for (const disk of vm.disks) {
    const part = diskPart(disk)
    const kept = before.find((one) => one.part === part)?.given
    const holds = kept?.provider !== undefined && isAsWanted(disk.encrypted, vm.provider, kept)
    const wanted = now.get(part) ?? (holds && home?.encrypted !== false ? kept : undefined)
    now.delete(part)
    if (wanted) disks.set(disk.name, wanted)
  }
  // disks that are not there, for the plan to refuse
  for (const [part, wanted] of now) if (part !== 'home') disks.set(nameOf(part), wanted)
  return { home, disks }
}

function nameOf(part: PolicyPart): string {
  return part.slice('disk-'.length)
}

function asked({ encrypted, provider }: Wanted) {
  return { encrypted, ...(provider === undefined ? {} : { provider }) }
}
