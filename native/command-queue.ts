import { PlatformError } from '../src/core/errors.js'

/** Runs commands of one TPM one at a time, and none after the TPM was lost or closed. */
export interface CommandQueue {
  run<R>(command: () => Promise<R>): Promise<R>
  /** Runs one last command behind those that wait; what comes later is refused with `reason`. */
  finish(command: () => Promise<void>, deadlineMs: number, reason: string): Promise<void>
  /** Whether a command is past its deadline and has not returned: C still uses what it was given. */
  readonly overdue: boolean
  /** Resolves when the last command has returned, however late. */
  returned(): Promise<void>
}

/**
 * @param options.deadlineMs how long one command may take before the TPM counts as lost
 */
export function createCommandQueue(options: { readonly deadlineMs: number }): CommandQueue {
  let last: Promise<unknown> = Promise.resolve()
  let running: Promise<unknown> = Promise.resolve()
  let overdue = false
  let ended: string | undefined

  const enqueue = <R>(command: () => Promise<R>, deadlineMs: number): Promise<R> => {
    const result = last.then(async () => {
      if (ended !== undefined) throw new PlatformError('TPM_UNREACHABLE', ended)
      const started = command()
      running = started.catch(() => undefined)
      try {
        return await withDeadline(started, deadlineMs, () => {
          overdue = true
          void running.then(() => {
            overdue = false
          })
        })
      } catch (error) {
        if (error instanceof PlatformError && error.code === 'TPM_UNREACHABLE') {
          ended ??= error.message
        }
        throw error
      }
    })
    last = result.catch(() => undefined)
    return result
  }

  return {
    run: (command) => enqueue(command, options.deadlineMs),
    async finish(command, deadlineMs, reason) {
      const lastCommand = async (): Promise<void> => {
        try {
          await command()
        } finally {
          ended ??= reason
        }
      }
      await enqueue(lastCommand, Math.min(deadlineMs, options.deadlineMs))
    },
    get overdue() {
      return overdue
    },
    async returned() {
      await running
    },
  }
}

async function withDeadline<R>(
  command: Promise<R>,
  deadlineMs: number,
  whenLate: () => void,
): Promise<R> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      whenLate()
      reject(new PlatformError('TPM_UNREACHABLE', `the TPM did not answer within ${deadlineMs} ms`))
    }, deadlineMs)
  })
  try {
    return await Promise.race([command, late])
  } finally {
    clearTimeout(timer)
  }
}
