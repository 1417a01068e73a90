import { Writable } from 'node:stream'
import { pino } from 'pino'
import type { Logger } from '../../src/core/logger.js'

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
