import type { HashName } from '../tpm/index.js'
import type { EventLog, LoggedEvent } from './parse-event-log.js'

/**
 * The log of a boot in which one measurement was another: for laboratories and tests.
 *
 * @param digestOf gives the new digest of the event in each bank
 */
export function withEventDigests(
  log: EventLog,
  index: number,
  digestOf: (bank: HashName) => Uint8Array,
): EventLog {
  const event = log.events[index]
  if (!event) throw new TypeError(`no event ${index}`)
  const changed: LoggedEvent = {
    ...event,
    digests: new Map([...event.digests.keys()].map((bank) => [bank, digestOf(bank)])),
  }
  return { ...log, events: log.events.with(index, changed) }
}
