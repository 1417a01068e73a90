import { describe, expect, test } from 'vitest'
import { concat } from '../../../src/core/bytes.js'
import { ByteWriter } from '../../../src/core/reader.js'
import {
  EVENT_LOG_LIMITS,
  EVENT_TYPES,
  type EventLog,
  encodeEventLog,
  parseEventLog,
} from '../../../src/eventlog/index.js'
import { buildLog, headerEvent, PLAIN_BOOT, patched, specIdEvent } from './build-log.js'

const SHA256 = { id: 0x000b, digestOctets: 32 }
const SHA384 = { id: 0x000c, digestOctets: 48 }
const SM3 = { id: 0x0012, digestOctets: 32 }

const log = buildLog(PLAIN_BOOT)
const octets = encodeEventLog(log)
/** Where the first event begins, behind the header. */
const FIRST = 32 + log.header.length

function refusal(code: string) {
  return expect.objectContaining({ code })
}

describe('a crypto-agile log', () => {
  test.each([[['sha256']], [['sha1', 'sha256', 'sha384', 'sha512']]] as const)(
    'is read with the banks %s',
    (banks) => {
      const written = buildLog(PLAIN_BOOT, banks)
      expect(parseEventLog(encodeEventLog(written))).toEqual(written)
    },
  )

  test('is read though it has an algorithm that is not known, by the size in its header', () => {
    const event = new ByteWriter('little')
      .u32(4)
      .u32(EVENT_TYPES.EV_SEPARATOR)
      .u32(2)
      .u16(SM3.id)
      .put(new Uint8Array(32).fill(3))
      .u16(SHA256.id)
      .put(new Uint8Array(32).fill(2))
      .u32(4)
      .put(new Uint8Array(4))
      .finish()
    const read = parseEventLog(concat(headerEvent(specIdEvent([SM3, SHA256])), event))
    expect(read.banks).toEqual(['sha256'])
    expect(read.events[0]?.digests).toEqual(new Map([['sha256', new Uint8Array(32).fill(2)]]))
    expect(() => encodeEventLog(read)).toThrow(TypeError)
  })

  test('is read with vendor information in its header', () => {
    const header = headerEvent(specIdEvent([SHA256], { vendor: 'four' }))
    expect(parseEventLog(header).events).toEqual([])
  })

  test.each([0x00, 0xff])('is read with padding of 0x%s behind it, which is said', (octet) => {
    for (const length of [1, 7, 8, 4096]) {
      const read = parseEventLog(concat(octets, new Uint8Array(length).fill(octet)))
      expect(read.events).toHaveLength(log.events.length)
      expect(read.quirks).toEqual(['padding-after-last-event'])
    }
  })

  test('is refused with octets behind padding', () => {
    const hidden = concat(octets, new Uint8Array(64), Uint8Array.of(1))
    expect(() => parseEventLog(hidden)).toThrow(refusal('DECODE_TRAILING'))
    expect(() => parseEventLog(concat(octets, new Uint8Array(16), octets))).toThrow(
      refusal('DECODE_TRAILING'),
    )
  })

  test('is refused where it is cut short anywhere but between events', () => {
    const ends = new Set<number>()
    for (let count = 0; count <= log.events.length; count += 1) {
      ends.add(encodeEventLog({ ...log, events: log.events.slice(0, count) }).length)
    }
    for (let length = 0; length < octets.length; length += 1) {
      if (ends.has(length)) continue
      const read = () => parseEventLog(octets.subarray(0, length))
      // A cut after zeros of an event looks like padding: the event is missing, and replay tells.
      try {
        expect(read().quirks).toEqual(['padding-after-last-event'])
      } catch (error) {
        expect(error).toEqual(refusal('DECODE_TRUNCATED'))
      }
    }
  })

  test('is refused without a single event', () => {
    expect(() => parseEventLog(new Uint8Array())).toThrow(refusal('DECODE_TRUNCATED'))
  })

  test.each([24, 255, 0x7fff_ffff, 0xffff_ffff])('is refused with an event in PCR %i', (pcr) => {
    expect(() => parseEventLog(patched(log, FIRST, pcr))).toThrow(refusal('EVENTLOG_EVENT'))
  })

  test('is read with an event of no PCR that extends nothing', () => {
    const told = buildLog([{ pcr: 0xffff_ffff, type: 'EV_NO_ACTION', data: new Uint8Array(4) }])
    expect(parseEventLog(encodeEventLog(told))).toEqual(told)
  })

  test.each([0, 2, 3, 65_535, 0xffff_ffff])('is refused with %i digests in an event', (count) => {
    expect(() => parseEventLog(patched(log, FIRST + 8, count))).toThrow(
      refusal('EVENTLOG_ALGORITHM'),
    )
  })

  test('is refused with an algorithm in an event that its header does not have', () => {
    const wrong = Uint8Array.from(octets)
    new DataView(wrong.buffer).setUint16(FIRST + 12, SHA384.id, true)
    expect(() => parseEventLog(wrong)).toThrow(refusal('EVENTLOG_ALGORITHM'))
  })

  test('is refused with one algorithm twice in an event', () => {
    const both = buildLog(PLAIN_BOOT, ['sha256', 'sha1'])
    const wrong = encodeEventLog(both)
    const second = 32 + both.header.length + 12 + 2 + 32
    new DataView(wrong.buffer).setUint16(second, SHA256.id, true)
    expect(() => parseEventLog(wrong)).toThrow(refusal('EVENTLOG_ALGORITHM'))
  })

  test.each([0xffff_ffff, 0x8000_0000, 256 * 1024 + 1])(
    'is refused with an event that says it has %i octets',
    (size) => {
      const sizeAt = FIRST + 12 + 2 + 32
      expect(() => parseEventLog(patched(log, sizeAt, size))).toThrow(refusal('EVENTLOG_TOO_LARGE'))
    },
  )

  test('is refused with an event that says it is longer than the log', () => {
    expect(() => parseEventLog(patched(log, FIRST + 12 + 2 + 32, 200_000))).toThrow(
      refusal('DECODE_TRUNCATED'),
    )
  })
})

