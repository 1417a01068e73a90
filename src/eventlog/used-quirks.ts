import type { HashName } from '../tpm/index.js'
import { coverageOf } from './coverage.js'
import { eventTypeName } from './event-types.js'
import { knownMeasurement } from './known-measurements.js'
import type { EventLog, EventLogQuirk } from './parse-event-log.js'
import { isExtending } from './replay.js'

/** What real firmware and boot loaders do other than the standard says; each that a log makes use of is named. */
export type BootQuirk =
  | EventLogQuirk
  /** No end of boot services: an application that was appended to PCR 4 is not told from one of the boot. */
  | 'no-exit-boot-services'
  /** An application in PCR 4 before any "Calling EFI Application from Boot Option". */
  | 'application-before-boot-option'
  /** Old shims log one octet more of an authority than they measure. */
  | 'octet-behind-authority'
  /** The text of the firmware's version is not what was measured. */
  | 'firmware-version-not-measured'

/** The quirks of a log, each once, in the order of their events. */
export function usedQuirks(log: EventLog, bank: HashName): readonly BootQuirk[] {
  const quirks = new Set<BootQuirk>(log.quirks)
  let booting = false
  let ended = false
  for (const event of log.events) {
    if (event.pcr > 7 || !isExtending(event)) continue
    const measured = knownMeasurement(event, bank)
    booting ||= measured === 'boot-option'
    ended ||= measured === 'exit-boot-services'
    switch (eventTypeName(event.type)) {
      case 'EV_EFI_BOOT_SERVICES_APPLICATION':
        if (event.pcr === 4 && !booting) quirks.add('application-before-boot-option')
        break
      case 'EV_EFI_VARIABLE_AUTHORITY':
        if (coverageOf(event, bank).kind === 'part') quirks.add('octet-behind-authority')
        break
      case 'EV_S_CRTM_VERSION':
        if (coverageOf(event, bank).kind !== 'data') quirks.add('firmware-version-not-measured')
        break
    }
  }
  if (!ended) quirks.add('no-exit-boot-services')
  return [...quirks]
}
