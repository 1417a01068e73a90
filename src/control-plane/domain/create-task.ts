import type { VmReport } from '../../api/control-plane.js'
import { PRIVILEGES, type Privilege } from '../../api/privileges.js'
import type { NewVmTask, VmTaskView } from '../../api/tasks.js'
import { VM_TASKS } from '../../api/vm-tasks.js'
import { PlatformError } from '../../core/errors.js'
import { type Place, type Rights, SITE } from '../../people/index.js'
import type { ControlPlaneStore, ControlPlaneTransaction } from '../ports.js'
import type { StoredTask, TaskSignal } from '../task-ports.js'
import { firstEncryptionHost, requireEncryptionHost } from './hosts.js'
import type { Act } from './inventory.js'
import { requireVm } from './tags.js'
import { addTaskEvent, auditTask } from './task-events.js'
import { taskView } from './task-view.js'

/** What encrypts something that was not. */
const ENCRYPTING: ReadonlySet<Privilege> = new Set([
  'Cryptographer.Encrypt',
  'Cryptographer.EncryptNew',
])

export interface TaskRules {
  /** Tasks of one host that did not end. */
  readonly tasksPerHost: number
  /** How long a task waits for its host unless it says so itself. */
  readonly taskExpirySeconds: number
}

export interface TaskDeps {
  readonly store: ControlPlaneStore
  readonly changes: TaskSignal
  readonly rules: TaskRules
  readonly newId: () => string
}

/**
 * Queues an operation for the host of a VM, or for a host that is named or chosen. What its caller may do, the task, its
 * audit record and its event are of one transaction. A host that is not trusted now gets it once it is.
 *
 * @throws PlatformError `FORBIDDEN`, `VM_NOT_FOUND`, `NOT_FOUND` for a host, `TASK_HOST`, `TASK_QUEUE_FULL`,
 *   `HOST_ENCRYPTION_OFF`
 */
export async function createTask(deps: TaskDeps, act: Act, wanted: NewVmTask): Promise<VmTaskView> {
  const { task, view } = await deps.store.transaction((tx) => queueTask(tx, deps, act, wanted))
  deps.changes.raise(task, true)
  return view
}

/** The same in the transaction of something larger, which raises the signal for the task once it is committed. */
export async function queueTask(
  tx: ControlPlaneTransaction,
  { rules, newId }: Pick<TaskDeps, 'rules' | 'newId'>,
  act: Act,
  wanted: NewVmTask,
): Promise<{ readonly task: StoredTask; readonly view: VmTaskView }> {
  const { kind, request } = wanted
  const taskId = newId()
  const { makesVm } = VM_TASKS[kind]
  const { hostId, cluster } = await placeTask(tx, act, wanted)
  const open = await tx.countTasksOf(hostId, ['queued', 'sent', 'running', 'cancelling'])
  if (open >= rules.tasksPerHost) {
    const message = `expected at most ${rules.tasksPerHost} open tasks of host ${hostId}, found ${open}`
    throw new PlatformError('TASK_QUEUE_FULL', message)
  }
  const { expiresInSeconds = rules.taskExpirySeconds } = wanted
  const task = await tx.insertTask({
    ...{ taskId, kind, hostId, cluster, askedBy: act.actor },
    request: Object.fromEntries(Object.entries(request)),
    vmId: wanted.vmId ?? (makesVm ? taskId : undefined),
    ...{ state: 'queued', held: false, progress: { percent: 0 } },
    createdAtMs: act.nowMs,
    expiresAtMs: act.nowMs + expiresInSeconds * 1000,
  })
  await addTaskEvent(tx, task, act.nowMs)
  await auditTask(tx, task, { ...act, action: 'task.create' })
  return { task, view: await taskView(tx, task) }
}

/** Which host is to do it, once it is known that the caller may have it done there. */
async function placeTask(
  tx: ControlPlaneTransaction,
  act: Act,
  wanted: NewVmTask,
): Promise<Pick<StoredTask, 'hostId' | 'cluster'>> {
  const rights = await tx.rightsOf(act)
  const isOnHost = VM_TASKS[wanted.kind].on === 'host'
  const place = isOnHost ? await placeOnHost(tx, act, wanted) : await placeOnVm(tx, rights, wanted)
  if (bringsEncrypted(wanted, privilegesOf(wanted, place.report))) {
    await requireEncryptionHost(tx, act, place)
  }
  return place
}

