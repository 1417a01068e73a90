import { isPlatformError } from '../core/errors.js'
import type { HashName } from '../tpm/index.js'
import { isDataCovered } from './coverage.js'
import { type EfiVariable, parseVariable } from './efi-variable.js'
import { EVENT_TYPES } from './event-types.js'
import { GLOBAL_VARIABLE_GUID, IMAGE_SECURITY_GUID } from './guid.js'
import type { EventLog, LoggedEvent } from './parse-event-log.js'

const SECURE_BOOT_PCR = 7

/** The settings that the firmware measures, in the order in which it does. */
export const SECURE_BOOT_SETTINGS = ['SecureBoot', 'PK', 'KEK', 'db', 'dbx'] as const

export type SecureBootSetting = (typeof SECURE_BOOT_SETTINGS)[number]

const VENDORS: Readonly<Record<SecureBootSetting, string>> = {
  SecureBoot: GLOBAL_VARIABLE_GUID,
  PK: GLOBAL_VARIABLE_GUID,
  KEK: GLOBAL_VARIABLE_GUID,
  db: IMAGE_SECURITY_GUID,
  dbx: IMAGE_SECURITY_GUID,
}

/** One measurement of a setting, in front of the separator of PCR 7. */
export interface MeasuredSetting {
  readonly name: SecureBootSetting
  readonly event: LoggedEvent
  readonly value: Uint8Array
  /** Whether its digest proves name and value. */
  readonly covered: boolean
}

/**
 * The Secure Boot settings of a log, each as often as it is there, in their order.
 *
 * A variable of the same name and another vendor is no setting.
 *
 * @see TCG PC Client Platform Firmware Profile, clause 3.3.4.8 (PCR 7)
 */
export function secureBootSettings(log: EventLog, bank: HashName): readonly MeasuredSetting[] {
  const settings: MeasuredSetting[] = []
  for (const event of log.events) {
    if (event.pcr !== SECURE_BOOT_PCR) continue
    if (event.type === EVENT_TYPES.EV_SEPARATOR) break
    if (event.type !== EVENT_TYPES.EV_EFI_VARIABLE_DRIVER_CONFIG) continue
    const variable = readable(event)
    const name = SECURE_BOOT_SETTINGS.find((setting) => setting === variable?.name)
    if (!variable || !name || variable.guid !== VENDORS[name]) continue
    settings.push({ name, event, value: variable.value, covered: isDataCovered(event, bank) })
  }
  return settings
}

/** On, off, or unknown: not measured, not once, not proved, or with a value that is neither. */
export function secureBootState(settings: readonly MeasuredSetting[]): 'on' | 'off' | 'unknown' {
  const [setting, ...others] = settings.filter(({ name }) => name === 'SecureBoot')
  if (!setting?.covered || others.length > 0 || setting.value.length !== 1) return 'unknown'
  const [value] = setting.value
  return value === 1 ? 'on' : value === 0 ? 'off' : 'unknown'
}

function readable(event: LoggedEvent): EfiVariable | undefined {
  try {
    return parseVariable(event.data)
  } catch (error) {
    if (isPlatformError(error)) return undefined
    throw error
  }
}
