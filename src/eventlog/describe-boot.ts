import { hash } from 'node:crypto'
import { isPlatformError } from '../core/errors.js'
import type { HashName } from '../tpm/index.js'
import { coverageOf, isDataCovered } from './coverage.js'
import { decodeEvent } from './decode-event.js'
import { EVENT_TYPES, eventTypeName } from './event-types.js'
import { knownMeasurement } from './known-measurements.js'
import { loaderSource, readLoaderEvent } from './loader-event.js'
import type { EventLog, LoggedEvent } from './parse-event-log.js'
import { latinText, printable } from './printable.js'
import { isExtending } from './replay.js'
import {
  type MeasuredSetting,
  secureBootSettings,
  secureBootState,
} from './secure-boot-settings.js'
import { imageHashesOf, parseSignatureLists } from './signature-list.js'

/** An EFI application that was started, in order. */
export interface BootApplication {
  /** Index of its event. */
  readonly event: number
  /** File name as the log says: `grubx64.efi`. Described by the host; the digest is what was measured. */
  readonly name: string
  readonly path: string
  readonly digests: ReadonlyMap<HashName, Uint8Array>
}

/** What Secure Boot forbids, as it was measured. */
export interface RevocationList {
  /** Whether the digest of the event proves the list; where it does not, the list is empty here. */
  readonly covered: boolean
  /** SHA-256 of the list, to tell one from another. */
  readonly sha256: string
  /** SHA-256 hashes of images in it, as lower-case hexadecimal text. */
  readonly hashes: readonly string[]
}

/** What a summary holds besides, for those who need it. */
export interface BootQuestions {
  /** The forbidden hashes: some hundred, where a policy asks for some of them. */
  readonly dbx: boolean
}

/** Microcode that the firmware loaded. The text is the host's word; the digest is what was measured. */
export interface MicrocodeMeasurement {
  readonly event: number
  readonly text: string
  readonly digests: ReadonlyMap<HashName, Uint8Array>
}

/** What was booted, as far as the log tells. */
export interface BootSummary {
  /** From the measured variable, where its digest covers it; `unknown` otherwise. */
  readonly secureBoot: 'on' | 'off' | 'unknown'
  /** Whether the firmware said that it ran in debug mode. */
  readonly debug: boolean
  readonly firmwareVersion?: string
  /** Nothing where the list was not measured, or not once, or not asked for. */
  readonly dbx?: RevocationList
  readonly microcode?: readonly MicrocodeMeasurement[]
  readonly bootApplications: readonly BootApplication[]
  /** Kernel file as GRUB loaded it, or the unified kernel image. */
  readonly kernel?: string
  /** Command line of the kernel, of GRUB or of systemd's stub, where the log proves it and that it is the only one. */
  readonly commandLine?: string
}

