import { fromHex, parseUtf8, toHex, utf8 } from '../core/bytes.js'
import { DecodeError, isPlatformError } from '../core/errors.js'
import { ByteReader } from '../core/reader.js'
import { IMA_TEMPLATES, type ImaEntry, type ImaTemplate, isImaTemplate } from './entry.js'
import {
  encodeTemplateData,
  type ImaFields,
  LEGACY_DIGEST_OCTETS,
  readDigest,
  readExtras,
  readPath,
  readTemplateFields,
} from './template-data.js'

export interface ImaLimits {
  readonly maxOctets: number
  readonly maxEntries: number
  readonly maxEntryOctets: number
}

/** Real lists have 100 to 200 octets an entry. */
export const IMA_LIMITS: ImaLimits = {
  maxOctets: 64 * 1024 * 1024,
  maxEntries: 1_000_000,
  maxEntryOctets: 64 * 1024,
}

const HASH_OCTETS = 20
const MAX_PCR = 23
const MAX_NAME_OCTETS = 32
const DIGIT_0 = 0x30
const DIGIT_9 = 0x39
const BLANK = 0x20
const NEWLINE = 0x0a

/**
 * Reads a list of measurements as the kernel shows it: `ascii_runtime_measurements` or `binary_runtime_measurements`.
 *
 * A generator, so that a reader of a long list may let others have their turn. Linear in the length of the list; sizes
 * are checked before anything is allocated for them.
 *
 * @throws DecodeError `IMALOG_TOO_LARGE`, `IMALOG_TEMPLATE`, `IMALOG_ENTRY`, `DECODE_TRUNCATED`
 * @see Linux, security/integrity/ima/ima_fs.c
 */
export function* readImaList(
  octets: Uint8Array,
  limits: ImaLimits = IMA_LIMITS,
): Generator<ImaEntry, void, void> {
  if (octets.length > limits.maxOctets) {
    throw tooLarge(0, `a list of at most ${limits.maxOctets} octets`, octets.length)
  }
  const entries = isText(octets) ? readLines(octets, limits) : readBinary(octets, limits)
  let count = 0
  for (const entry of entries) {
    count += 1
    if (count > limits.maxEntries) throw tooLarge(0, `at most ${limits.maxEntries} entries`, count)
    yield entry
  }
}

/**
 * The rest of a binary list after its first `entries` entries; nothing where there are fewer.
 *
 * @throws DecodeError as `readImaList`
 */
export function skipImaEntries(octets: Uint8Array, entries: number): Uint8Array | undefined {
  const reader = new ByteReader(octets, 'little')
  const read = readEntries(reader, IMA_LIMITS)
  for (let skipped = 0; skipped < entries; skipped += 1) {
    if (read.next().done) return undefined
  }
  return reader.rest()
}

/** A text list begins with the number of a PCR and a blank; a binary one with the same number in four octets. */
function isText(octets: Uint8Array): boolean {
  const start = octets[0] === BLANK ? 1 : 0
  const first = octets[start] ?? 0
  return first >= DIGIT_0 && first <= DIGIT_9 && octets[start + 1] !== 0
}

function readBinary(octets: Uint8Array, limits: ImaLimits): Generator<ImaEntry, void, void> {
  return readEntries(new ByteReader(octets, 'little'), limits)
}

function* readEntries(reader: ByteReader, limits: ImaLimits): Generator<ImaEntry, void, void> {
  for (let index = 0; reader.remaining > 0; index += 1) {
    const at = reader.offset
    const pcr = checkPcr(reader.u32(), at)
    const templateHash = reader.take(HASH_OCTETS)
    const nameOctets = reader.u32()
    if (nameOctets > MAX_NAME_OCTETS) throw tooLarge(at, 'a name of a template', nameOctets)
    const template = checkTemplate(Buffer.from(reader.take(nameOctets)).toString('latin1'), at)
    const read =
      template === 'ima' ? readLegacy(reader, limits) : readSized(reader, template, limits)
    yield entryOf({ index, pcr, at }, template, templateHash, read)
  }
}

interface ReadFields {
  readonly fields: ImaFields
  /** Where the list has what is hashed as it stands. */
  readonly templateData?: Uint8Array
}

function readLegacy(reader: ByteReader, limits: ImaLimits): ReadFields {
  const digest = reader.take(LEGACY_DIGEST_OCTETS)
  const path = reader.take(checkSize(reader.u32(), reader.offset, limits))
  return { fields: [digest, path] }
}

