import { concat, fromHex, parseUtf8, utf8 } from '../core/bytes.js'
import { DecodeError, isPlatformError, unreachable } from '../core/errors.js'
import { IMA_FIELDS, type ImaField, type ImaFieldForm } from './entry.js'
import type { ImaFields } from './template-data.js'

/** A line of the text list, whose fields can be told apart once its template is known. */
export interface ImaLine {
  readonly pcr: number
  readonly templateHash: Uint8Array
  readonly template: string
  /** The fields as the kernel hashes them. @throws DecodeError `IMALOG_ENTRY` */
  fields(names: readonly ImaField[]): ImaFields
}

const LINE = /^ ?(\d{1,2}) ((?:[0-9a-f]{2}){20,64}) ([!-~]{1,80}) (.*)$/s
const NUL = Uint8Array.of(0)
const NONE = new Uint8Array()

/**
 * Reads a line of the text list, without its newline.
 *
 * @param at offset of the line, for errors
 * @throws DecodeError `IMALOG_ENTRY`
 * @see Linux, security/integrity/ima/ima_fs.c, ima_ascii_measurements_show
 */
export function parseImaLine(line: Uint8Array, at: number): ImaLine {
  const [, pcr, hash, template, rest] = LINE.exec(textOf(line, at)) ?? []
  if (pcr === undefined || hash === undefined || template === undefined || rest === undefined) {
    throw unreadable(at, 'PCR, template hash, template and fields')
  }
  return {
    pcr: Number(pcr),
    templateHash: fromHex(hash),
    template,
    fields: (names) => fieldsOf(rest, names, at),
  }
}

/** The digest is the first word; fields behind the path are words too; the path is what is left, with any blanks. */
function fieldsOf(text: string, names: readonly ImaField[], at: number): ImaFields {
  const words = text.split(' ')
  const behind = names.length - 2
  const path = words.slice(1, words.length - behind).join(' ')
  if (path === '') throw unreadable(at, 'a path')
  const values = words.slice(words.length - behind)
  return names.map((name, index) => {
    if (index === 0) return octetsOf(words[0] ?? '', IMA_FIELDS[name], at)
    // The legacy template hashes its path without the NUL: it is padded.
    if (index === 1) return utf8(name === 'n' ? path : `${path}\0`)
    const value = values[index - 2] ?? ''
    return value === '' ? NONE : octetsOf(value, IMA_FIELDS[name], at)
  })
}

function octetsOf(text: string, form: ImaFieldForm, at: number): Uint8Array {
  switch (form) {
    case 'octets':
      return hex(text, at)
    case 'text':
      return utf8(`${text}\0`)
    case 'digest': {
      const colon = text.lastIndexOf(':') + 1
      return concat(utf8(text.slice(0, colon)), NUL, hex(text.slice(colon), at))
    }
    case 'u16':
      return number(text, 2, at)
    case 'u32':
      return number(text, 4, at)
    default:
      return unreachable(form)
  }
}

function number(text: string, size: number, at: number): Uint8Array {
  const value = /^(?:0|[1-9]\d{0,9})$/.test(text) ? Number(text) : Number.NaN
  if (!(value < 2 ** (8 * size))) throw unreadable(at, `a number of ${size} octets`)
  const octets = Buffer.alloc(size)
  octets.writeUIntLE(value, 0, size)
  return new Uint8Array(octets)
}

function hex(text: string, at: number): Uint8Array {
  if (text.length % 2 !== 0 || !/^[0-9a-f]*$/.test(text)) throw unreadable(at, 'hexadecimal')
  return fromHex(text)
}

function textOf(line: Uint8Array, at: number): string {
  try {
    return parseUtf8(line)
  } catch (cause) {
    if (isPlatformError(cause)) throw unreadable(at, 'UTF-8 (the binary list has any path)')
    throw cause
  }
}

function unreadable(at: number, expected: string): DecodeError {
  return new DecodeError('IMALOG_ENTRY', at, `expected ${expected} in an entry of the list`)
}
