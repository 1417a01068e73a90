import type { ChangeSignal } from '../host-key-ports.js'

const POLL_MS = 1_000

/** Lets requests wait for changes, made by this process or by another that has the same store. */
export interface WaitingRoom extends ChangeSignal, AsyncDisposable {
  /** Resolves after a change that came after `revision`, after `timeoutMs`, or when the service closes. */
  wait(revision: number, timeoutMs: number): Promise<void>
}

/**
 * One look at the database in a second for all that wait, however many they are.
 *
 * @param readRevision the number of the last change
 */
export function createWaitingRoom(readRevision: () => Promise<number>): WaitingRoom {
  const waiting = new Set<{ readonly revision: number; readonly wake: () => void }>()
  let timer: NodeJS.Timeout | undefined
  let looking: Promise<void> | undefined
  let closed = false

  const look = async (): Promise<void> => {
    // A store that fails now is asked again by each request once it goes on
    const revision = await readRevision().catch(() => undefined)
    for (const one of waiting) {
      if (revision === undefined || one.revision !== revision) one.wake()
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

  return {
    raise() {
      for (const { wake } of waiting) wake()
    },
    async wait(revision, timeoutMs) {
      if (closed) return
      await new Promise<void>((resolve) => {
        const end = setTimeout(() => entry.wake(), timeoutMs)
        const entry = {
          revision,
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
    },
    async [Symbol.asyncDispose]() {
      closed = true
      for (const { wake } of waiting) wake()
      await looking
    },
  }
}