describe('a header', () => {
  const withHeader = (data: Uint8Array) => () => parseEventLog(headerEvent(data))

  test.each([0, 1, 3, 255])('of version %i is refused', (major) => {
    expect(withHeader(specIdEvent([SHA256], { major }))).toThrow(refusal('EVENTLOG_HEADER'))
  })

  test.each([0, 17, 65_535, 0xffff_ffff])('with %i algorithms is refused', (count) => {
    expect(withHeader(specIdEvent([SHA256], { count }))).toThrow(refusal('EVENTLOG_ALGORITHM'))
  })

  test('with one algorithm twice is refused', () => {
    const twice = [SHA256, SHA384, SHA256]
    expect(withHeader(specIdEvent(twice))).toThrow(refusal('EVENTLOG_ALGORITHM'))
    expect(withHeader(specIdEvent([SM3, SM3]))).toThrow(refusal('EVENTLOG_ALGORITHM'))
  })

  test.each([0, 20, 31, 33, 64, 65_535])('with SHA-256 of %i octets is refused', (digestOctets) => {
    expect(withHeader(specIdEvent([{ ...SHA256, digestOctets }]))).toThrow(
      refusal('EVENTLOG_ALGORITHM'),
    )
  })

  test.each([0, 65, 65_535])(
    'with an unknown algorithm of %i octets is refused',
    (digestOctets) => {
      expect(withHeader(specIdEvent([{ ...SM3, digestOctets }]))).toThrow(
        refusal('EVENTLOG_ALGORITHM'),
      )
    },
  )

  test('with fewer or more octets than it says is refused', () => {
    const data = specIdEvent([SHA256])
    expect(withHeader(data.subarray(0, -1))).toThrow(refusal('DECODE_TRUNCATED'))
    expect(withHeader(concat(data, Uint8Array.of(0)))).toThrow(refusal('DECODE_TRAILING'))
  })
})

describe('limits', () => {
  const many = (count: number): EventLog =>
    buildLog(
      Array.from({ length: count }, () => ({ pcr: 8, type: 'EV_IPL', data: Uint8Array.of(7) })),
    )

  test('a log of more than 1 MiB is refused before it is read', () => {
    const large = new Uint8Array(EVENT_LOG_LIMITS.maxOctets + 1)
    expect(() => parseEventLog(large)).toThrow(refusal('EVENTLOG_TOO_LARGE'))
  })

  test('a log of 1 MiB of padding is read', () => {
    const padding = new Uint8Array(EVENT_LOG_LIMITS.maxOctets - octets.length)
    expect(parseEventLog(concat(octets, padding)).events).toHaveLength(log.events.length)
  })

  test('a log with more events than the limit is refused', () => {
    const limits = { ...EVENT_LOG_LIMITS, maxEvents: 10 }
    expect(parseEventLog(encodeEventLog(many(10)), limits).events).toHaveLength(10)
    expect(() => parseEventLog(encodeEventLog(many(11)), limits)).toThrow(
      refusal('EVENTLOG_TOO_MANY_EVENTS'),
    )
  })

  test('one mebibyte of the smallest events is refused for their number', () => {
    const event = new Uint8Array(32).fill(1, 8, 28)
    event[0] = 8
    event[4] = 13
    const all = new Uint8Array(EVENT_LOG_LIMITS.maxOctets)
    for (let offset = 0; offset < all.length; offset += event.length) all.set(event, offset)
    expect(() => parseEventLog(all)).toThrow(refusal('EVENTLOG_TOO_MANY_EVENTS'))
  })
})

describe('a log with SHA-1 alone', () => {
  const sha1: EventLog = {
    ...buildLog(PLAIN_BOOT, ['sha1']),
    format: 'sha1',
    header: new Uint8Array(),
  }

  test('is read, and called so', () => {
    expect(parseEventLog(encodeEventLog(sha1))).toEqual(sha1)
  })

  test('is what a log without a whole signature is', () => {
    const data = specIdEvent([SHA256])
    data[14] = 0x32
    expect(parseEventLog(headerEvent(data)).format).toBe('sha1')
    expect(parseEventLog(headerEvent(new Uint8Array(3))).format).toBe('sha1')
  })

  test('is refused where it is cut short or an event is too large', () => {
    const short = encodeEventLog(sha1).subarray(0, -1)
    expect(() => parseEventLog(short)).toThrow(refusal('DECODE_TRUNCATED'))
    expect(() => parseEventLog(patched(sha1, 28, 0xffff_ffff))).toThrow(
      refusal('EVENTLOG_TOO_LARGE'),
    )
  })
})
