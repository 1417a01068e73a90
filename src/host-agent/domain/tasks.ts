import type { TaskView, VmDetails } from '../../api/host-agent.js'
import { isoTime } from '../../core/clock.js'
import type { ErrorCode } from '../../core/error-codes.js'
import { isPlatformError, messageOf, PlatformError } from '../../core/errors.js'

/** How many ended tasks are remembered. */
const REMEMBERED = 100

export type TaskProgress = (
  step: string,
  percent: number,
  octets?: { readonly done: number; readonly total: number },
) => void

/** What is started: one operation under a number of its own. */
export interface NewTask {
  readonly taskId: string
  readonly kind: string
  readonly nowMs: number
  /** Whether the work heeds its signal. */
  readonly cancellable: boolean
  /** Told of every change of the view, the last one with the end. */
  readonly onChange?: (view: TaskView) => void
}

/** Long work, watched from outside. Tasks are remembered in memory; what they do survives by its own means. */
export interface Tasks {
  /** The work ends early with the reason of the signal when the task is cancelled. */
  start(
    task: NewTask,
    work: (progress: TaskProgress, signal: AbortSignal) => Promise<VmDetails | undefined>,
  ): TaskView
  /** @throws PlatformError `NOT_FOUND` */
  get(taskId: string): TaskView
  /** The newest first. */
  list(): readonly TaskView[]
  /**
   * Asks the work to end early. It may be done all the same, when it had passed its last moment for that.
   *
   * @throws PlatformError `NOT_FOUND`, `TASK_UNCANCELLABLE`
   */
  cancel(taskId: string): TaskView
  /** Cancels what can be cancelled; resolves when no task runs any more. */
  settled(): Promise<void>
}

export function createTasks(onError: (view: TaskView, error: unknown) => void): Tasks {
  const views = new Map<string, TaskView>()
  const running = new Set<Promise<void>>()
  const controllers = new Map<string, AbortController>()
  const watchers = new Map<string, (view: TaskView) => void>()

  const update = (taskId: string, change: Partial<TaskView>): TaskView => {
    const before = views.get(taskId)
    if (!before) throw new TypeError(`no task ${taskId}`)
    const after = { ...before, ...change }
    views.set(taskId, after)
    watchers.get(taskId)?.(after)
    return after
  }
  const forgetOldest = () => {
    for (const [taskId, view] of views) {
      if (views.size <= REMEMBERED) return
      if (view.state !== 'running') views.delete(taskId)
    }
  }
  const get = (taskId: string): TaskView => {
    const view = views.get(taskId)
    if (!view) throw new PlatformError('NOT_FOUND', `no task ${taskId}`)
    return view
  }
  const fail = (taskId: string, error: unknown): void => {
    const code: ErrorCode = isPlatformError(error) ? error.code : 'INTERNAL'
    const message = isPlatformError(error) ? messageOf(error) : 'an error of our own'
    const isCancelled = code === 'TASK_CANCELLED'
    const state = isCancelled ? 'cancelled' : 'failed'
    const view = update(taskId, { state, cancellable: false, error: { code, message } })
    if (!isCancelled) onError(view, error)
  }
  const begin = (
    { taskId, kind, nowMs, cancellable, onChange }: NewTask,
    work: Parameters<Tasks['start']>[1],
  ): TaskView => {
    const controller = new AbortController()
    if (cancellable) controllers.set(taskId, controller)
    if (onChange) watchers.set(taskId, onChange)
    views.set(taskId, {
      ...{ taskId, kind, state: 'running', step: 'starting', percent: 0, cancellable },
      startedAt: isoTime(nowMs),
    })
    forgetOldest()
    const progress: TaskProgress = (step, percent, octets) =>
      update(taskId, { step, percent: Math.round(percent), ...(octets ? { octets } : {}) })
    const run = work(progress, controller.signal)
      .then((vm) => {
        const done = { state: 'done', step: 'done', percent: 100, cancellable: false } as const
        update(taskId, { ...done, ...(vm ? { vm } : {}) })
      })
      .catch((error: unknown) => fail(taskId, error))
      .finally(() => {
        running.delete(run)
        controllers.delete(taskId)
        watchers.delete(taskId)
      })
    running.add(run)
    return get(taskId)
  }

  return {
    start: begin,
    get,
    list: () => [...views.values()].reverse(),
    cancel(taskId) {
      const { kind } = get(taskId)
      const controller = controllers.get(taskId)
      if (!controller) {
        const message = `task ${kind} has ended, or cannot be cancelled`
        throw new PlatformError('TASK_UNCANCELLABLE', message)
      }
      controller.abort(cancelled())
      return update(taskId, {})
    },
    async settled() {
      for (const controller of controllers.values()) controller.abort(cancelled())
      while (running.size > 0) await Promise.all(running)
    },
  }
}

function cancelled(): PlatformError {
  return new PlatformError('TASK_CANCELLED', 'the task was cancelled')
}
