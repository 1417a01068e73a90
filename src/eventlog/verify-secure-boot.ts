import { type FailedFinding, type Finding, failed, passed } from '../core/finding.js'
import type { HashName } from '../tpm/index.js'
import { coverageOf } from './coverage.js'
import { EVENT_TYPES } from './event-types.js'
import type { EventLog } from './parse-event-log.js'
import {
  type MeasuredSetting,
  SECURE_BOOT_SETTINGS,
  secureBootSettings,
  secureBootState,
} from './secure-boot-settings.js'

const CHECK = 'event-log.secure-boot'
const SECURE_BOOT_PCR = 7

/**
 * Checks that the Secure Boot settings of PCR 7 do not contradict each other.
 *
 * Each of them is measured once, in the order of the standard, or none of them is: a machine without Secure Boot. Where it
 * is on there are a platform key, key exchange keys and a database, and an authority that allowed what was booted. Whether
 * it must be on is for the policy.
 *
 * @see TCG PC Client Platform Firmware Profile, clause 3.3.4.8 (PCR 7)
 */
export function verifySecureBoot(log: EventLog, bank: HashName): readonly Finding[] {
  const settings = secureBootSettings(log, bank)
  const state = secureBootState(settings)
  const wrong = [
    ...wrongOrder(settings),
    ...(state === 'on' ? contradictions(log, bank, settings) : []),
  ]
  return wrong.length > 0 ? wrong : [passed(CHECK, state)]
}

function wrongOrder(settings: readonly MeasuredSetting[]): readonly FailedFinding[] {
  if (settings.length === 0) return []
  const expected = SECURE_BOOT_SETTINGS.join(', ')
  const found = settings.map(({ name }) => name).join(', ')
  return found === expected ? [] : [refused(`${expected}, once each`, found)]
}

function contradictions(
  log: EventLog,
  bank: HashName,
  settings: readonly MeasuredSetting[],
): readonly FailedFinding[] {
  const empty = (['PK', 'KEK', 'db'] as const).filter(
    (name) => !settings.some((setting) => setting.name === name && setting.value.length > 0),
  )
  const hasAuthority = log.events.some(
    (event) =>
      event.pcr === SECURE_BOOT_PCR &&
      event.type === EVENT_TYPES.EV_EFI_VARIABLE_AUTHORITY &&
      ['data', 'part'].includes(coverageOf(event, bank).kind),
  )
  return [
    ...empty.map((name) => refused(`${name} where Secure Boot is on`, 'none')),
    ...(hasAuthority
      ? []
      : [refused('an authority that allowed what was booted, where Secure Boot is on', 'none')]),
  ]
}

function refused(expected: string, found: string): FailedFinding {
  return failed(CHECK, 'EVENTLOG_SECURE_BOOT', expected, found, { pcr: SECURE_BOOT_PCR })
}
