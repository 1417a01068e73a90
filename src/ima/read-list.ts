import { DecodeError } from '../core/errors.js'
import { ByteReader } from '../core/reader.js'
import { type ImaEntry, type ImaField, MAX_TEMPLATE_NAME_OCTETS, templateFields } from './entry.js'
import { ImaLine, isImaText } from './read-line.js'
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

/** Real lists have 100 to 200 octets an entry, with signatures up to 1000. */
export const IMA_LIMITS: ImaLimits = {
  maxOctets: 64 * 1024 * 1024,
  maxEntries: 1_000_000,
  maxEntryOctets: 64 * 1024,
}

/** Octets of the template hashes: SHA-1, or the hash of the bank that a list was shown for. */
const HASH_OCTETS = [20, 32, 48, 64] as const
const PCR_OCTETS = 4
const SIZE_OCTETS = 4
const MAX_PCR = 23
const NEWLINE = 0x0a

/**
 * Reads a list of measurements as the kernel shows it: `ascii_runtime_measurements` or `binary_runtime_measurements`, and
 * those that kernels since 6.10 show for a bank (`…_sha256`).
 *
 * A generator, so that a reader of a long list may let others have their turn. Linear in the length of the list; sizes
 * are checked before anything is allocated for them. Nothing is an empty list. A path has any octets, but no
 * newline in a text list.
 *
 * @param first index of the first entry, where the list goes on behind others
 * @throws DecodeError `IMALOG_TOO_LARGE`, `IMALOG_TEMPLATE`, `IMALOG_ENTRY`, `DECODE_TRUNCATED`, `DECODE_TRAILING`
 * @see Linux, security/integrity/ima/ima_fs.c
 */
export function* readImaList(
  octets: Uint8Array,
  limits: ImaLimits = IMA_LIMITS,
  first = 0,
): Generator<ImaEntry, void, void> {
  if (octets.length > limits.maxOctets) {
    throw tooLarge(0, `a list of at most ${limits.maxOctets} octets`, octets.length)
  }
  // A view of one type, whatever was given: so are the octets of the entries
  const list = new Uint8Array(octets.buffer, octets.byteOffset, octets.byteLength)
  if (isImaText(list)) yield* readLines(list, limits, first)
  else yield* readEntries(new ByteReader(list, 'little'), hashOctetsOf(list), limits, first)
}

/**
 * The rest of a binary list after its first `entries` entries; nothing where there are fewer.
 *
 * @throws DecodeError as `readImaList`
 */
export function skipImaEntries(octets: Uint8Array, entries: number): Uint8Array | undefined {
  const reader = new ByteReader(octets, 'little')
  const read = readEntries(reader, hashOctetsOf(octets), IMA_LIMITS, 0)
  for (let skipped = 0; skipped < entries; skipped += 1) {
    if (read.next().done) return undefined
  }
  return reader.rest()
}

/** A binary list does not say how long its template hashes are: the name of a template stands behind the first. */
function hashOctetsOf(octets: Uint8Array): number {
  const data = new DataView(octets.buffer, octets.byteOffset, octets.byteLength)
  const fits = (hashOctets: number): boolean => {
    const at = PCR_OCTETS + hashOctets
    if (octets.length < at + SIZE_OCTETS) return false
    const size = data.getUint32(at, true)
    if (size > MAX_TEMPLATE_NAME_OCTETS) return false
    return (
      templateFields(latin(octets.subarray(at + SIZE_OCTETS, at + SIZE_OCTETS + size))) !==
      undefined
    )
  }
  return HASH_OCTETS.find(fits) ?? HASH_OCTETS[0]
}

function* readEntries(
  reader: ByteReader,
  hashOctets: number,
  limits: ImaLimits,
  first: number,
): Generator<ImaEntry, void, void> {
  const templates = new Templates()
  for (let count = 0; reader.remaining > 0; count += 1) {
    const at = reader.offset
    checkCount(count, at, limits)
    const pcr = checkPcr(reader.u32(), at)
    const templateHash = reader.take(hashOctets)
    const nameOctets = reader.u32()
    if (nameOctets > MAX_TEMPLATE_NAME_OCTETS) {
      throw tooLarge(at, 'a name of a template', nameOctets)
    }
    const template = latin(reader.take(nameOctets))
    const names = templates.fields(template, at)
    const head = { index: first + count, at, pcr, templateHash, template, names }
    if (template === 'ima') {
      const digest = reader.take(LEGACY_DIGEST_OCTETS)
      yield entryOf(head, [digest, reader.take(checkSize(reader.u32(), at, limits))])
    } else {
      const templateData = reader.take(checkSize(reader.u32(), at, limits))
      yield entryOf(head, readTemplateFields(names, templateData), templateData)
    }
  }
}

