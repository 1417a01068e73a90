import { equalBytes, utf8 } from '../core/bytes.js'
import { DecodeError } from '../core/errors.js'
import { ByteReader, ByteWriter } from '../core/reader.js'
import { HASH_ALGORITHMS, type HashName, hashById } from '../tpm/index.js'
import { EVENT_TYPES } from './event-types.js'

export interface EventLogLimits {
  readonly maxOctets: number
  readonly maxEvents: number
  readonly maxEventOctets: number
  readonly maxAlgorithms: number
}

/** Real logs have 14 to 73 KiB and 25 to 160 events. */
export const EVENT_LOG_LIMITS: EventLogLimits = {
  maxOctets: 1024 * 1024,
  maxEvents: 20_000,
  maxEventOctets: 256 * 1024,
  maxAlgorithms: 16,
}

/** One measurement. */
export interface LoggedEvent {
  /** From 0, the header not counted. */
  readonly index: number
  readonly pcr: number
  /**
   * The type that the firmware gave to the event. Untrusted: replay proves the digest, not the type.
   *
   * @see TCG PC Client Platform Firmware Profile, clause 10.4
   */
  readonly type: number
  /** By bank; algorithms that Sigillo does not know are left out. */
  readonly digests: ReadonlyMap<HashName, Uint8Array>
  /** Untrusted, unless its digest is the digest of it. A view of the log. */
  readonly data: Uint8Array
}

/** A deviation that was tolerated, and is named in the result. */
export type EventLogQuirk = 'padding-after-last-event'

export interface EventLog {
  /** `sha1` logs of TPM 1.2 times are readable, and never trusted. */
  readonly format: 'crypto-agile' | 'sha1'
  readonly banks: readonly HashName[]
  /** Identifiers and sizes as the header lists them, in its order. */
  readonly algorithms: readonly { readonly id: number; readonly digestOctets: number }[]
  /** The header event's data; empty in SHA-1 logs. */
  readonly header: Uint8Array
  readonly events: readonly LoggedEvent[]
  readonly quirks: readonly EventLogQuirk[]
}

const SPEC_ID_SIGNATURE = utf8('Spec ID Event03\0')
const SHA1_OCTETS = 20
const MAX_PCR = 23
const MAX_DIGEST_OCTETS = 64

/**
 * Reads a boot event log: the crypto-agile format, or the older one with SHA-1 alone.
 *
 * Linear in its length; sizes are checked before anything is allocated for them. Data of events are views of `octets`.
 *
 * @throws DecodeError with the offset: `EVENTLOG_TOO_LARGE`, `EVENTLOG_TOO_MANY_EVENTS`, `EVENTLOG_HEADER`,
 *   `EVENTLOG_ALGORITHM`, `EVENTLOG_EVENT`, `DECODE_TRUNCATED`, `DECODE_TRAILING`
 * @see TCG PC Client Platform Firmware Profile, clauses 10.2 and 10.4.5
 */
export function parseEventLog(octets: Uint8Array, limits = EVENT_LOG_LIMITS): EventLog {
  if (octets.length > limits.maxOctets) {
    throw new DecodeError(
      'EVENTLOG_TOO_LARGE',
      0,
      `expected a log of at most ${limits.maxOctets} octets, found ${octets.length}`,
    )
  }
  const reader = new ByteReader(octets, 'little')
  const first = readSha1Event(reader, 0, limits)
  if (first.type !== EVENT_TYPES.EV_NO_ACTION || !startsWith(first.data, SPEC_ID_SIGNATURE)) {
    return readEvents(new ByteReader(octets, 'little'), limits, {
      format: 'sha1',
      banks: ['sha1'],
      algorithms: [{ id: HASH_ALGORITHMS.sha1.id, digestOctets: SHA1_OCTETS }],
      header: new Uint8Array(),
    })
  }
  const algorithms = readAlgorithms(first.data, limits)
  return readEvents(reader, limits, {
    format: 'crypto-agile',
    banks: algorithms.flatMap(({ id }) => hashById(id)?.name ?? []),
    algorithms,
    header: first.data,
  })
}

type Preamble = Pick<EventLog, 'format' | 'banks' | 'algorithms' | 'header'>

function readEvents(reader: ByteReader, limits: EventLogLimits, preamble: Preamble): EventLog {
  const events: LoggedEvent[] = []
  const quirks: EventLogQuirk[] = []
  while (reader.remaining > 0) {
    if (events.length >= limits.maxEvents) {
      throw new DecodeError(
        'EVENTLOG_TOO_MANY_EVENTS',
        reader.offset,
        `expected at most ${limits.maxEvents} events`,
      )
    }
    if (startsPadding(reader)) {
      requirePadding(reader)
      quirks.push('padding-after-last-event')
      break
    }
    const event =
      preamble.format === 'sha1'
        ? readSha1Event(reader, events.length, limits)
        : readAgileEvent(reader, events.length, preamble.algorithms, limits)
    events.push(event)
  }
  return { ...preamble, events, quirks }
}

/** Firmware leaves the rest of its table as zeros or ones: an event of PCR 0 and type 0 is never one of a real log. */
function startsPadding(reader: ByteReader): boolean {
  const next = reader.peek(Math.min(8, reader.remaining))
  return next.every((octet) => octet === 0) || next.every((octet) => octet === 0xff)
}

/** Padding is one octet to the end of the log: nothing hides behind it. */
function requirePadding(reader: ByteReader): void {
  const start = reader.offset
  const rest = reader.rest()
  const other = rest.findIndex((octet) => octet !== rest[0])
  if (other >= 0) {
    throw new DecodeError(
      'DECODE_TRAILING',
      start + other,
      'expected padding to the end of the log',
    )
  }
}

