import { hash } from 'node:crypto'
import { isPlatformError } from '../core/errors.js'
import type { HashName } from '../tpm/index.js'
import { parseVariable } from './efi-variable.js'
import { type EventTypeName, eventTypeName } from './event-types.js'
import { type MeasuredPart, measuredParts } from './loader-event.js'
import type { LoggedEvent } from './parse-event-log.js'
import { parseTaggedEvent } from './tagged-event.js'

/**
 * How far the digest of an event proves its data.
 *
 * - `data`: the digest is that of the data, whole
 * - `part`: it is that of a part of them, which `part` names
 * - `described`: it is of something else, which the data describe: an image, firmware, a file
 * - `none`: the event extends nothing
 * - `mismatch`: the standard says that it is of the data, and it is not
 */
export interface Coverage {
  readonly kind: 'data' | 'part' | 'described' | 'none' | 'mismatch'
  readonly part?: string
  /** Where the rule is written. */
  readonly rule: string
}

type Rule =
  /** The digest is that of the data. */
  | 'data'
  /** It is of the data; old shims logged one octet more. */
  | 'authority'
  /** It is of the value of the variable, of the data on some firmware. */
  | 'value'
  /** It is of what the boot loader says. */
  | 'loader'
  /** It is of the data, or of what a tag describes. */
  | 'tag'
  /** It is of the data, or of something else: the standard leaves it open. */
  | 'open'
  /** It is of something else. */
  | 'described'
  | 'none'

const PROFILE = 'TCG PC Client Platform Firmware Profile, clause'

/** @see TCG PC Client Platform Firmware Profile, clause 10.4.1, table of event types */
const RULES: Readonly<Record<EventTypeName, Rule>> = {
  EV_PREBOOT_CERT: 'open',
  EV_POST_CODE: 'open',
  EV_NO_ACTION: 'none',
  EV_SEPARATOR: 'data',
  EV_ACTION: 'data',
  EV_EVENT_TAG: 'tag',
  EV_S_CRTM_CONTENTS: 'open',
  EV_S_CRTM_VERSION: 'data',
  EV_CPU_MICROCODE: 'open',
  EV_PLATFORM_CONFIG_FLAGS: 'open',
  EV_TABLE_OF_DEVICES: 'open',
  EV_COMPACT_HASH: 'open',
  EV_IPL: 'loader',
  EV_IPL_PARTITION_DATA: 'open',
  EV_NONHOST_CODE: 'open',
  EV_NONHOST_CONFIG: 'open',
  EV_NONHOST_INFO: 'open',
  EV_OMIT_BOOT_DEVICE_EVENTS: 'data',
  EV_POST_CODE2: 'described',
  EV_EFI_VARIABLE_DRIVER_CONFIG: 'data',
  EV_EFI_VARIABLE_BOOT: 'value',
  EV_EFI_BOOT_SERVICES_APPLICATION: 'described',
  EV_EFI_BOOT_SERVICES_DRIVER: 'described',
  EV_EFI_RUNTIME_SERVICES_DRIVER: 'described',
  EV_EFI_GPT_EVENT: 'data',
  EV_EFI_ACTION: 'data',
  EV_EFI_PLATFORM_FIRMWARE_BLOB: 'described',
  EV_EFI_HANDOFF_TABLES: 'described',
  EV_EFI_PLATFORM_FIRMWARE_BLOB2: 'described',
  EV_EFI_HANDOFF_TABLES2: 'described',
  EV_EFI_VARIABLE_BOOT2: 'data',
  EV_EFI_GPT_EVENT2: 'open',
  EV_EFI_HCRTM_EVENT: 'described',
  EV_EFI_VARIABLE_AUTHORITY: 'authority',
  EV_EFI_SPDM_FIRMWARE_BLOB: 'open',
  EV_EFI_SPDM_FIRMWARE_CONFIG: 'open',
  EV_EFI_SPDM_DEVICE_POLICY: 'data',
  EV_EFI_SPDM_DEVICE_AUTHORITY: 'data',
}

