import { url as inspectorUrl } from 'node:inspector'
import closeWithGrace from 'close-with-grace'
import { PlatformError } from '../core/errors.js'
import type { Logger } from '../core/logger.js'

/**
 * Makes the process keep its memory and files to itself: the first thing that a service or agent does.
 *
 * SIGUSR1 no longer opens Node's inspector, through which anybody of the same user could read every key; a process
 * whose inspector is open already (`--inspect`, on the command line or in the environment) does not start. New files
 * are for the owner alone. **Does not** limit core dumps or swap: the service manager does.
 *
 * @throws PlatformError `INSPECTOR_OPEN`
 */
export function hardenProcess(): void {
  if (inspectorUrl() !== undefined) {
    throw new PlatformError('INSPECTOR_OPEN', 'expected no inspector, found one listening')
  }
  process.on('SIGUSR1', () => undefined)
  process.umask(0o077)
}

/**
 * Calls `close` at the first signal or uncaught error and ends the process: status 0 after a signal, 1 otherwise or
 * when `close` takes longer than `graceMs`.
 */
export function runUntilSignal(options: {
  readonly logger: Logger
  readonly graceMs: number
  readonly close: () => Promise<void>
}): void {
  const { logger, graceMs, close } = options
  const report = (message: unknown) =>
    logger.error({ event: 'process.ending', err: message }, 'process is ending')
  closeWithGrace({ delay: graceMs, logger: { error: report } }, async ({ signal, err }) => {
    if (err) report(err)
    else logger.info({ event: 'process.stopping', signal }, 'process is stopping')
    await close()
  })
}