function readSha1Event(reader: ByteReader, index: number, limits: EventLogLimits): LoggedEvent {
  const { pcr, type } = readPlace(reader)
  const digests = new Map([['sha1' as const, reader.take(SHA1_OCTETS)]])
  return { index, pcr, type, digests, data: readData(reader, limits) }
}

function readAgileEvent(
  reader: ByteReader,
  index: number,
  algorithms: EventLog['algorithms'],
  limits: EventLogLimits,
): LoggedEvent {
  const { pcr, type } = readPlace(reader)
  const count = reader.u32()
  if (count !== algorithms.length) {
    throw new DecodeError(
      'EVENTLOG_ALGORITHM',
      reader.offset,
      `expected ${algorithms.length} digests in event ${index}, found ${count}`,
    )
  }
  const digests = new Map<HashName, Uint8Array>()
  let seen = 0
  for (let digest = 0; digest < count; digest += 1) {
    const id = reader.u16()
    const place = algorithms.findIndex((candidate) => candidate.id === id)
    const algorithm = algorithms[place]
    if (!algorithm || (seen & (1 << place)) !== 0) {
      throw new DecodeError(
        'EVENTLOG_ALGORITHM',
        reader.offset,
        `expected each algorithm of the header once in event ${index}, found 0x${id.toString(16)}`,
      )
    }
    seen |= 1 << place
    const octets = reader.take(algorithm.digestOctets)
    const hash = hashById(id)
    if (hash) digests.set(hash.name, octets)
  }
  return { index, pcr, type, digests, data: readData(reader, limits) }
}

function readPlace(reader: ByteReader): { readonly pcr: number; readonly type: number } {
  const pcr = reader.u32()
  const type = reader.u32()
  // Some firmware gives events that extend nothing to no PCR, which is 0xffffffff.
  const isNone = pcr === 0xffff_ffff && type === EVENT_TYPES.EV_NO_ACTION
  if (pcr > MAX_PCR && !isNone) {
    throw new DecodeError('EVENTLOG_EVENT', reader.offset - 8, `expected a PCR, found ${pcr}`)
  }
  return { pcr, type }
}

function readData(reader: ByteReader, limits: EventLogLimits): Uint8Array {
  const size = reader.u32()
  if (size > limits.maxEventOctets) {
    throw new DecodeError(
      'EVENTLOG_TOO_LARGE',
      reader.offset,
      `expected an event of at most ${limits.maxEventOctets} octets, found ${size}`,
    )
  }
  return reader.take(size)
}

/** @see TCG PC Client Platform Firmware Profile, clause 10.4.5.1 (TCG_EfiSpecIdEvent) */
function readAlgorithms(data: Uint8Array, limits: EventLogLimits): EventLog['algorithms'] {
  const reader = new ByteReader(data, 'little')
  reader.take(SPEC_ID_SIGNATURE.length)
  reader.u32()
  const minor = reader.u8()
  const major = reader.u8()
  if (major !== 2) {
    throw new DecodeError(
      'EVENTLOG_HEADER',
      reader.offset,
      `expected version 2, found ${major}.${minor}`,
    )
  }
  reader.u8()
  reader.u8()
  const count = reader.u32()
  if (count === 0 || count > limits.maxAlgorithms) {
    throw new DecodeError(
      'EVENTLOG_ALGORITHM',
      reader.offset,
      `expected 1 to ${limits.maxAlgorithms} algorithms, found ${count}`,
    )
  }
  const algorithms: { id: number; digestOctets: number }[] = []
  for (let index = 0; index < count; index += 1) {
    const id = reader.u16()
    const digestOctets = reader.u16()
    const known = hashById(id)
    const fits = known ? known.digestOctets === digestOctets : digestOctets <= MAX_DIGEST_OCTETS
    if (!fits || digestOctets === 0 || algorithms.some((algorithm) => algorithm.id === id)) {
      throw new DecodeError(
        'EVENTLOG_ALGORITHM',
        reader.offset,
        `expected each algorithm once with its own size, found 0x${id.toString(16)} with ${digestOctets} octets`,
      )
    }
    algorithms.push({ id, digestOctets })
  }
  const vendorOctets = reader.u8()
  reader.take(vendorOctets)
  reader.end('TCG_EfiSpecIdEvent')
  return algorithms
}

function startsWith(octets: Uint8Array, prefix: Uint8Array): boolean {
  return octets.length >= prefix.length && equalBytes(octets.subarray(0, prefix.length), prefix)
}

/**
 * The inverse of `parseEventLog`, without padding.
 *
 * Throws `TypeError` for a log with algorithms that Sigillo does not know: their digests were not kept.
 */
export function encodeEventLog(log: EventLog): Uint8Array {
  const writer = new ByteWriter('little')
  if (log.format === 'crypto-agile') {
    writer.u32(0).u32(EVENT_TYPES.EV_NO_ACTION).put(new Uint8Array(SHA1_OCTETS))
    writer.u32(log.header.length).put(log.header)
  }
  for (const event of log.events) {
    writer.u32(event.pcr).u32(event.type)
    if (log.format === 'crypto-agile') writer.u32(log.algorithms.length)
    for (const { id } of log.algorithms) {
      const name = hashById(id)?.name
      const digest = name && event.digests.get(name)
      if (!digest) throw new TypeError(`no digest for algorithm 0x${id.toString(16)}`)
      if (log.format === 'crypto-agile') writer.u16(id)
      writer.put(digest)
    }
    writer.u32(event.data.length).put(event.data)
  }
  return writer.finish()
}
