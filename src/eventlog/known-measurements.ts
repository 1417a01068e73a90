import { createHash } from 'node:crypto'
import { toHex, utf8 } from '../core/bytes.js'
import type { HashName } from '../tpm/index.js'
import type { LoggedEvent } from './parse-event-log.js'

/** Measurements that are the same on every machine, known by their digest alone, whatever an event is called. */
export type KnownMeasurement =
  | 'separator'
  | 'boot-option'
  | 'application-returned'
  | 'exit-boot-services'
  | 'debug-mode'

/** @see TCG PC Client Platform Firmware Profile, clause 10.4.4 (EV_EFI_ACTION strings) */
const ACTIONS: readonly (readonly [text: string, KnownMeasurement])[] = [
  ['Calling EFI Application from Boot Option', 'boot-option'],
  ['Returning from EFI Application from Boot Option', 'application-returned'],
  ['Exit Boot Services Invocation', 'exit-boot-services'],
  ['Exit Boot Services Returned with Success', 'exit-boot-services'],
  ['Exit Boot Services Returned with Failure', 'exit-boot-services'],
  ['UEFI Debug Mode', 'debug-mode'],
]

interface Known {
  readonly digest: string
  readonly measurement: KnownMeasurement
}

/** By bank, and there by the first octets of the digest: hardly any other event shares them. */
const byBank = new Map<HashName, ReadonlyMap<number, Known>>()

/** What an event measured, told by its digest: a type or data that a host made up change nothing about it. */
export function knownMeasurement(event: LoggedEvent, bank: HashName): KnownMeasurement | undefined {
  const digest = event.digests.get(bank)
  const known = digest && measurementsOf(bank).get(startOf(digest))
  return known?.digest === (known && toHex(digest)) ? known?.measurement : undefined
}

function measurementsOf(bank: HashName): ReadonlyMap<number, Known> {
  const known = byBank.get(bank)
  if (known) return known
  const entry = (octets: Uint8Array, measurement: KnownMeasurement) => {
    const digest = createHash(bank).update(octets).digest()
    return [startOf(digest), { digest: toHex(digest), measurement }] as const
  }
  const measurements = new Map<number, Known>([
    entry(new Uint8Array(4), 'separator'),
    entry(new Uint8Array(4).fill(0xff), 'separator'),
    // Some firmware measures the zero that ends the text too.
    ...ACTIONS.flatMap(([text, name]) =>
      [text, `${text}\0`].map((form) => entry(utf8(form), name)),
    ),
  ])
  byBank.set(bank, measurements)
  return measurements
}

/** The first four octets as a number. */
function startOf([a = 0, b = 0, c = 0, d = 0]: Uint8Array): number {
  return (a << 24) | (b << 16) | (c << 8) | d
}
