import type { AnswerOf, BodyOf } from '../../api/operation.js'
import type { reportTasks, SentTask, TaskError, TaskReport, takeTasks } from '../../api/tasks.js'
import { VM_TASKS } from '../../api/vm-tasks.js'
import type { ControlPlaneStore, ControlPlaneTransaction, HostCaller } from '../ports.js'
import type { StoredTask, TaskSignal } from '../task-ports.js'
import { addTaskEvent, auditEnd, type EndState, endTask } from './task-events.js'

interface HostTaskDeps {
  readonly store: ControlPlaneStore
  readonly changes: TaskSignal
}

const LOST: TaskError = {
  code: 'TASK_LOST',
  message: 'the host had the task and does not know it any more: look at the VM',
}
const NEVER_BEGUN: TaskError = {
  code: 'TASK_CANCELLED',
  message: 'the task was cancelled before it began',
}

/**
 * Gives a host its tasks, and compares what it has with what it was given. It is looked at in the same transaction: a host
 * that is not trusted now gets nothing.
 *
 * A task that was sent and is not held is sent again: the host writes down what it takes before it begins. One that it
 * said it has, and has no more, is lost. What it has and nobody here knows, or what has ended here, is to be cancelled.
 * Nothing is given to a host that is of another cluster since, or that has the VM no more.
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
  const told = new Set(cancelling)
  const { changed, ...result } = await store.transaction(async (tx) => {
    if (options.admit) await tx.admit(caller, nowMs)
    else await tx.requireTrusted(caller)
    const held = await compareHeld(tx, caller, holds, nowMs)
    const given = await tasksToGive(tx, caller, { held: new Set(holds), room, nowMs })
    const { cancel, goOn } = held
    return {
      changed: [...held.changed, ...given.changed],
      answer: { tasks: given.tasks, cancel, goOn },
      hasNews: given.tasks.length > 0 || cancel.some((taskId) => !told.has(taskId)),
      lastChange: await tx.lastTaskChange(),
    }
  })
  for (const task of changed) changes.raise(task, false)
  return result
}

/** What a host has: which of it is to go on, and which is to end. */
async function compareHeld(
  tx: ControlPlaneTransaction,
  { hostId }: HostCaller,
  holds: readonly string[],
  nowMs: number,
): Promise<{ readonly changed: StoredTask[]; readonly cancel: string[]; readonly goOn: string[] }> {
  const own = (await tx.findTasks(holds)).filter((task) => task.hostId === hostId)
  const open = new Map(
    own.filter(({ state }) => !isSettled(state)).map((task) => [task.taskId, task]),
  )
  await tx.heardOf([...open.keys()], nowMs)
  const changed: StoredTask[] = []
  const cancel: string[] = []
  const goOn: string[] = []
  for (const taskId of holds) {
    const task = open.get(taskId)
    // a database that was restored does not know that it was sent
    if (task?.state === 'lost' || task?.state === 'queued') {
      changed.push(await foundAgain(tx, task, nowMs))
    }
    if (!task || task.state === 'cancelling') cancel.push(taskId)
    else goOn.push(taskId)
  }
  return { changed, cancel, goOn }
}

