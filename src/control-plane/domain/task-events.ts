import type { TaskError } from '../../api/tasks.js'
import type { CanonicalValue } from '../../core/canonical-json.js'
import { unreachable } from '../../core/errors.js'
import type { ControlPlaneTransaction, NewEvent } from '../ports.js'
import type { StoredTask } from '../task-ports.js'

/** What a task is about, in events and audit records. */
export function subjectOf({ vmId, hostId }: StoredTask): string {
  return vmId === undefined ? `host:${hostId}` : `vm:${vmId}`
}

/** Records that a task came into its state: for people who watch. */
export async function addTaskEvent(
  tx: ControlPlaneTransaction,
  task: StoredTask,
  atMs: number,
): Promise<void> {
  const { taskId, kind, hostId, state, error } = task
  await tx.addEvent({
    atMs,
    severity: severityOf(task),
    type: `task.${state}`,
    subject: subjectOf(task),
    message: sentenceOf(task),
    detail: {
      ...{ task: taskId, kind, host: hostId, askedBy: task.askedBy },
      ...(error ? { code: error.code } : {}),
    },
  })
}

/** Records who had something done: for the audit. */
export async function auditTask(
  tx: ControlPlaneTransaction,
  task: StoredTask,
  act: { readonly actor: string; readonly action: string; readonly nowMs: number },
  detail: { readonly [name: string]: CanonicalValue } = {},
): Promise<void> {
  const { taskId, kind, hostId } = task
  await tx.audit({
    atMs: act.nowMs,
    actor: act.actor,
    action: act.action,
    subject: subjectOf(task),
    outcome: 'done',
    detail: { task: taskId, kind, host: hostId, ...detail },
  })
}

export type EndState = 'failed' | 'cancelled' | 'lost'

/** Ends a task whose host did not say how it ended, with its event and audit record. */
export async function endTask(
  tx: ControlPlaneTransaction,
  task: StoredTask,
  end: {
    readonly state: EndState
    readonly error: TaskError
    readonly actor: string
    readonly nowMs: number
  },
): Promise<StoredTask> {
  const { state, error, actor, nowMs } = end
  const ended = await tx.updateTask(task.taskId, { state, error, endedAtMs: nowMs })
  await addTaskEvent(tx, ended, nowMs)
  await auditEnd(tx, ended, actor, nowMs)
  return ended
}

/** Records how a task ended: for the audit. */
export async function auditEnd(
  tx: ControlPlaneTransaction,
  task: StoredTask,
  actor: string,
  nowMs: number,
): Promise<void> {
  const { state, error } = task
  const detail = { state, ...(error ? { code: error.code } : {}) }
  await auditTask(tx, task, { actor, action: 'task.end', nowMs }, detail)
}

function severityOf({ state }: StoredTask): NewEvent['severity'] {
  return state === 'failed' || state === 'lost' ? 'warning' : 'info'
}

function sentenceOf({ kind, state, hostId, error }: StoredTask): string {
  const reason = error ? `: ${error.message}` : ''
  switch (state) {
    case 'queued':
      return `${kind} is to be done on ${hostId}`
    case 'sent':
      return `${hostId} took ${kind}`
    case 'running':
      return `${kind} began on ${hostId}`
    case 'cancelling':
      return `${kind} on ${hostId} is to be cancelled`
    case 'done':
      return `${kind} was done on ${hostId}`
    case 'failed':
      return `${kind} failed on ${hostId}${reason}`
    case 'cancelled':
      return `${kind} on ${hostId} was cancelled`
    case 'lost':
      return `nobody knows what became of ${kind} on ${hostId}${reason}`
    default:
      return unreachable(state)
  }
}
