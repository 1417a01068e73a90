import { type Logger, pino } from 'pino'

export type { Logger }

export const LOG_LEVELS = ['error', 'warn', 'info', 'debug', 'silent'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

/**
 * The logger of one process: JSON lines on standard error.
 *
 * Members with the names below never reach the log, wherever they stand up to three levels deep; octets do not either.
 */
export function createLogger(options: { readonly name: string; readonly level: LogLevel }): Logger {
  const secretMembers = ['token', 'dek', 'key', 'secret', 'passphrase', 'authorization', 'dpop']
  return pino(
    {
      name: options.name,
      level: options.level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      redact: {
        paths: secretMembers.flatMap((name) => [name, `*.${name}`, `*.*.${name}`]),
        censor: '[secret]',
      },
    },
    pino.destination({ dest: 2, sync: true }),
  )
}