interface TaskPlace extends Pick<StoredTask, 'hostId' | 'cluster'> {
  /** Of a VM that exists. */
  readonly report?: VmReport
}

async function placeOnVm(
  tx: ControlPlaneTransaction,
  rights: Rights,
  wanted: NewVmTask,
): Promise<TaskPlace> {
  const { vmId = '' } = wanted
  const { makesVm } = VM_TASKS[wanted.kind]
  const ofNewVm = (privilege: Privilege) =>
    makesVm === true && PRIVILEGES[privilege].checkedOn === 'cluster'
  const needed = privilegesOf(wanted, (await tx.findVm(vmId))?.report)
  rights.require(
    needed.filter((one) => !ofNewVm(one)),
    await tx.placeOfVm(vmId),
  )
  const vm = await requireVm(tx, vmId)
  rights.require(needed.filter(ofNewVm), newVmIn(vm.cluster))
  return vm
}

async function placeOnHost(
  tx: ControlPlaneTransaction,
  act: Act,
  wanted: NewVmTask,
): Promise<TaskPlace> {
  const rights = await tx.rightsOf(act)
  const { hostId } = wanted
  const { cluster, named } = await targetOf(tx, wanted)
  const needed = privilegesOf(wanted, undefined)
  const { makesVm } = VM_TASKS[wanted.kind]
  rights.require(needed, makesVm ? newVmIn(cluster) : clusterOrSite(cluster), named)
  if (cluster === undefined) throw new PlatformError('NOT_FOUND', `no host ${hostId}`)
  if (hostId === undefined) {
    const hosts = await tx.listTrustedHosts(cluster)
    const [first] = hosts
    const ready = bringsEncrypted(wanted, needed)
      ? await firstEncryptionHost(tx, act, hosts)
      : first
    const chosen = ready ?? first
    if (chosen) return chosen
    throw new PlatformError('TASK_HOST', `no host of cluster ${cluster} is trusted now`)
  }
  if (wanted.cluster !== undefined && wanted.cluster !== cluster) {
    const message = `expected a host of cluster ${wanted.cluster}, found ${hostId} in ${cluster}`
    throw new PlatformError('TASK_HOST', message)
  }
  return { hostId, cluster }
}

/** Whether the host has to be ready for encrypted VMs: one is made or comes there, or something of one is encrypted. */
function bringsEncrypted({ kind }: NewVmTask, needed: readonly Privilege[]): boolean {
  const comes = VM_TASKS[kind].on === 'host' && needed.includes('Cryptographer.RegisterVM')
  return comes || needed.some((one) => ENCRYPTING.has(one))
}

function privilegesOf(
  wanted: NewVmTask,
  vm: Parameters<(typeof VM_TASKS)['vm.clone']['privileges']>[1],
): readonly Privilege[] {
  // The schema of the body ties the request to its kind
  return VM_TASKS[wanted.kind].privileges(wanted.request as never, vm)
}

/**
 * The cluster in which something is to be made or done: that of a host, or one that is named; none where nobody knows the
 * host. Of a host on which the caller may do nothing, nobody says whether it exists, so refusals name the host.
 *
 * @throws PlatformError `REQUEST_INVALID` where neither is named
 */
export async function targetOf(
  tx: ControlPlaneTransaction,
  { hostId, cluster }: { readonly hostId?: string; readonly cluster?: string },
): Promise<{ readonly cluster: string | undefined; readonly named?: string }> {
  if (hostId !== undefined) {
    const host = await tx.hostTrust(hostId)
    return { cluster: host?.cluster, named: `the cluster of host ${hostId}` }
  }
  if (cluster !== undefined) return { cluster }
  throw new PlatformError('REQUEST_INVALID', 'expected a host or a cluster, found neither')
}

/** The place of a VM that is to be made. Without a cluster, permissions on the site alone cover it. */
export function newVmIn(cluster: string | undefined): Place {
  return { kind: 'vm', tags: [], ...(cluster === undefined ? {} : { cluster }) }
}

function clusterOrSite(cluster: string | undefined): Place {
  return cluster === undefined ? SITE : { kind: 'cluster', name: cluster }
}