const FIRMWARE_PCR = 0
const BOOT_LOADER_PCR = 4
const GRUB_PCR = 8
const SECTIONS_PCR = 11
const STUB_PCR = 12
const KERNEL_COMMAND_LINE = 'kernel_cmdline: '
/** What GRUB measures of the command that loads a kernel, behind any prefix. */
const LOAD_COMMAND = /^(?:[a-z_]+:? )?linux(?:16|efi)? +(.*)$/s
/** GRUB quotes arguments with spaces in the command line, and not in the command. */
const QUOTES = /["'\\]/g
/** Section of a unified kernel image that systemd's stub measures. */
const UNIFIED_KERNEL_SECTION = '.linux'

/** Describes a boot from its log. Everything that is not covered by a digest is the host's word. */
export function describeBoot(
  log: EventLog,
  bank: HashName,
  questions: BootQuestions = { dbx: true },
): BootSummary {
  const settings = secureBootSettings(log, bank)
  const firmwareVersion = firmwareVersionOf(log, bank)
  const dbx = questions.dbx ? revocationsOf(settings) : undefined
  const microcode = microcodeOf(log)
  const bootApplications = bootApplicationsOf(log, bank)
  const commandLine = commandLineOf(log, bank)
  const kernel = kernelOf(log, commandLine, bootApplications)
  return {
    secureBoot: secureBootState(settings),
    debug: log.events.some((event) => knownMeasurement(event, bank) === 'debug-mode'),
    bootApplications,
    ...(firmwareVersion === undefined ? {} : { firmwareVersion }),
    ...(dbx ? { dbx } : {}),
    ...(microcode.length > 0 ? { microcode } : {}),
    ...(kernel === undefined ? {} : { kernel }),
    ...(commandLine === undefined ? {} : { commandLine: commandLine.text }),
  }
}

/** The one version in front of the separator of PCR 0: a running system can only put another behind it. */
function firmwareVersionOf(log: EventLog, bank: HashName): string | undefined {
  const versions: LoggedEvent[] = []
  for (const event of log.events) {
    if (event.pcr !== FIRMWARE_PCR) continue
    if (knownMeasurement(event, bank) === 'separator' && event.type === EVENT_TYPES.EV_SEPARATOR)
      break
    if (event.type === EVENT_TYPES.EV_S_CRTM_VERSION) versions.push(event)
  }
  const [event, ...others] = versions
  if (!event || others.length > 0 || !isDataCovered(event, bank)) return undefined
  const content = decodeEvent(event)
  return content.kind === 'text' && content.text !== '' ? content.text : undefined
}

function revocationsOf(settings: readonly MeasuredSetting[]): RevocationList | undefined {
  const [dbx, ...others] = settings.filter(({ name }) => name === 'dbx')
  if (!dbx || others.length > 0) return undefined
  const sha256 = hash('sha256', dbx.value)
  try {
    const hashes = dbx.covered ? imageHashesOf(parseSignatureLists(dbx.value)) : []
    return { covered: dbx.covered, sha256, hashes }
  } catch (error) {
    if (isPlatformError(error)) return { covered: dbx.covered, sha256, hashes: [] }
    throw error
  }
}

function microcodeOf(log: EventLog): readonly MicrocodeMeasurement[] {
  return log.events
    .filter(({ pcr, type }) => pcr <= 1 && type === EVENT_TYPES.EV_CPU_MICROCODE)
    .map((event) => {
      const content = decodeEvent(event)
      const text =
        content.kind === 'text'
          ? content.text
          : content.kind === 'microcode'
            ? `revision 0x${content.update.revision.toString(16)} of ${content.update.date}`
            : ''
      return { event: event.index, text, digests: event.digests }
    })
}

/**
 * Whatever was measured into PCR 4 and is no separator and no action, by digest: an application is not hidden by calling it
 * something else.
 */
function bootApplicationsOf(log: EventLog, bank: HashName): readonly BootApplication[] {
  return log.events
    .filter((event) => event.pcr === BOOT_LOADER_PCR && isExtending(event))
    .filter((event) => !knownMeasurement(event, bank) && !isMeasuredAction(event, bank))
    .map((event) => {
      const content = decodeEvent(event)
      if (content.kind !== 'image') {
        const name = eventTypeName(event.type) ?? `type 0x${event.type.toString(16)}`
        return { event: event.index, name: `(${name})`, path: '', digests: event.digests }
      }
      const { devicePath: path, fileName } = content
      return { event: event.index, name: fileName ?? unnamed(path), path, digests: event.digests }
    })
}

function isMeasuredAction(event: LoggedEvent, bank: HashName): boolean {
  const isAction = event.type === EVENT_TYPES.EV_EFI_ACTION || event.type === EVENT_TYPES.EV_ACTION
  return isAction && isDataCovered(event, bank)
}

/** GRUB and systemd's stub start the kernel from memory: there is no path, or one that names the stub. */
function unnamed(path: string): string {
  return path === '' ? '(from memory)' : '(from the image before)'
}

interface CommandLine {
  readonly text: string
  readonly by: 'grub' | 'stub'
}

/**
 * The one command line that was measured, or nothing where it is not the only one or any event of its PCR is not what was
 * measured: a running system may append a command line, and alter the text of the real one.
 */
function commandLineOf(log: EventLog, bank: HashName): CommandLine | undefined {
  const grub = log.events.filter((event) => event.pcr === GRUB_PCR && isExtending(event))
  if (grub.length > 0) return grubCommandLine(grub, bank)
  const stub = log.events.filter((event) => event.pcr === STUB_PCR && isExtending(event))
  return stub.length > 0 ? stubCommandLine(stub, bank) : undefined
}

/**
 * Prefixes are not measured either: a command line that was appended, with the real one renamed to a command, is told by the
 * command that loaded the kernel. Its text is measured, and cannot be made to say something else.
 */
function grubCommandLine(events: readonly LoggedEvent[], bank: HashName): CommandLine | undefined {
  // The type of an event is not measured: the text alone tells what it is of.
  const asLoader = events.map(asLoaderEvent)
  const texts = events.map(({ data }) => latinText(data))
  if (!asLoader.every((event, index) => isGrubText(event, texts[index], bank))) return undefined
  const [line, ...others] = texts.filter((text) => text.startsWith(KERNEL_COMMAND_LINE))
  if (line === undefined || others.length > 0) return undefined
  const text = line.slice(KERNEL_COMMAND_LINE.length)
  const loaded = texts.flatMap((command) => LOAD_COMMAND.exec(command)?.[1] ?? [])
  const bare = (arguments_: string) => arguments_.replace(QUOTES, '').trim()
  const agrees = loaded.length > 0 && loaded.every((command) => bare(command) === bare(text))
  return agrees ? { text: printable(text), by: 'grub' } : undefined
}

function asLoaderEvent(event: LoggedEvent): LoggedEvent {
  const type = EVENT_TYPES.EV_IPL
  return event.type === type ? event : { ...event, type }
}

function isGrubText(event: LoggedEvent, text: string | undefined, bank: HashName): boolean {
  const { by, what } = loaderSource(event.data, text)
  return by === 'grub' && what !== 'file' && coverageOf(event, bank).kind === 'part'
}

/** systemd-boot and the stub that it starts measure the same line each. */
function stubCommandLine(events: readonly LoggedEvent[], bank: HashName): CommandLine | undefined {
  const texts = new Set<string>()
  for (const event of events) {
    const { by, what, text } = readLoaderEvent(event.data)
    const isLine = by === 'systemd' && what === 'kernel-command-line'
    const { kind } = coverageOf(asLoaderEvent(event), bank)
    if (!isLine || (kind !== 'data' && kind !== 'part')) return undefined
    texts.add(text)
  }
  const [text] = texts
  return text !== undefined && texts.size === 1 ? { text, by: 'stub' } : undefined
}

function kernelOf(
  log: EventLog,
  commandLine: CommandLine | undefined,
  applications: readonly BootApplication[],
): string | undefined {
  if (commandLine?.by === 'grub') return commandLine.text.split(' ')[0]
  const hasKernelSection = log.events.some(
    (event) =>
      event.pcr === SECTIONS_PCR && readLoaderEvent(event.data).text === UNIFIED_KERNEL_SECTION,
  )
  const image = applications.findLast(({ path }) => path.includes('\\'))
  return hasKernelSection && image ? `unified kernel image ${image.name}` : undefined
}
