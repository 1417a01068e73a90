import { Writable } from 'node:stream'
import { pino } from 'pino'
import type { Clock } from '../../../src/core/clock.js'
import type { Logger } from '../../../src/core/logger.js'
import {
  type AppOptions,
  createApp,
  type Operator,
  operatorAccess,
} from '../../../src/http/index.js'

/** A logger whose lines a test can read. */
export function memoryLogger(): { readonly logger: Logger; readonly lines: string[] } {
  const lines: string[] = []
  const stream = new Writable({
    write(chunk, _encoding, done) {
      lines.push(String(chunk))
      done()
    },
  })
  return { logger: pino({ level: 'debug', base: null }, stream), lines }
}

export const ADMIN = `sgl_op_${'a'.repeat(43)}`
export const AUDITOR = `sgl_op_${'b'.repeat(43)}`

const OPERATORS: Readonly<Record<string, Operator>> = {
  [ADMIN]: { name: 'anna', role: 'administrator' },
  [AUDITOR]: { name: 'ugo', role: 'auditor' },
}

export const operators = operatorAccess({
  find: async (token, service) => (service === 'test' ? OPERATORS[token] : undefined),
})

export function testApp(changes: Partial<AppOptions> = {}) {
  return createApp({
    logger: memoryLogger().logger,
    name: 'test',
    bodyLimitOctets: 2 * 1024 * 1024,
    operators,
    ...changes,
  })
}

export function fixedClock(nowSeconds: number): Clock {
  return { nowMs: () => nowSeconds * 1000, monotonicMs: () => 0 }
}
