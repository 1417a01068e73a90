import type { TaskView, VmDetails } from '../../api/host-agent.js'
import { isoTime } from '../../core/clock.js'
import type { ErrorCode } from '../../core/error-codes.js'
import { isPlatformError, messageOf, PlatformError } from '../../core/errors.js'

/** How many ended tasks are remembered. */
const REMEMBERED = 100

export type TaskProgress = (step: string, percent: number) => void

/** Long work, watched from outside. Tasks are remembered in memory; what they do survives by its own means. */
export interface Tasks {
  start(
    task: { readonly taskId: string; readonly kind: string; readonly nowMs: number },
    work: (progress: TaskProgress) => Promise<VmDetails | undefined>,
  ): TaskView
  /** @throws PlatformError `NOT_FOUND` */
  get(taskId: string): TaskView
  /** Resolves when no task runs any more. */
  settled(): Promise<void>
}

export function createTasks(onError: (view: TaskView, error: unknown) => void): Tasks {
  const views = new Map<string, TaskView>()
  const running = new Set<Promise<void>>()

  const update = (taskId: string, change: Partial<TaskView>): TaskView => {
    const before = views.get(taskId)
    if (!before) throw new TypeError(`no task ${taskId}`)
    const after = { ...before, ...change }
    views.set(taskId, after)
    return after
  }
  const forgetOldest = () => {
    for (const [taskId, view] of views) {
      if (views.size <= REMEMBERED) return
      if (view.state !== 'running') views.delete(taskId)
    }
  }

  return {
    start({ taskId, kind, nowMs }, work) {
      views.set(taskId, {
        taskId,
        kind,
        state: 'running',
        step: 'starting',
        percent: 0,
        startedAt: isoTime(nowMs),
      })
      forgetOldest()
      const run = work((step, percent) => update(taskId, { step, percent: Math.round(percent) }))
        .then((vm) => {
          update(taskId, { state: 'done', step: 'done', percent: 100, ...(vm ? { vm } : {}) })
        })
        .catch((error: unknown) => {
          const code: ErrorCode = isPlatformError(error) ? error.code : 'INTERNAL'
          const message = isPlatformError(error) ? messageOf(error) : 'an error of our own'
          onError(update(taskId, { state: 'failed', error: { code, message } }), error)
        })
        .finally(() => running.delete(run))
      running.add(run)
      return update(taskId, {})
    },
    get(taskId) {
      const view = views.get(taskId)
      if (!view) throw new PlatformError('NOT_FOUND', `no task ${taskId}`)
      return view
    },
    async settled() {
      while (running.size > 0) await Promise.all(running)
    },
  }
}
