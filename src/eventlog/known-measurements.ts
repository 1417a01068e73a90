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

const byBank = new Map<HashName, ReadonlyMap<string, KnownMeasurement>>()

/** What an event measured, told by its digest: a type or data that a host made up change nothing about it. */
export function knownMeasurement(event: LoggedEvent, bank: HashName): KnownMeasurement | undefined {
  const known = byDigest.get(event)
  if (known?.bank === bank) return known.measurement
  const digest = event.digests.get(bank)
  const measurement = digest && measurementsOf(bank).get(toHex(digest))
  byDigest.set(event, { bank, measurement })
  return measurement
}

/** Every check asks for the same events, in one bank as a rule. */
const byDigest = new WeakMap<
  LoggedEvent,
  { readonly bank: HashName; readonly measurement: KnownMeasurement | undefined }
>()

function measurementsOf(bank: HashName): ReadonlyMap<string, KnownMeasurement> {
  const known = byBank.get(bank)
  if (known) return known
  const hash = (octets: Uint8Array) => createHash(bank).update(octets).digest('hex')
  const measurements = new Map<string, KnownMeasurement>([
    [hash(new Uint8Array(4)), 'separator'],
    [hash(new Uint8Array(4).fill(0xff)), 'separator'],
    // Some firmware measures the zero that ends the text too.
    ...ACTIONS.flatMap(([text, name]) =>
      [text, `${text}\0`].map((form) => [hash(utf8(form)), name] as const),
    ),
  ])
  byBank.set(bank, measurements)
  return measurements
}
