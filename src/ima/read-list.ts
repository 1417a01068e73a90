import { DecodeError } from '../core/errors.js'
import { ByteReader } from '../core/reader.js'
import { type ImaEntry, type ImaField, MAX_TEMPLATE_NAME_OCTETS, templateFields } from './entry.js'
import { parseImaLine } from './read-line.js'
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
const DIGIT_0 = 0x30
const DIGIT_9 = 0x39
const BLANK = 0x20
const NEWLINE = 0x0a

/**
 * Reads a list of measurements as the kernel shows it: `ascii_runtime_measurements` or `binary_runtime_measurements`, and
 * those that kernels since 6.10 show for a bank (`…_sha256`).
 *
 * A generator, so that a reader of a long list may let others have their turn. Linear in the length of the list; sizes
 * are checked before anything is allocated for them. Nothing is an empty list. Text lists cannot have paths with a
 * newline or other than UTF-8; binary ones can.
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
  const entries = isText(octets)
    ? readLines(octets, limits)
    : readEntries(new ByteReader(octets, 'little'), hashOctetsOf(octets), limits)
  let count = 0
  for (const raw of entries) {
    count += 1
    if (count > limits.maxEntries) {
      throw tooLarge(raw.at, `at most ${limits.maxEntries} entries`, count)
    }
    yield entryOf(raw, first + count - 1)
  }
}

/**
 * The rest of a binary list after its first `entries` entries; nothing where there are fewer.
 *
 * @throws DecodeError as `readImaList`
 */
export function skipImaEntries(octets: Uint8Array, entries: number): Uint8Array | undefined {
  const reader = new ByteReader(octets, 'little')
  const read = readEntries(reader, hashOctetsOf(octets), IMA_LIMITS)
  for (let skipped = 0; skipped < entries; skipped += 1) {
    if (read.next().done) return undefined
  }
  return reader.rest()
}

/** An entry whose fields are told apart, and not read yet. */
interface RawEntry {
  readonly at: number
  readonly pcr: number
  readonly templateHash: Uint8Array
  readonly template: string
  readonly names: readonly ImaField[]
  readonly fields: ImaFields
  /** Where the list has what is hashed as it stands. */
  readonly templateData?: Uint8Array
}

/** A text list begins with the number of a PCR and a blank; a binary one with the same number in four octets. */
function isText(octets: Uint8Array): boolean {
  const start = octets[0] === BLANK ? 1 : 0
  const first = octets[start] ?? 0
  return first >= DIGIT_0 && first <= DIGIT_9 && octets[start + 1] !== 0
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
): Generator<RawEntry, void, void> {
  while (reader.remaining > 0) {
    const at = reader.offset
    const pcr = checkPcr(reader.u32(), at)
    const templateHash = reader.take(hashOctets)
    const nameOctets = reader.u32()
    if (nameOctets > MAX_TEMPLATE_NAME_OCTETS) {
      throw tooLarge(at, 'a name of a template', nameOctets)
    }
    const template = latin(reader.take(nameOctets))
    const names = checkTemplate(template, at)
    const head = { at, pcr, templateHash, template, names }
    if (template === 'ima') {
      const digest = reader.take(LEGACY_DIGEST_OCTETS)
      yield { ...head, fields: [digest, reader.take(checkSize(reader.u32(), at, limits))] }
    } else {
      const templateData = reader.take(checkSize(reader.u32(), at, limits))
      yield { ...head, fields: readTemplateFields(names, templateData), templateData }
    }
  }
}

function* readLines(octets: Uint8Array, limits: ImaLimits): Generator<RawEntry, void, void> {
  let at = 0
  while (at < octets.length) {
    const newline = octets.indexOf(NEWLINE, at)
    const end = newline < 0 ? octets.length : newline
    // A line shows octets in hexadecimal: twice as long as in the binary list.
    if (end - at > 2 * limits.maxEntryOctets) throw tooLarge(at, 'a shorter line', end - at)
    const line = parseImaLine(octets.subarray(at, end), at)
    const names = checkTemplate(line.template, at)
    const { template, templateHash } = line
    yield {
      at,
      pcr: checkPcr(line.pcr, at),
      templateHash,
      template,
      names,
      fields: line.fields(names),
    }
    at = end + 1
  }
}

function entryOf(raw: RawEntry, index: number): ImaEntry {
  const { at, pcr, template, templateHash, names, fields } = raw
  const violation = templateHash.every((octet) => octet === 0)
  return {
    index,
    pcr,
    template,
    templateHash,
    templateData: raw.templateData ?? encodeTemplateData(template, fields),
    digest: readDigest(names[0], fields, { at, violation }),
    path: readPath(fields),
    ...readExtras(names, fields),
    violation,
  }
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
