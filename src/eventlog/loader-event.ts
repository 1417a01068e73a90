import { concat, utf8 } from '../core/bytes.js'
import { latinText, printable } from './printable.js'
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

/** Tells what an EV_IPL event is of. Both are the host's word: see `coverageOf`. */
export function readLoaderEvent(data: Uint8Array): LoaderEvent {
  const raw = loaderText(data)
  const event = (by: LoaderEvent['by'], what: LoaderEvent['what']) => ({
    by,
    what,
    text: printable(raw),
  })
  const wide = isWide(data)
  if (wide && SECTION.test(raw)) return event('systemd', 'section')
  if (wide && SYSTEMD_INITRD.test(raw)) return event('systemd', 'initrd')
  if (wide) return event('systemd', 'kernel-command-line')
  const grub = GRUB_PREFIXES.find(([prefix]) => raw.startsWith(prefix))
  if (grub) return event('grub', grub[1])
  if (SHIM_VARIABLE.test(raw)) return event('shim', 'variable')
  return raw.startsWith('/') || raw.startsWith('(')
    ? event('grub', 'file')
    : event('unknown', 'text')
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
export function measuredParts(data: Uint8Array): readonly MeasuredPart[] {
  const { by, what } = readLoaderEvent(data)
  if (by === 'grub' && what !== 'file') {
    const text = latinText(data)
    const prefix = GRUB_PREFIXES.find(([start]) => text.startsWith(start))?.[0] ?? ''
    const measured = text.slice(prefix.length)
    const part = `the text behind "${prefix}"`
    return [measured, `${measured}\0`].map((form) => ({
      part,
      octets: Buffer.from(form, 'latin1'),
    }))
  }
  if (what === 'section') {
    return [{ part: 'the name of the section', octets: utf8(`${loaderText(data)}\0`) }]
  }
  if (by === 'systemd') {
    const ends = data.at(-1) === 0 && data.at(-2) === 0 && data.length % 2 === 0
    const padded = {
      part: 'the text and one more zero octet',
      octets: concat(data, new Uint8Array(1)),
    }
    const bare = { part: 'the text without its last zero', octets: data.subarray(0, -2) }
    return ends ? [bare, padded] : [padded]
  }
  return []
}
