import { setTimeout as delay } from 'node:timers/promises'
import { reportTasks, takeTasks } from '../../api/tasks.js'
import { isPlatformError, messageOf } from '../../core/errors.js'
import type { Logger } from '../../core/logger.js'
import type { Authority } from '../adapters/authority.js'
import { retryDelayMs } from '../domain/schedule.js'
import type { TaskRunner } from './runner.js'

/** How long a call may wait for a task. */
const WAIT_SECONDS = 20
/** Progress is reported so often at most. Ends are reported at once. */
const REPORT_EVERY_MS = 1_000
/** The longest pause is that after five failures: half a minute. */
const COUNTED_FAILURES = 5

/** Brings tasks from the control plane to this host, and its reports back. */
export interface TaskExchange extends AsyncDisposable {
  /** The host is attested: asks for tasks from now on. */
  start(): void
  /** The host is not trusted any longer: asks for nothing until it is, and begins nothing. */
  stop(): void
  /** There is something to report. */
  changed(isEnd: boolean): void
}

interface Run {
  readonly ended: AbortController
  /** Ends the call for tasks that is under way, and has the next one follow at once. */
  turn: AbortController
  readonly done: Promise<unknown>
}

/**
 * A call for tasks is open nearly always, and is answered when there is one. Reports go out beside it. Calls that fail are
 * made again, with growing pauses.
 */
export function createTaskExchange(deps: {
  readonly authority: Authority
  readonly runner: TaskRunner
  readonly random: () => number
  readonly logger: Logger
}): TaskExchange {
  const { authority, logger } = deps
  let run: Run | undefined
  let closed = false
  /** Resolves what waits for something to report. */
  let wake: (isEnd: boolean) => void = () => undefined
  let pending: 'none' | 'progress' | 'end' = 'none'

  const takeLoop = async (current: Run): Promise<void> => {
    let isFirst = true
    let failures = 0
    while (!current.ended.signal.aborted) {
      const signal = AbortSignal.any([current.ended.signal, current.turn.signal])
      const { room, holds, cancelling } = deps.runner
      const waitSeconds = isFirst || failures > 0 ? 0 : WAIT_SECONDS
      try {
        const body = { waitSeconds, room, holds: [...holds], cancelling: [...cancelling] }
        const answer = await authority.call(takeTasks, { body }, signal)
        if (current.ended.signal.aborted) return
        deps.runner.take(answer)
        isFirst = false
        failures = 0
      } catch (error) {
        if (current.ended.signal.aborted) return
        if (!current.turn.signal.aborted) {
          failures += 1
          warn('tasks.not-taken', failures, error)
          await pause(retryDelayMs(Math.min(failures, COUNTED_FAILURES), deps.random()), signal)
        }
      }
      if (current.turn.signal.aborted) current.turn = new AbortController()
    }
  }

  const reportLoop = async (current: Run): Promise<void> => {
    let failures = 0
    const { signal } = current.ended
    // What an agent before this one did not report
    pending = 'end'
    while (!signal.aborted) {
      if (pending === 'none') await nextChange(signal)
      if (pending !== 'end') await soon(signal)
      if (signal.aborted) return
      pending = 'none'
      const { tasks, reported } = deps.runner.reports()
      if (tasks.length === 0) continue
      try {
        const body = { tasks: [...tasks] }
        const { settled } = await authority.call(reportTasks, { body }, signal)
        const hadRoom = deps.runner.room > 0
        reported(settled)
        failures = 0
        if (!hadRoom && deps.runner.room > 0) current.turn.abort()
        if (deps.runner.reports().tasks.length > 0 && pending === 'none') pending = 'progress'
      } catch (error) {
        if (signal.aborted) return
        failures += 1
        warn('tasks.not-reported', failures, error)
        pending = 'end'
        await pause(retryDelayMs(Math.min(failures, COUNTED_FAILURES), deps.random()), signal)
      }
    }
  }

  const warn = (event: string, failures: number, err: unknown): void => {
    // While nobody answers, once
    if (failures > 1 && isPlatformError(err, 'AUTHORITY_UNREACHABLE')) return
    logger.warn({ event, failures, reason: messageOf(err) }, 'the control plane was not reached')
  }

  const nextChange = (signal: AbortSignal): Promise<void> =>
    new Promise((resolve) => {
      const done = () => {
        signal.removeEventListener('abort', done)
        wake = () => undefined
        resolve()
      }
      signal.addEventListener('abort', done)
      wake = done
      if (signal.aborted) done()
    })

  /** Progress is gathered for a moment; an end is not kept waiting. */
  const soon = async (signal: AbortSignal): Promise<void> => {
    const ended = new AbortController()
    wake = (isEnd) => {
      if (isEnd) ended.abort()
    }
    await pause(REPORT_EVERY_MS, AbortSignal.any([signal, ended.signal]))
    wake = () => undefined
  }

  const end = async (): Promise<void> => {
    const before = run
    run = undefined
    before?.ended.abort()
    await before?.done
  }

  return {
    start() {
      if (run || closed) return
      const started: Run = {
        ended: new AbortController(),
        turn: new AbortController(),
        done: Promise.resolve().then(() => Promise.all([takeLoop(started), reportLoop(started)])),
      }
      run = started
    },
    stop() {
      deps.runner.pause()
      void end()
    },
    changed(isEnd) {
      if (isEnd || pending === 'none') pending = isEnd ? 'end' : 'progress'
      wake(isEnd)
    },
    async [Symbol.asyncDispose]() {
      closed = true
      await end()
    },
  }
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await delay(ms, undefined, { signal })
  } catch (error) {
    if (!signal.aborted) throw error
  }
}