function* readLines(
  octets: Uint8Array,
  limits: ImaLimits,
  first: number,
): Generator<ImaEntry, void, void> {
  const templates = new Templates()
  let at = 0
  for (let count = 0; at < octets.length; count += 1) {
    checkCount(count, at, limits)
    const newline = octets.indexOf(NEWLINE, at)
    const end = newline < 0 ? octets.length : newline
    // A line shows octets in hexadecimal: twice as long as in the binary list.
    if (end - at > 2 * limits.maxEntryOctets) throw tooLarge(at, 'a shorter line', end - at)
    const line = new ImaLine(octets.subarray(at, end), at)
    const pcr = checkPcr(line.pcr(), at)
    const templateHash = line.hex()
    if (!HASH_OCTETS.some((size) => size === templateHash.length)) {
      throw new DecodeError(
        'IMALOG_ENTRY',
        at,
        'expected a template hash of 20, 32, 48 or 64 octets',
      )
    }
    const template = line.word()
    const names = templates.fields(template, at)
    const fields = line.fields(names)
    const head = { index: first + count, at, pcr, templateHash, template, names }
    yield entryOf(head, fields)
    at = end + 1
  }
}

/** Fields of the templates of a list, which has one or two of them. */
class Templates {
  #name: string | undefined
  #fields: readonly ImaField[] = []

  fields(name: string, at: number): readonly ImaField[] {
    if (name !== this.#name) {
      this.#fields = checkTemplate(name, at)
      this.#name = name
    }
    return this.#fields
  }
}

interface EntryHead {
  readonly index: number
  readonly at: number
  readonly pcr: number
  readonly templateHash: Uint8Array
  readonly template: string
  readonly names: readonly ImaField[]
}

/** @param data the template data where the list has them as they are hashed */
function entryOf(head: EntryHead, fields: ImaFields, data?: Uint8Array): ImaEntry {
  const { index, pcr, templateHash, template, names } = head
  const violation = isZero(templateHash)
  const digest = readDigest(names[0], fields, violation, head.at)
  const path = readPath(fields)
  const templateData = data ?? encodeTemplateData(template, fields)
  const entry = { index, pcr, template, templateHash, templateData, digest, path, violation }
  return fields.length === 2 ? entry : Object.assign(entry, readExtras(names, fields))
}

function isZero(octets: Uint8Array): boolean {
  for (const octet of octets) if (octet !== 0) return false
  return true
}

function checkCount(count: number, at: number, limits: ImaLimits): void {
  if (count >= limits.maxEntries)
    throw tooLarge(at, `at most ${limits.maxEntries} entries`, count + 1)
}

function checkPcr(pcr: number, at: number): number {
  if (pcr <= MAX_PCR) return pcr
  throw new DecodeError('IMALOG_ENTRY', at, `expected a PCR, found ${pcr}`)
}

function checkTemplate(name: string, at: number): readonly ImaField[] {
  const fields = templateFields(name)
  if (fields) return fields
  const found = JSON.stringify(name).replace(/[^\x20-\x7e]/g, '?')
  throw new DecodeError('IMALOG_TEMPLATE', at, `expected a template of the kernel, found ${found}`)
}

function checkSize(size: number, at: number, limits: ImaLimits): number {
  if (size <= limits.maxEntryOctets) return size
  throw tooLarge(at, `an entry of at most ${limits.maxEntryOctets} octets`, size)
}

function latin(octets: Uint8Array): string {
  return Buffer.from(octets.buffer, octets.byteOffset, octets.byteLength).toString('latin1')
}

function tooLarge(at: number, expected: string, found: number): DecodeError {
  return new DecodeError('IMALOG_TOO_LARGE', at, `expected ${expected}, found ${found}`)
}
