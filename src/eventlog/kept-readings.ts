import { hash } from 'node:crypto'
import { failures } from '../core/finding.js'
import { Recent } from '../core/recent.js'
import type { HashName } from '../tpm/index.js'
import type { BootQuestions, BootSummary } from './describe-boot.js'
import type { EventLogReading } from './verify-event-log.js'

/** Logs of so many kinds of host that booted lately. */
const MAX_KEPT = 64
/** Hashes, applications and measurements in a summary: a real one has some hundred. */
const MAX_ITEMS = 2000

/**
 * What was read of event logs, the last used ones, so that the same log need not be read again.
 *
 * A reading is a function of its key: of the SHA-256 of all octets of the log, the bank, the PCRs that were quoted and the
 * questions. It holds no value that a quote was compared with. Only what passed every check is kept, and it is bounded: a
 * host cannot fill the memory with what it made up.
 */
export class KeptReadings {
  readonly #kept = new Recent<string, EventLogReading>(MAX_KEPT)

  /** Computed from the octets each time: nobody's word is taken for which log it is. */
  keyOf(
    eventLog: Uint8Array,
    bank: HashName,
    quotedPcrs: ReadonlySet<number>,
    questions: BootQuestions,
  ): string {
    const pcrs = [...quotedPcrs].sort((a, b) => a - b)
    return `${hash('sha256', eventLog, 'base64')} ${bank} ${pcrs.join()} ${questions.dbx}`
  }

  get(key: string): EventLogReading | undefined {
    return this.#kept.get(key)
  }

  keep(key: string, reading: EventLogReading): void {
    const isSound = failures([reading.usable, ...reading.findings]).length === 0
    if (isSound && itemsOf(reading.summary) <= MAX_ITEMS) this.#kept.set(key, reading)
  }

  clear(): void {
    this.#kept.clear()
  }
}

function itemsOf({ bootApplications, dbx, microcode }: BootSummary): number {
  return bootApplications.length + (dbx?.hashes.length ?? 0) + (microcode?.length ?? 0)
}
