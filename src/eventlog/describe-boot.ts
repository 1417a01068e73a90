import type { HashName } from '../tpm/index.js'
import { decodeEvent, isDataCovered, isTextCovered } from './decode-event.js'
import { EVENT_TYPES } from './event-types.js'
import type { EventLog, LoggedEvent } from './parse-event-log.js'
import { latinText, printable } from './printable.js'
import { isExtending } from './replay.js'

/** An EFI application that was started, in order. */
export interface BootApplication {
  /** Index of its event. */
  readonly event: number
  /** File name as the log says: `grubx64.efi`. Described by the host; the digest is what was measured. */
  readonly name: string
  readonly path: string
  readonly digests: ReadonlyMap<HashName, Uint8Array>
}

/** What was booted, as far as the log tells. */
export interface BootSummary {
  /** From the measured variable, where its digest covers it; `unknown` otherwise. */
  readonly secureBoot: 'on' | 'off' | 'unknown'
  readonly firmwareVersion?: string
  readonly bootApplications: readonly BootApplication[]
  /** Kernel file as GRUB loaded it, or the unified kernel image. */
  readonly kernel?: string
  /** Command line of the kernel: of GRUB where the log proves it, of a unified kernel image as described. */
  readonly commandLine?: string
}

const GLOBAL_VARIABLE = '8be4df61-93ca-11d2-aa0d-00e098032b8c'
const GRUB_PCR = 8
const KERNEL_COMMAND_LINE = 'kernel_cmdline: '
/** What GRUB puts before the text that it measures. */
const GRUB_PREFIXES = ['grub_cmd: ', KERNEL_COMMAND_LINE, 'module_cmdline: ']
/** Section of a unified kernel image that systemd's stub measures. */
const UNIFIED_KERNEL_SECTION = '.linux'

/** Describes a boot from its log. Everything that is not covered by a digest is the host's word. */
export function describeBoot(log: EventLog, bank: HashName): BootSummary {
  const firmwareVersion = firmwareVersionOf(log, bank)
  const bootApplications = bootApplicationsOf(log)
  const commandLine = commandLineOf(log, bank)
  const kernel = kernelOf(log, commandLine, bootApplications)
  return {
    secureBoot: secureBootOf(log, bank),
    bootApplications,
    ...(firmwareVersion === undefined ? {} : { firmwareVersion }),
    ...(kernel === undefined ? {} : { kernel }),
    ...(commandLine === undefined ? {} : { commandLine: commandLine.text }),
  }
}

/** @see TCG PC Client Platform Firmware Profile, clause 3.3.4.8 (PCR 7) */
function secureBootOf(log: EventLog, bank: HashName): BootSummary['secureBoot'] {
  const states: BootSummary['secureBoot'][] = []
  for (const event of log.events) {
    if (event.pcr !== 7) continue
    if (event.type === EVENT_TYPES.EV_SEPARATOR) break
    if (event.type !== EVENT_TYPES.EV_EFI_VARIABLE_DRIVER_CONFIG) continue
    const content = decodeEvent(event)
    if (content.kind !== 'variable' || content.name !== 'SecureBoot') continue
    if (content.guid !== GLOBAL_VARIABLE || !isDataCovered(event, bank)) return 'unknown'
    const [value] = content.value
    states.push(
      content.value.length !== 1 ? 'unknown' : value === 1 ? 'on' : value === 0 ? 'off' : 'unknown',
    )
  }
  return states.length === 1 ? (states[0] ?? 'unknown') : 'unknown'
}

function firmwareVersionOf(log: EventLog, bank: HashName): string | undefined {
  const event = log.events.find(({ type }) => type === EVENT_TYPES.EV_S_CRTM_VERSION)
  const content = event && isDataCovered(event, bank) ? decodeEvent(event) : undefined
  return content?.kind === 'text' && content.text !== '' ? content.text : undefined
}

function bootApplicationsOf(log: EventLog): readonly BootApplication[] {
  return log.events
    .filter(({ pcr, type }) => pcr === 4 && type === EVENT_TYPES.EV_EFI_BOOT_SERVICES_APPLICATION)
    .map((event) => {
      const content = decodeEvent(event)
      const path = content.kind === 'image' ? content.devicePath : ''
      const name = (content.kind === 'image' && content.fileName) || unnamed(path)
      return { event: event.index, name, path, digests: event.digests }
    })
}

/** GRUB and systemd's stub start the kernel from memory: there is no path, or one that names the stub. */
function unnamed(path: string): string {
  return path === '' ? '(from memory)' : '(from the image before)'
}

interface CommandLine {
  readonly text: string
  readonly by: 'grub' | 'stub'
}

function commandLineOf(log: EventLog, bank: HashName): CommandLine | undefined {
  const grub = log.events.filter((event) => event.pcr === GRUB_PCR && isExtending(event))
  if (grub.length > 0) return grubCommandLine(grub, bank)
  const stub = log.events.findLast(
    (event) =>
      (event.pcr === 12 || event.pcr === 11) &&
      event.type === EVENT_TYPES.EV_IPL &&
      textOf(event).includes('='),
  )
  return stub ? { text: textOf(stub), by: 'stub' } : undefined
}

/**
 * The one command line that GRUB measured, or nothing where it is not the only one or any event of GRUB's PCR is not
 * what was measured: a running system may append a command line, and alter the text of the real one.
 */
function grubCommandLine(events: readonly LoggedEvent[], bank: HashName): CommandLine | undefined {
  const isCovered = (event: LoggedEvent) =>
    GRUB_PREFIXES.some((prefix) => isTextCovered(event, bank, prefix))
  if (!events.every(isCovered)) return undefined
  const texts = events
    .map(({ data }) => latinText(data))
    .filter((text) => text.startsWith(KERNEL_COMMAND_LINE))
  const [text] = texts
  return text !== undefined && texts.length === 1
    ? { text: printable(text.slice(KERNEL_COMMAND_LINE.length)), by: 'grub' }
    : undefined
}

function kernelOf(
  log: EventLog,
  commandLine: CommandLine | undefined,
  applications: readonly BootApplication[],
): string | undefined {
  if (commandLine?.by === 'grub') return commandLine.text.split(' ')[0]
  const hasKernelSection = log.events.some(
    (event) => event.pcr === 11 && textOf(event) === UNIFIED_KERNEL_SECTION,
  )
  const image = applications.findLast(({ path }) => path.includes('\\'))
  return hasKernelSection && image ? `unified kernel image ${image.name}` : undefined
}

function textOf(event: LoggedEvent): string {
  const content = decodeEvent(event)
  return content.kind === 'text' ? content.text : ''
}
