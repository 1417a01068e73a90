import type { EventTypeName } from './event-types.js'

const ACTIONS = ['EV_EFI_ACTION', 'EV_ACTION'] as const
const FIRMWARE = [
  ...(['EV_POST_CODE', 'EV_POST_CODE2', 'EV_S_CRTM_CONTENTS', 'EV_S_CRTM_VERSION'] as const),
  ...(['EV_CPU_MICROCODE', 'EV_NONHOST_CODE', 'EV_NONHOST_INFO', 'EV_EFI_HCRTM_EVENT'] as const),
  ...(['EV_EFI_PLATFORM_FIRMWARE_BLOB', 'EV_EFI_PLATFORM_FIRMWARE_BLOB2'] as const),
  ...(['EV_EFI_SPDM_FIRMWARE_BLOB', 'EV_EFI_SPDM_FIRMWARE_CONFIG', 'EV_EVENT_TAG'] as const),
] as const
const TABLES = ['EV_EFI_HANDOFF_TABLES', 'EV_EFI_HANDOFF_TABLES2'] as const
const DRIVERS = ['EV_EFI_BOOT_SERVICES_DRIVER', 'EV_EFI_RUNTIME_SERVICES_DRIVER'] as const
const BOOT_VARIABLES = ['EV_EFI_VARIABLE_BOOT', 'EV_EFI_VARIABLE_BOOT2'] as const
const SETTINGS = [
  ...(['EV_CPU_MICROCODE', 'EV_PLATFORM_CONFIG_FLAGS', 'EV_TABLE_OF_DEVICES'] as const),
  ...(['EV_NONHOST_CONFIG', 'EV_EFI_VARIABLE_DRIVER_CONFIG', 'EV_EVENT_TAG'] as const),
  ...(['EV_EFI_SPDM_FIRMWARE_CONFIG', 'EV_OMIT_BOOT_DEVICE_EVENTS', 'EV_POST_CODE'] as const),
  ...TABLES,
  ...BOOT_VARIABLES,
  ...ACTIONS,
] as const
const PARTITIONS = ['EV_EFI_GPT_EVENT', 'EV_EFI_GPT_EVENT2'] as const
const LEGACY_BOOT = ['EV_IPL', 'EV_COMPACT_HASH'] as const

interface Places {
  /** Types that the firmware measures before it hands over to what it boots. */
  readonly before: ReadonlySet<EventTypeName>
  /** Types that come behind the separator, while boot services last. */
  readonly after: ReadonlySet<EventTypeName>
}

const places = (before: readonly EventTypeName[], after: readonly EventTypeName[]): Places => ({
  before: new Set([...before, ...after, 'EV_SEPARATOR']),
  after: new Set([...after, 'EV_SEPARATOR']),
})

/**
 * Types that have a place in each PCR of the firmware, by index, and where.
 *
 * PCR 7 and PCR 4 are strict: a type that the standard does not have there could hide an authority or a boot application
 * under another name.
 *
 * @see TCG PC Client Platform Firmware Profile, clause 3.3.4 (PCR usage)
 * @see systemd, TPM2 PCR Measurements Made by systemd (EV_EVENT_TAG in PCR 1 and 5)
 */
export const EVENT_PLACES: readonly Places[] = [
  places([...FIRMWARE, ...TABLES, ...ACTIONS], []),
  places(
    [...SETTINGS, 'EV_IPL'],
    [...TABLES, ...BOOT_VARIABLES, ...(['EV_PLATFORM_CONFIG_FLAGS', 'EV_EVENT_TAG'] as const)],
  ),
  places([...FIRMWARE, ...ACTIONS, 'EV_EFI_BOOT_SERVICES_APPLICATION'], DRIVERS),
  places([...SETTINGS, ...FIRMWARE], []),
  places(DRIVERS, [...ACTIONS, ...LEGACY_BOOT, 'EV_EFI_BOOT_SERVICES_APPLICATION']),
  places(
    [...BOOT_VARIABLES, 'EV_EFI_VARIABLE_DRIVER_CONFIG', 'EV_EFI_HANDOFF_TABLES'],
    [...PARTITIONS, ...ACTIONS, 'EV_IPL', 'EV_IPL_PARTITION_DATA', 'EV_EVENT_TAG'],
  ),
  places([...ACTIONS, ...BOOT_VARIABLES, 'EV_COMPACT_HASH', 'EV_NONHOST_INFO', 'EV_EVENT_TAG'], []),
  places(
    [...ACTIONS, 'EV_EFI_VARIABLE_DRIVER_CONFIG', 'EV_EFI_SPDM_DEVICE_POLICY'],
    ['EV_EFI_VARIABLE_AUTHORITY', 'EV_EFI_SPDM_DEVICE_AUTHORITY'],
  ),
]