const SOURCES: Readonly<Record<Rule, string>> = {
  data: `${PROFILE} 10.4.1`,
  authority: `${PROFILE} 10.4.1; shim, README.tpm`,
  value: `${PROFILE} 10.4.1`,
  loader:
    'GNU GRUB manual, "Measuring boot components"; systemd, "TPM2 PCR Measurements"; shim, README.tpm',
  tag: `${PROFILE} 10.4.2; systemd, "TPM2 PCR Measurements"`,
  open: `${PROFILE} 10.4.1`,
  described: `${PROFILE} 10.4.1`,
  none: `${PROFILE} 10.4.5`,
}

/** Nothing of the data was hashed. */
const UNHASHED = {
  none: { kind: 'none', rule: SOURCES.none },
  described: { kind: 'described', rule: SOURCES.described },
} as const satisfies Readonly<Record<string, Coverage>>

type HashedRule = Exclude<Rule, keyof typeof UNHASHED>

/** Tells how far the digest of one bank proves the data of an event. The type is the host's word. */
export function coverageOf(event: LoggedEvent, bank: HashName): Coverage {
  const name = eventTypeName(event.type)
  const rule = name ? RULES[name] : 'described'
  if (rule === 'none' || rule === 'described') return UNHASHED[rule]
  if (event.data.length < KEPT_FROM_OCTETS) return computeCoverage(event, bank, rule)
  const known = coverages[bank].get(event)
  if (known) return known
  const coverage = computeCoverage(event, bank, rule)
  coverages[bank].set(event, coverage)
  return coverage
}

/** Few data are hashed again in less time than their answer is looked up. */
const KEPT_FROM_OCTETS = 512

/** Several checks ask for the same event, and each answer costs a digest. */
const coverages: Readonly<Record<HashName, WeakMap<LoggedEvent, Coverage>>> = {
  sha1: new WeakMap(),
  sha256: new WeakMap(),
  sha384: new WeakMap(),
  sha512: new WeakMap(),
}

function computeCoverage(event: LoggedEvent, bank: HashName, rule: HashedRule): Coverage {
  const source = SOURCES[rule]
  const digest = event.digests.get(bank)
  const isOf = (octets: Uint8Array): boolean =>
    digest !== undefined && isText(digest, hash(bank, octets, 'binary'))
  // Boot loaders measure a part as a rule, others the whole.
  const isOfData = () => isOf(event.data)
  if (rule !== 'loader' && isOfData()) return { kind: 'data', rule: source }
  for (const { part, octets } of partsOf(rule, event.data)) {
    if (isOf(octets)) return { kind: 'part', part, rule: source }
  }
  if (rule === 'loader' && isOfData()) return { kind: 'data', rule: source }
  const isOpen = rule === 'open' || rule === 'loader' || rule === 'tag'
  return { kind: isOpen ? 'described' : 'mismatch', rule: source }
}

/** Whether octets are those of a text of one character each: compared without a Buffer for a digest. */
function isText(octets: Uint8Array, binary: string): boolean {
  if (octets.length !== binary.length) return false
  for (let index = 0; index < octets.length; index += 1) {
    if (octets[index] !== binary.charCodeAt(index)) return false
  }
  return true
}

/** Whether the digest of an event proves its data, whole: for types whose digest may be of the data, and is. */
export function isDataCovered(event: LoggedEvent, bank: HashName): boolean {
  return coverageOf(event, bank).kind === 'data'
}

function partsOf(rule: HashedRule, data: Uint8Array): Iterable<MeasuredPart> {
  switch (rule) {
    case 'loader':
      return measuredParts(data)
    case 'authority':
      return [{ part: 'all but the last octet', octets: data.subarray(0, -1) }]
    case 'value':
      return readable(() => ({
        part: 'the value of the variable',
        octets: parseVariable(data).value,
      }))
    case 'tag':
      return readable(() => ({ part: 'the data of the tag', octets: parseTaggedEvent(data).data }))
    case 'data':
    case 'open':
      return []
  }
}

function readable(read: () => MeasuredPart): readonly MeasuredPart[] {
  try {
    return [read()]
  } catch (error) {
    if (isPlatformError(error)) return []
    throw error
  }
}
