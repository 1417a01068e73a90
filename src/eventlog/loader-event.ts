import { concat, utf8 } from '../core/bytes.js'
import { printable } from './printable.js'
import { isWide, loaderText } from './tagged-event.js'

/** What a boot loader measured, by the text that it logged (EV_IPL). */
export interface LoaderEvent {
  readonly by: 'grub' | 'shim' | 'systemd' | 'unknown'
  readonly what:
    | 'command'
    | 'kernel-command-line'
    | 'module-command-line'
    | 'file'
    | 'variable'
    | 'section'
    | 'initrd'
    | 'text'
  /** The text as it is logged, with its prefix. */
  readonly text: string
}

/** What GRUB puts before the text that it measures; older builds of distributions wrote the second ones. */
const GRUB_PREFIXES: readonly (readonly [prefix: string, what: LoaderEvent['what']])[] = [
  ['grub_cmd: ', 'command'],
  ['kernel_cmdline: ', 'kernel-command-line'],
  ['module_cmdline: ', 'module-command-line'],
  ['grub_cmd ', 'command'],
  ['grub_kernel_cmdline ', 'kernel-command-line'],
  ['grub_module_cmdline ', 'module-command-line'],
  ['grub_linuxefi ', 'file'],
]

const SHIM_VARIABLE = /^(?:Mok|Sbat|SBAT)[A-Za-z]*$/
const SECTION = /^\.[a-z0-9]{1,16}$/
/** Archives that systemd's stub makes, by the description that it logs. */
const SYSTEMD_INITRD = /^(?:[A-Z][a-z ]*)(?:initrd|cpio)$/

/** Tells what an EV_IPL event is of. All of it is the host's word: see `coverageOf`. */
export function readLoaderEvent(data: Uint8Array): LoaderEvent {
  const text = loaderText(data)
  return { ...loaderSource(data, text), text: printable(text) }
}

/** Who wrote an EV_IPL event, and of what: as its text says. */
export function loaderSource(data: Uint8Array, text = loaderText(data)): Omit<LoaderEvent, 'text'> {
  if (isWide(data)) {
    if (SECTION.test(text)) return { by: 'systemd', what: 'section' }
    const what = SYSTEMD_INITRD.test(text) ? 'initrd' : 'kernel-command-line'
    return { by: 'systemd', what }
  }
  const grub = GRUB_PREFIXES.find(([prefix]) => text.startsWith(prefix))
  if (grub) return { by: 'grub', what: grub[1] }
  if (SHIM_VARIABLE.test(text)) return { by: 'shim', what: 'variable' }
  return text.startsWith('/') || text.startsWith('(')
    ? { by: 'grub', what: 'file' }
    : { by: 'unknown', what: 'text' }
}

/** A part of the data, or another form of it, that a boot loader measures in place of them. */
export interface MeasuredPart {
  readonly part: string
  readonly octets: Uint8Array
}

/**
 * What of an EV_IPL event may have been hashed, most likely first.
 *
 * GRUB hashes the text behind its prefix, older builds with the zero that ends it. systemd's stub hashes names of sections
 * in ASCII with a zero, and command lines without one; systemd-boot before version 251 one zero octet too many.
 *
 * @see GNU GRUB manual, "Measuring boot components"
 * @see systemd, TPM2 PCR Measurements Made by systemd
 */
export function* measuredParts(data: Uint8Array): Generator<MeasuredPart> {
  const text = loaderText(data)
  const { by, what } = loaderSource(data, text)
  if (by === 'grub' && what !== 'file') {
    const prefix = GRUB_PREFIXES.find(([start]) => text.startsWith(start))?.[0] ?? ''
    const measured = text.slice(prefix.length)
    const part = `the text behind "${prefix}"`
    yield { part, octets: Buffer.from(measured, 'latin1') }
    yield { part, octets: Buffer.from(`${measured}\0`, 'latin1') }
  } else if (what === 'section') {
    yield { part: 'the name of the section', octets: utf8(`${text}\0`) }
  } else if (by === 'systemd') {
    const ends = data.at(-1) === 0 && data.at(-2) === 0 && data.length % 2 === 0
    if (ends) yield { part: 'the text without its last zero', octets: data.subarray(0, -2) }
    yield { part: 'the text and one more zero octet', octets: concat(data, new Uint8Array(1)) }
  }
}
