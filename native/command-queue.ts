import { PlatformError } from '../src/core/errors.js'

/** Runs commands of one TPM one at a time, and none after the TPM was lost or closed. */
export interface CommandQueue {
  run<R>(command: () => Promise<R>): Promise<R>
  /** Ends the queue: what waits and what comes is refused with `reason`. */
  end(reason: string): void
  /** Resolves when nothing runs any more. */
  idle(): Promise<void>
}

/**
 * @param options.deadlineMs how long one command may take: making an RSA key on a hardware TPM takes half a minute
 */
export function createCommandQueue(options: { readonly deadlineMs: number }): CommandQueue {
  let last: Promise<unknown> = Promise.resolve()
  let ended: string | undefined

  const requireOpen = (): void => {
    if (ended !== undefined) throw new PlatformError('TPM_UNREACHABLE', ended)
  }
  const end = (reason: string): void => {
    ended ??= reason
  }

  return {
    run(command) {
      const result = last.then(async () => {
        requireOpen()
        try {
          return await withDeadline(command(), options.deadlineMs)
        } catch (error) {
          if (error instanceof PlatformError && error.code === 'TPM_UNREACHABLE') {
            end(error.message)
          }
          throw error
        }
      })
      last = result.catch(() => undefined)
      return result
    },
    end,
    async idle() {
      await last
    },
  }
}

async function withDeadline<R>(command: Promise<R>, deadlineMs: number): Promise<R> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () =>
        reject(
          new PlatformError('TPM_UNREACHABLE', `the TPM did not answer within ${deadlineMs} ms`),
        ),
      deadlineMs,
    )
  })
  try {
    return await Promise.race([command, late])
  } finally {
    clearTimeout(timer)
  }
}
