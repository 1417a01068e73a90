import type { AnswerOf, BodyOf } from '../../api/operation.js'
import type { reportTasks, SentTask, TaskReport, takeTasks } from '../../api/tasks.js'
import { VM_TASKS } from '../../api/vm-tasks.js'
import type { ControlPlaneStore, ControlPlaneTransaction, HostCaller } from '../ports.js'
import type { StoredTask, TaskChange, TaskSignal } from '../task-ports.js'
import { addTaskEvent, auditTask } from './task-events.js'

interface HostTaskDeps {
  readonly store: ControlPlaneStore
  readonly changes: TaskSignal
}

const LOST = {
  code: 'TASK_LOST',
  message: 'the host had the task and does not know it any more: look at the VM',
}
const NEVER_BEGUN = { code: 'TASK_CANCELLED', message: 'the task was cancelled before it began' }
const NOT_ENDED = { held: true, endedAtMs: null, error: null } as const
const MOVED = { code: 'TASK_HOST', message: 'the host is in another cluster now' }

/**
 * Gives a host its tasks, and compares what it has with what it was given. It is looked at in the same transaction: a host
 * that is not trusted now gets nothing.
 *
 * A task that was sent and is not held is sent again: the host writes down what it takes before it begins. One that it
 * said it has, and has no more, is lost. What it has and nobody here knows is to be cancelled.
 *
 * @param options.admit whether this is the first look at the request, which uses up its proof
 * @returns `hasNews` false where there is nothing that the host does not know; `lastChange` to wait from
 */
export async function giveTasks(
  { store, changes }: HostTaskDeps,
  caller: HostCaller,
  { holds, cancelling, room }: BodyOf<typeof takeTasks>,
  options: { readonly nowMs: number; readonly admit: boolean },
): Promise<{
  readonly answer: AnswerOf<typeof takeTasks>
  readonly hasNews: boolean
  readonly lastChange: number
}> {
  const { nowMs } = options
  const held = new Set(holds)
  const told = new Set(cancelling)
  const { changed, ...result } = await store.transaction(async (tx) => {
    if (options.admit) await tx.admit(caller, nowMs)
    else await tx.requireTrusted(caller)
    const { hostId } = caller
    const changed: StoredTask[] = []
    const change = async (task: StoredTask, to: TaskChange) => {
      const after = await tx.updateTask(task.taskId, to)
      changed.push(after)
      await addTaskEvent(tx, after, nowMs)
      return after
    }
    const ended = { endedAtMs: nowMs } as const
    const tasks: SentTask[] = []
    const cancel: string[] = []
    const goOn: string[] = []
    const known = new Set<string>()
    for (const task of await tx.listTasksOf(hostId, ['sent', 'running', 'cancelling', 'lost'])) {
      const { taskId, state } = task
      known.add(taskId)
      if (held.has(taskId)) {
        if (state === 'lost') await change(task, { state: 'running', ...NOT_ENDED })
        if (state === 'cancelling') cancel.push(taskId)
        else goOn.push(taskId)
      } else if (state === 'lost') {
        // as before
      } else if (task.held) {
        await change(task, { state: 'lost', error: LOST, ...ended })
      } else if (state === 'cancelling') {
        await change(task, { state: 'cancelled', error: NEVER_BEGUN, ...ended })
      } else if (tasks.length < room) {
        tasks.push(sentTask(task))
      }
    }
    await tx.heardOf(
      holds.filter((taskId) => known.has(taskId)),
      nowMs,
    )
    cancel.push(...holds.filter((taskId) => !known.has(taskId)))
    for (const task of await tx.listTasksOf(hostId, ['queued'])) {
      if (task.cluster !== caller.cluster) {
        await change(task, { state: 'failed', error: MOVED, ...ended })
      } else if (tasks.length < room) {
        tasks.push(sentTask(await change(task, { state: 'sent', sentAtMs: nowMs })))
      }
    }
    return {
      changed,
      answer: { tasks, cancel, goOn },
      hasNews: tasks.length > 0 || cancel.some((taskId) => !told.has(taskId)),
      lastChange: await tx.lastTaskChange(),
    }
  })
  for (const task of changed) changes.raise(task, false)
  return result
}

/**
 * Takes a host's word for its own tasks. Ends are settled once they are recorded; of tasks that are not of this host, or
 * that nobody knows any more, at once.
 */
export async function takeReports(
  { store, changes }: HostTaskDeps,
  caller: HostCaller,
  reports: readonly TaskReport[],
  nowMs: number,
): Promise<AnswerOf<typeof reportTasks>> {
  const { changed, settled } = await store.transaction(async (tx) => {
    await tx.admit(caller, nowMs)
    const changed: StoredTask[] = []
    const settled: string[] = []
    for (const report of reports) {
      const task = await tx.findTask(report.taskId)
      if (task?.hostId === caller.hostId) {
        const after = await takeReport(tx, task, report, nowMs)
        if (after) changed.push(after)
      }
      if (isEnd(report.state)) settled.push(report.taskId)
    }
    return { changed, settled }
  })
  for (const task of changed) changes.raise(task, false)
  return { settled }
}

async function takeReport(
  tx: ControlPlaneTransaction,
  task: StoredTask,
  { taskId: _, state: reported, error, result, ...progress }: TaskReport,
  nowMs: number,
): Promise<StoredTask | undefined> {
  if (isEnd(task.state)) return undefined
  const heard = { held: true, heardAtMs: nowMs, progress } as const
  const end = isEnd(reported) ? { endedAtMs: nowMs } : {}
  const began =
    reported === 'waiting' || task.startedAtMs !== undefined ? {} : { startedAtMs: nowMs }
  const after = await tx.updateTask(task.taskId, {
    ...{ ...heard, ...began, ...end, state: stateAfter(task, reported) },
    ...(error ? { error } : {}),
    ...(result ? { result } : {}),
  })
  if (after.state === task.state) return after
  await addTaskEvent(tx, after, nowMs)
  if (isEnd(after.state)) {
    const act = { actor: `host:${task.hostId}`, action: 'task.end', nowMs }
    await auditTask(tx, after, act, {
      state: after.state,
      ...(error ? { code: error.code } : {}),
    })
  }
  return after
}

function stateAfter(task: StoredTask, reported: TaskReport['state']): StoredTask['state'] {
  if (isEnd(reported)) return reported
  const isCancelling =
    task.state === 'cancelling' && (reported === 'waiting' || VM_TASKS[task.kind].cancellable)
  if (isCancelling) return 'cancelling'
  return reported === 'waiting' ? 'sent' : 'running'
}

function isEnd(state: StoredTask['state'] | 'waiting'): state is 'done' | 'failed' | 'cancelled' {
  return state === 'done' || state === 'failed' || state === 'cancelled'
}

function sentTask({ taskId, kind, vmId, request }: StoredTask): SentTask {
  return {
    ...{ taskId, kind, request: { ...request } },
    ...(vmId === undefined || vmId === taskId ? {} : { vmId }),
  }
}
