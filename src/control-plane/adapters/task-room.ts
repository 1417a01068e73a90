import type { TaskSignal } from '../task-ports.js'

const POLL_MS = 1_000
/** Tasks and hosts whose last changes are remembered. */
const MOST_KEYS = 10_000

interface Change {
  readonly taskId: string
  readonly hostId: string
  readonly version: number
  readonly news: number
}

/** Lets requests wait for changes of one task, or for news for one host; made by this process or by another. */
export interface TaskRoom extends TaskSignal, AsyncDisposable {
  /** Resolves after a change of the task that came after this one, after `timeoutMs`, or when the service closes. */
  waitForTask(taskId: string, after: number, timeoutMs: number): Promise<void>
  /** Resolves when there is news for the host after this change, as above. */
  waitForHost(hostId: string, after: number, timeoutMs: number): Promise<void>
}

/**
 * Who waits for one task or host is woken alone, at once for changes of this process, and by one look at the database in
 * a second for those of others.
 *
 * @param changesAfter changes of tasks after this one, the oldest first
 */
export function createTaskRoom(
  changesAfter: (version: number) => Promise<readonly Change[]>,
): TaskRoom {
  const waiting = new Set<{
    readonly key: string
    readonly after: number
    readonly wake: () => void
  }>()
  let timer: NodeJS.Timeout | undefined
  let looking: Promise<void> | undefined
  let closed = false
  let seen = 0
  /** Changes that were seen, for who begins to wait after that. */
  const latest = new Map<string, number>()

  const wake = (key: string, version = Number.POSITIVE_INFINITY): void => {
    for (const one of waiting) if (one.key === key && one.after < version) one.wake()
  }
  const see = (key: string, version: number): void => {
    latest.set(key, version)
    wake(key, version)
  }
  const look = async (): Promise<void> => {
    // A store that fails now is asked again by each request once it goes on
    const changes = await changesAfter(seen).catch(() => undefined)
    if (!changes) {
      for (const one of waiting) one.wake()
      return
    }
    if (latest.size > MOST_KEYS) latest.clear()
    for (const { taskId, hostId, version, news } of changes) {
      seen = Math.max(seen, version)
      see(taskKey(taskId), version)
      see(hostKey(hostId), news)
    }
  }
  const lookOnce = (): void => {
    looking ??= look().finally(() => {
      looking = undefined
    })
  }
  const rest = (): void => {
    if (waiting.size > 0) return
    clearInterval(timer)
    timer = undefined
  }
  const wait = async (key: string, after: number, timeoutMs: number): Promise<void> => {
    if (closed || (latest.get(key) ?? 0) > after) return
    // Nobody waited: nothing was looked at since
    if (waiting.size === 0) seen = Math.max(seen, after)
    await new Promise<void>((resolve) => {
      const end = setTimeout(() => entry.wake(), timeoutMs)
      const entry = {
        ...{ key, after },
        wake() {
          clearTimeout(end)
          waiting.delete(entry)
          rest()
          resolve()
        },
      }
      waiting.add(entry)
      timer ??= setInterval(lookOnce, POLL_MS)
    })
  }

  return {
    raise({ taskId, hostId }, isNews) {
      wake(taskKey(taskId))
      if (isNews) wake(hostKey(hostId))
    },
    waitForTask: (taskId, after, timeoutMs) => wait(taskKey(taskId), after, timeoutMs),
    waitForHost: (hostId, after, timeoutMs) => wait(hostKey(hostId), after, timeoutMs),
    async [Symbol.asyncDispose]() {
      closed = true
      for (const one of waiting) one.wake()
      await looking
    },
  }
}

function taskKey(taskId: string): string {
  return `task ${taskId}`
}

function hostKey(hostId: string): string {
  return `host ${hostId}`
}
