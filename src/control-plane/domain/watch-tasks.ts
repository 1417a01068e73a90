import type { ControlPlaneStore } from '../ports.js'
import type { StoredTask, TaskSignal } from '../task-ports.js'
import { type EndState, endTask } from './task-events.js'

const EXPIRED = { code: 'TASK_EXPIRED', message: 'the host did not take the task in time' }
const SILENT = {
  code: 'TASK_LOST',
  message: 'the host was given the task and said nothing of it since: look at the VM',
}

/** What is due: tasks that no host took in time, hosts that say nothing of theirs, old tasks that are forgotten. */
export async function watchTasks(
  deps: { readonly store: ControlPlaneStore; readonly changes: TaskSignal },
  options: {
    readonly silenceSeconds: number
    readonly retentionDays: number
    readonly nowMs: number
  },
): Promise<void> {
  const { nowMs } = options
  const changed = await deps.store.transaction(async (tx) => {
    const changed: StoredTask[] = []
    const end = async (task: StoredTask, state: EndState, error: typeof EXPIRED) => {
      changed.push(await endTask(tx, task, { state, error, actor: 'service', nowMs }))
    }
    for (const task of await tx.listExpiredTasks(nowMs)) await end(task, 'failed', EXPIRED)
    for (const task of await tx.listSilentTasks(nowMs - options.silenceSeconds * 1000)) {
      await end(task, 'lost', SILENT)
    }
    await tx.pruneTasks(nowMs - options.retentionDays * 86_400_000)
    return changed
  })
  for (const task of changed) deps.changes.raise(task, false)
}
