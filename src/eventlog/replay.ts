import { hash } from 'node:crypto'
import { utf8 } from '../core/bytes.js'
import { HASH_ALGORITHMS, type HashName } from '../tpm/index.js'
import { EVENT_TYPES } from './event-types.js'
import type { EventLog, LoggedEvent } from './parse-event-log.js'

const STARTUP_LOCALITY_SIGNATURE = utf8('StartupLocality\0')
/** PCRs of the dynamic root of trust: all ones after start-up. @see PC Client Platform TPM Profile, clause 4.6 */
const FIRST_DYNAMIC_PCR = 17
const LAST_DYNAMIC_PCR = 22

/**
 * The locality that the TPM was started from, as an EV_NO_ACTION event tells; 0 where none does.
 *
 * Untrusted by itself; a wrong one makes the replay of PCR 0 fail.
 *
 * @see TCG PC Client Platform Firmware Profile, clause 10.4.5.3
 */
export function startupLocality(log: EventLog): number {
  const event = log.events.find(
    ({ type, data }) =>
      type === EVENT_TYPES.EV_NO_ACTION &&
      data.length === STARTUP_LOCALITY_SIGNATURE.length + 1 &&
      STARTUP_LOCALITY_SIGNATURE.every((octet, index) => data[index] === octet),
  )
  return event?.data.at(-1) ?? 0
}

/** Whether an event extends its PCR: EV_NO_ACTION only informs. */
export function isExtending(event: LoggedEvent): boolean {
  return event.type !== EVENT_TYPES.EV_NO_ACTION
}

/**
 * PCR values that the log leads to, for every PCR that it extends.
 *
 * @see TPM 2.0 Library, Part 1, clause 17.2 (PCR extend)
 */
export function replayEventLog(log: EventLog, bank: HashName): ReadonlyMap<number, Uint8Array> {
  const locality = startupLocality(log)
  const { digestOctets } = HASH_ALGORITHMS[bank]
  // The value of a PCR, and behind it the digest that it is extended with.
  const registers = new Map<number, Buffer>()
  for (const event of log.events) {
    const digest = event.digests.get(bank)
    if (!digest || !isExtending(event)) continue
    let register = registers.get(event.pcr)
    if (!register) {
      register = Buffer.alloc(2 * digestOctets)
      register.set(initialPcr(event.pcr, bank, locality))
      registers.set(event.pcr, register)
    }
    register.set(digest, digestOctets)
    register.write(hash(bank, register, 'binary'), 'binary')
  }
  return new Map(
    [...registers].map(([pcr, register]) => [
      pcr,
      new Uint8Array(register.subarray(0, digestOctets)),
    ]),
  )
}

/** A PCR as it is right after start-up. */
export function initialPcr(pcr: number, bank: HashName, locality: number): Uint8Array {
  const value = new Uint8Array(HASH_ALGORITHMS[bank].digestOctets)
  if (pcr >= FIRST_DYNAMIC_PCR && pcr <= LAST_DYNAMIC_PCR) return value.fill(0xff)
  if (pcr === 0) value[value.length - 1] = locality
  return value
}