/** What a host does not have: tasks that are new, those that did not reach it, and those that it does not get after all. */
async function tasksToGive(
  tx: ControlPlaneTransaction,
  caller: HostCaller,
  options: { readonly held: ReadonlySet<string>; readonly room: number; readonly nowMs: number },
): Promise<{ readonly changed: StoredTask[]; readonly tasks: SentTask[] }> {
  const { held, room, nowMs } = options
  const changed: StoredTask[] = []
  const tasks: SentTask[] = []
  const end = async (task: StoredTask, state: EndState, error: TaskError) => {
    changed.push(await endTask(tx, task, { state, error, actor: 'service', nowMs }))
  }
  const give = async (task: StoredTask): Promise<void> => {
    const misplaced = await whyMisplaced(tx, task, caller)
    if (misplaced) return end(task, 'failed', misplaced)
    tasks.push(sentTask(task))
    if (task.state === 'sent') return
    const sent = await tx.updateTask(task.taskId, { state: 'sent', sentAtMs: nowMs })
    await addTaskEvent(tx, sent, nowMs)
    changed.push(sent)
  }
  for (const task of await tx.listTasksOf(caller.hostId, ['sent', 'running', 'cancelling'])) {
    if (held.has(task.taskId)) continue
    if (task.held) await end(task, 'lost', LOST)
    else if (task.state === 'cancelling') await end(task, 'cancelled', NEVER_BEGUN)
    else if (tasks.length < room) await give(task)
  }
  for (const task of await tx.listTasksOf(caller.hostId, ['queued'])) {
    if (tasks.length < room) await give(task)
  }
  return { changed, tasks }
}

/** Why a host does not do a task any more that it was asked for: it was moved to another cluster since, or its VM was. */
async function whyMisplaced(
  tx: ControlPlaneTransaction,
  { kind, vmId, cluster }: StoredTask,
  caller: HostCaller,
): Promise<TaskError | undefined> {
  if (cluster !== caller.cluster) {
    return { code: 'TASK_HOST', message: `the host is in cluster ${caller.cluster} now` }
  }
  if (VM_TASKS[kind].on !== 'vm' || vmId === undefined) return undefined
  const vm = await tx.findVm(vmId)
  if (!vm || vm.hostId === caller.hostId) return undefined
  return { code: 'TASK_HOST', message: `the VM is with host ${vm.hostId} now` }
}

/** A host has a task that was taken for lost, or that was not known to be with it. */
async function foundAgain(
  tx: ControlPlaneTransaction,
  { taskId, startedAtMs, sentAtMs = 0 }: StoredTask,
  nowMs: number,
): Promise<StoredTask> {
  const found = await tx.updateTask(taskId, {
    ...{ state: startedAtMs === undefined ? 'sent' : 'running', held: true },
    ...{ sentAtMs: sentAtMs || nowMs, endedAtMs: null, error: null },
  })
  await addTaskEvent(tx, found, nowMs)
  return found
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
      if (isSettled(report.state)) settled.push(report.taskId)
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
  if (isSettled(task.state)) return undefined
  const began =
    reported === 'waiting' || task.startedAtMs !== undefined ? {} : { startedAtMs: nowMs }
  const after = await tx.updateTask(task.taskId, {
    ...{ held: true, heardAtMs: nowMs, progress, state: stateAfter(task, reported), ...began },
    // Of a task that was taken for lost, the end and its reason are taken back
    ...{ endedAtMs: isSettled(reported) ? nowMs : null, error: error ?? null },
    ...(result ? { result } : {}),
  })
  if (after.state === task.state) return after
  await addTaskEvent(tx, after, nowMs)
  if (isSettled(after.state)) await auditEnd(tx, after, `host:${task.hostId}`, nowMs)
  return after
}

function stateAfter(task: StoredTask, reported: TaskReport['state']): StoredTask['state'] {
  if (isSettled(reported)) return reported
  const isCancelling =
    task.state === 'cancelling' && (reported === 'waiting' || VM_TASKS[task.kind].cancellable)
  if (isCancelling) return 'cancelling'
  return reported === 'waiting' ? 'sent' : 'running'
}

/** Ends that stay. A task that is lost may be found again. */
function isSettled(
  state: StoredTask['state'] | 'waiting',
): state is 'done' | 'failed' | 'cancelled' {
  return state === 'done' || state === 'failed' || state === 'cancelled'
}

function sentTask({ taskId, kind, vmId, request }: StoredTask): SentTask {
  return {
    ...{ taskId, kind, request: { ...request } },
    ...(vmId === undefined || vmId === taskId ? {} : { vmId }),
  }
}
