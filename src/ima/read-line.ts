import { DecodeError, unreachable } from '../core/errors.js'
import { IMA_FIELDS, type ImaField } from './entry.js'
import type { ImaFields } from './template-data.js'

const BLANK = 0x20
const DIGIT_0 = 0x30
const DIGIT_9 = 0x39
const LOWER_HEX = /^(?:[0-9a-f]{2})*$/
const NONE = new Uint8Array()
const TRUNCATED = 'PCR, template hash, template, digest and path'

/**
 * A line of the text list, without its newline, read word by word.
 *
 * Nothing of it is decoded as text: a path may be any octets but a newline, blanks too.
 *
 * @see Linux, security/integrity/ima/ima_fs.c, ima_ascii_measurements_show
 */
export class ImaLine {
  readonly #octets: Buffer
  readonly #at: number
  #offset = 0

  /** @param at offset of the line, for errors */
  constructor(octets: Uint8Array, at: number) {
    this.#octets = Buffer.from(octets.buffer, octets.byteOffset, octets.byteLength)
    this.#at = at
  }

  /** The PCR stands in two places, the first of which may be a blank. */
  pcr(): number {
    if (this.#octets[0] === BLANK) this.#offset = 1
    const text = this.word()
    if (!/^\d{1,2}$/.test(text)) throw this.#unreadable('a PCR')
    return Number(text)
  }

  /** @throws DecodeError `IMALOG_ENTRY` */
  hex(): Uint8Array {
    return this.#hex(this.word())
  }

  word(): string {
    const end = this.#octets.indexOf(BLANK, this.#offset)
    if (end < 0) throw this.#unreadable(TRUNCATED)
    const text = this.#octets.toString('latin1', this.#offset, end)
    this.#offset = end + 1
    return text
  }

  /**
   * The fields of the rest of the line, as the kernel hashes them: a word for the digest and for each field behind the
   * path; the path is what is left between them.
   *
   * @throws DecodeError `IMALOG_ENTRY`
   */
  fields(names: readonly ImaField[]): ImaFields {
    const [digestName, pathName] = names
    if (!digestName || !pathName) throw new TypeError('a template has a digest and a path')
    const fields: Uint8Array[] = [this.#field(digestName, this.word())]
    let end = this.#octets.length
    const behind: Uint8Array[] = []
    for (let index = names.length - 1; index > 1; index -= 1) {
      const blank = this.#octets.lastIndexOf(BLANK, end - 1)
      if (end <= this.#offset || blank < this.#offset) throw this.#unreadable(TRUNCATED)
      const text = this.#octets.toString('latin1', blank + 1, end)
      behind.push(text === '' ? NONE : this.#field(names[index] ?? 'sig', text))
      end = blank
    }
    if (end <= this.#offset) throw this.#unreadable('a path')
    // The legacy template hashes its path without the NUL: it is padded.
    const path = new Uint8Array(end - this.#offset + (pathName === 'n' ? 0 : 1))
    path.set(this.#octets.subarray(this.#offset, end))
    fields.push(path, ...behind.reverse())
    return fields
  }

  #field(name: ImaField, text: string): Uint8Array {
    const form = IMA_FIELDS[name]
    switch (form) {
      case 'octets':
        return this.#hex(text)
      case 'text':
        return plain(Buffer.from(`${text}\0`, 'latin1'))
      case 'digest': {
        const colon = text.lastIndexOf(':') + 1
        const digest = this.#hex(text.slice(colon))
        const field = new Uint8Array(colon + 1 + digest.length)
        for (let index = 0; index < colon; index += 1) field[index] = text.charCodeAt(index)
        field.set(digest, colon + 1)
        return field
      }
      case 'u16':
        return this.#number(text, 2)
      case 'u32':
        return this.#number(text, 4)
      default:
        return unreachable(form)
    }
  }

  #number(text: string, size: number): Uint8Array {
    const value = /^(?:0|[1-9]\d{0,9})$/.test(text) ? Number(text) : Number.NaN
    if (!(value < 2 ** (8 * size))) throw this.#unreadable(`a number of ${size} octets`)
    const octets = Buffer.alloc(size)
    octets.writeUIntLE(value, 0, size)
    return plain(octets)
  }

  #hex(text: string): Uint8Array {
    if (!LOWER_HEX.test(text)) throw this.#unreadable('hexadecimal')
    return plain(Buffer.from(text, 'hex'))
  }

  #unreadable(expected: string): DecodeError {
    return new DecodeError('IMALOG_ENTRY', this.#at, `expected ${expected} in an entry of the list`)
  }
}

/** The same octets as a view of the type that lists have. */
function plain({ buffer, byteOffset, byteLength }: Buffer): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength)
}

/** A text list begins with the number of a PCR and a blank; a binary one with the same number in four octets. */
export function isImaText(octets: Uint8Array): boolean {
  const start = octets[0] === BLANK ? 1 : 0
  const first = octets[start] ?? 0
  return first >= DIGIT_0 && first <= DIGIT_9 && octets[start + 1] !== 0
}
