import type { VmTaskView } from '../../api/tasks.js'
import { VM_TASKS } from '../../api/vm-tasks.js'
import { PlatformError, unreachable } from '../../core/errors.js'
import type { ControlPlaneTransaction } from '../ports.js'
import type { StoredTask, TaskFilter } from '../task-ports.js'
import { createTask, type TaskDeps } from './create-task.js'
import type { Act } from './inventory.js'
import { addTaskEvent, auditTask } from './task-events.js'
import { placesOfTasks, taskView, visibleTask } from './task-view.js'

/** What people do with tasks. */
export function createVmTasks(deps: TaskDeps) {
  const { store, changes } = deps
  return {
    create: (act: Act, wanted: Parameters<typeof createTask>[2]) => createTask(deps, act, wanted),

    /** Those that the caller may see, the newest first. @param page.after number of the last one of the page before */
    list: (
      act: Act,
      filter: TaskFilter,
      page: { readonly after?: string | undefined; readonly limit?: number | undefined },
    ): Promise<{ readonly tasks: VmTaskView[]; readonly next?: string }> =>
      store.transaction(async (tx) => {
        const rights = await tx.rightsOf(act)
        const { limit = 100 } = page
        const found: StoredTask[] = []
        let before = page.after === undefined ? Number.MAX_SAFE_INTEGER : Number(page.after)
        for (;;) {
          const tasks = await tx.listTasks({ ...filter, before, limit: limit + 1 })
          const placeOf = await placesOfTasks(tx, tasks)
          found.push(...tasks.filter((task) => rights.may('System.Read', placeOf(task))))
          before = tasks.at(-1)?.seq ?? 0
          if (tasks.length <= limit || found.length > limit) break
        }
        const shown = found.slice(0, limit)
        const views: VmTaskView[] = []
        for (const task of shown) views.push(await taskView(tx, task))
        const next = found.length > limit ? shown.at(-1)?.seq : undefined
        return { tasks: views, ...(next === undefined ? {} : { next: String(next) }) }
      }),

    /** @throws PlatformError `NOT_FOUND`, `FORBIDDEN` */
    get: (act: Act, taskId: string): Promise<VmTaskView> =>
      store.transaction(async (tx) => {
        const task = await findTask(tx, act, taskId)
        return taskView(tx, task)
      }),

    /**
     * Who asked for a task may cancel it; of others, `Task.Cancel` is needed.
     *
     * @throws PlatformError `NOT_FOUND`, `FORBIDDEN`, `TASK_UNCANCELLABLE`
     */
    async cancel(act: Act, taskId: string): Promise<VmTaskView> {
      const { task, view } = await store.transaction(async (tx) => {
        const before = await findTask(tx, act, taskId, 'Task.Cancel')
        const next = stateWhenCancelled(before)
        if (next === before.state) return { task: before, view: await taskView(tx, before) }
        const isOver = next === 'cancelled'
        const ended = isOver ? { endedAtMs: act.nowMs, error: CANCELLED } : {}
        const task = await tx.updateTask(taskId, { state: next, ...ended }, !isOver)
        await addTaskEvent(tx, task, act.nowMs)
        await auditTask(tx, task, { ...act, action: 'task.cancel' })
        return { task, view: await taskView(tx, task) }
      })
      changes.raise(task, true)
      return view
    },
  }
}

export type VmTasks = ReturnType<typeof createVmTasks>

const CANCELLED = { code: 'TASK_CANCELLED', message: 'the task was cancelled before it began' }

async function findTask(
  tx: ControlPlaneTransaction,
  act: Act,
  taskId: string,
  ofOthers?: 'Task.Cancel',
): Promise<StoredTask> {
  const rights = await tx.rightsOf(act)
  const { task, place } = await visibleTask(tx, taskId, rights)
  if (ofOthers && task.askedBy !== act.actor) rights.require([ofOthers], place)
  return task
}

function stateWhenCancelled({ kind, state }: StoredTask): StoredTask['state'] {
  switch (state) {
    case 'queued':
      return 'cancelled'
    case 'sent':
    case 'cancelling':
      return 'cancelling'
    case 'running':
      if (VM_TASKS[kind].cancellable) return 'cancelling'
      throw new PlatformError('TASK_UNCANCELLABLE', `${kind} cannot be cancelled once it began`)
    case 'done':
    case 'failed':
    case 'cancelled':
    case 'lost':
      throw new PlatformError('TASK_UNCANCELLABLE', `the task has ended: it is ${state}`)
    default:
      return unreachable(state)
  }
}
