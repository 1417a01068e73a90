import type { VmTaskView } from '../../api/tasks.js'
import { isoTime } from '../../core/clock.js'
import { PlatformError } from '../../core/errors.js'
import { type Place, type Rights, SITE } from '../../people/index.js'
import type { ControlPlaneTransaction } from '../ports.js'
import type { StoredTask } from '../task-ports.js'

/** A task as people see it. */
export async function taskView(tx: ControlPlaneTransaction, task: StoredTask): Promise<VmTaskView> {
  const { taskId, kind, state, vmId, hostId, cluster, askedBy, error, result, version } = task
  const waitingFor = await waitsFor(tx, task)
  const time = <N extends string>(name: N, atMs: number | undefined) =>
    (atMs === undefined ? {} : { [name]: isoTime(atMs) }) as { readonly [K in N]?: string }
  return {
    ...{ taskId, kind, state, hostId, cluster, askedBy, version },
    ...(vmId === undefined ? {} : { vmId }),
    request: { ...task.request },
    ...(waitingFor === undefined ? {} : { waitingFor }),
    ...task.progress,
    createdAt: isoTime(task.createdAtMs),
    ...(state === 'queued' ? { expiresAt: isoTime(task.expiresAtMs) } : {}),
    ...time('sentAt', task.sentAtMs),
    ...time('startedAt', task.startedAtMs),
    ...time('endedAt', task.endedAtMs),
    ...(error ? { error } : {}),
    ...(result ? { result } : {}),
  }
}

/** Where each task is, for what people may see and do of it. A VM that is not there yet, or no more, is in its cluster. */
export async function placesOfTasks(
  tx: ControlPlaneTransaction,
  tasks: readonly StoredTask[],
): Promise<(task: StoredTask) => Place> {
  const vmIds = tasks.flatMap(({ vmId }) => (vmId === undefined ? [] : [vmId]))
  const places = await tx.placesOfVms([...new Set(vmIds)])
  return ({ vmId, cluster }) => {
    if (vmId === undefined) return { kind: 'cluster', name: cluster }
    return places.get(vmId) ?? { kind: 'vm', vmId, cluster, tags: [] }
  }
}

/** A task that the caller may see, and its place. @throws PlatformError `FORBIDDEN`, `NOT_FOUND` */
export async function visibleTask(
  tx: ControlPlaneTransaction,
  taskId: string,
  rights: Rights,
): Promise<{ readonly task: StoredTask; readonly place: Place }> {
  const task = await tx.findTask(taskId)
  const place = task ? (await placesOfTasks(tx, [task]))(task) : SITE
  rights.require(['System.Read'], place, `task ${taskId}`)
  if (!task) throw new PlatformError('NOT_FOUND', `no task ${taskId}`)
  return { task, place }
}

async function waitsFor(
  tx: ControlPlaneTransaction,
  { state, hostId, held }: StoredTask,
): Promise<VmTaskView['waitingFor']> {
  if (state === 'sent' && held) return 'turn'
  if (state !== 'queued' && state !== 'sent') return undefined
  return (await tx.hostTrust(hostId))?.isTrusted ? 'host' : 'trust'
}