function readSized(reader: ByteReader, template: ImaTemplate, limits: ImaLimits): ReadFields {
  const templateData = reader.take(checkSize(reader.u32(), reader.offset, limits))
  return { fields: readTemplateFields(template, templateData), templateData }
}

function* readLines(octets: Uint8Array, limits: ImaLimits): Generator<ImaEntry, void, void> {
  let at = 0
  for (let index = 0; at < octets.length; index += 1) {
    const newline = octets.indexOf(NEWLINE, at)
    const end = newline < 0 ? octets.length : newline
    // A line shows octets in hexadecimal: twice as long as in the binary list.
    if (end - at > 2 * limits.maxEntryOctets) throw tooLarge(at, 'a shorter line', end - at)
    yield readLine(octets.subarray(at, end), index, at)
    at = end + 1
  }
}

function readLine(line: Uint8Array, index: number, at: number): ImaEntry {
  const text = textOf(line, at)
  const match = /^ ?(\d{1,2}) ((?:[0-9a-f]{2}){20,64}) (\S{1,32}) (\S+) (.*)$/s.exec(text)
  if (!match) throw unreadable(at, 'PCR, template hash, template, digest and path')
  const [, pcr = '', hash = '', name = '', digest = '', rest = ''] = match
  const template = checkTemplate(name, at)
  return entryOf({ index, pcr: checkPcr(Number(pcr), at), at }, template, fromHex(hash), {
    fields: fieldsOfText(template, digest, rest, at),
  })
}

/** Fields after the path are words, none of them with a blank; the path may have blanks. */
function fieldsOfText(template: ImaTemplate, digest: string, rest: string, at: number): ImaFields {
  const [digestField, , ...others] = IMA_TEMPLATES[template]
  const words = rest.split(' ')
  const path = words.slice(0, words.length - others.length).join(' ')
  if (path === '') throw unreadable(at, 'a path')
  const values = words.slice(words.length - others.length)
  return [
    digestField === 'd' ? hex(digest, at) : prefixedDigest(digest, at),
    utf8(template === 'ima' ? path : `${path}\0`),
    ...others.map((name, index) => {
      const value = values[index] ?? ''
      return name === 'd-modsig' && value !== '' ? prefixedDigest(value, at) : hex(value, at)
    }),
  ]
}

/** `sha256:ab12…` as the kernel hashes it: the text with its colon, NUL, octets. */
function prefixedDigest(text: string, at: number): Uint8Array {
  const colon = text.lastIndexOf(':')
  if (colon < 1) throw unreadable(at, 'algorithm:digest')
  return Uint8Array.of(...utf8(text.slice(0, colon + 1)), 0, ...hex(text.slice(colon + 1), at))
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

function entryOf(
  place: { readonly index: number; readonly at: number; readonly pcr: number },
  template: ImaTemplate,
  templateHash: Uint8Array,
  { fields, templateData }: ReadFields,
): ImaEntry {
  const entry: ImaEntry = {
    index: place.index,
    pcr: place.pcr,
    template,
    templateHash,
    templateData: templateData ?? encodeTemplateData(template, fields),
    digest: readDigest(template, fields, place.at),
    path: readPath(fields),
    violation: templateHash.every((octet) => octet === 0),
  }
  const extras = readExtras(template, fields)
  return extras ? { ...entry, ...extras } : entry
}

function checkPcr(pcr: number, at: number): number {
  if (pcr <= MAX_PCR) return pcr
  throw unreadable(at, `a PCR, found ${pcr}:`)
}

function checkTemplate(name: string, at: number): ImaTemplate {
  if (isImaTemplate(name)) return name
  throw new DecodeError(
    'IMALOG_TEMPLATE',
    at,
    `expected ${Object.keys(IMA_TEMPLATES).join(', ')}, found ${toHex(utf8(name)).slice(0, 64)}`,
  )
}

function checkSize(size: number, at: number, limits: ImaLimits): number {
  if (size <= limits.maxEntryOctets) return size
  throw tooLarge(at, `an entry of at most ${limits.maxEntryOctets} octets`, size)
}

function tooLarge(at: number, expected: string, found: number): DecodeError {
  return new DecodeError('IMALOG_TOO_LARGE', at, `expected ${expected}, found ${found}`)
}

function unreadable(at: number, expected: string): DecodeError {
  return new DecodeError('IMALOG_ENTRY', at, `expected ${expected} in an entry of the list`)
}
