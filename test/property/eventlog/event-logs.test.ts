import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isPlatformError } from '../../../src/core/errors.js'
import { failures } from '../../../src/core/finding.js'
import {
  compareBoots,
  decodeEvent,
  describeBoot,
  EVENT_TYPES,
  type EventLog,
  encodeEventLog,
  parseEventLog,
  replayEventLog,
  verifyEventLog,
} from '../../../src/eventlog/index.js'
import { HASH_ALGORITHMS, type HashName } from '../../../src/tpm/index.js'
import { measuredBoot, measuredPcrs } from '../../helpers/vectors.js'
import { buildLog } from '../../unit/eventlog/build-log.js'

const VARIANT = '04-shim-grub-sb-on-mskeys'
const real = measuredBoot(VARIANT, 'binary_bios_measurements')
const quoted = measuredPcrs(VARIANT)
const runs = process.env['SLOW'] === '1' ? 20_000 : 1_000

/** Reads octets and judges what was read; nothing but refusals of ours may come out. */
function judge(octets: Uint8Array): EventLog | undefined {
  try {
    const log = parseEventLog(octets)
    verifyEventLog(log, 'sha256', quoted)
    return log
  } catch (error) {
    if (isPlatformError(error)) return undefined
    throw error
  }
}

const octets = (maxLength: number) => fc.uint8Array({ maxLength })
const knownType = fc.constantFrom(...Object.values(EVENT_TYPES))
const bankSets: readonly (readonly HashName[])[] = [
  ['sha256'],
  ['sha1', 'sha256'],
  ['sha384', 'sha256', 'sha512'],
]

const anyLog = fc
  .record({
    banks: fc.constantFrom(...bankSets),
    events: fc.array(
      fc.record({
        pcr: fc.nat({ max: 23 }),
        type: fc.oneof(knownType, fc.nat()),
        data: octets(80),
        measured: octets(8),
      }),
      { maxLength: 30 },
    ),
  })
  .map(({ banks, events }) => buildLog(events, banks))
  // Eight zeros where an event begins are padding
  .filter(({ events }) => events.every(({ pcr, type }) => pcr !== 0 || type !== 0))

describe('reading', () => {
  test('any octets ends with a log or a refusal', () => {
    fc.assert(
      fc.property(octets(400), (input) => {
        judge(input)
      }),
      { numRuns: runs },
    )
  })

  test('any octets behind a header ends with a log or a refusal', () => {
    const header = encodeEventLog(buildLog([], ['sha256']))
    fc.assert(
      fc.property(octets(400), (input) => {
        judge(Buffer.concat([header, input]))
      }),
      { numRuns: runs },
    )
  })

  test('a real log with octets changed, removed or added ends with a log or a refusal', () => {
    const change = fc.record({
      at: fc.nat({ max: real.length }),
      remove: fc.nat({ max: 40 }),
      add: octets(40),
    })
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), (changes) => {
        let input = Buffer.from(real)
        for (const { at, remove, add } of changes) {
          input = Buffer.concat([input.subarray(0, at), add, input.subarray(at + remove)])
        }
        judge(input)
      }),
      { numRuns: runs / 4 },
    )
  })

  test('is the inverse of writing', () => {
    fc.assert(
      fc.property(anyLog, (log) => {
        expect(parseEventLog(encodeEventLog(log))).toEqual(log)
      }),
      { numRuns: runs / 4 },
    )
  })
})

describe('any log', () => {
  test('replays to a value of its size for each PCR that it extends', () => {
    fc.assert(
      fc.property(anyLog, fc.constantFrom('sha256' as const), (log, bank) => {
        const values = replayEventLog(log, bank)
        const extended = log.events.filter(({ type }) => type !== EVENT_TYPES.EV_NO_ACTION)
        expect(new Set(values.keys())).toEqual(new Set(extended.map(({ pcr }) => pcr)))
        for (const value of values.values()) {
          expect(value).toHaveLength(HASH_ALGORITHMS[bank].digestOctets)
        }
      }),
      { numRuns: runs / 4 },
    )
  })

  test('is described in short printable text', () => {
    const printable = /^[\x20-\x7e…]*$/
    fc.assert(
      fc.property(anyLog, (log) => {
        const { bootApplications, kernel, commandLine, firmwareVersion } = describeBoot(
          log,
          'sha256',
        )
        const texts = bootApplications.flatMap(({ name, path }) => [name, path])
        for (const text of [...texts, kernel, commandLine, firmwareVersion]) {
          expect(text ?? '').toMatch(printable)
        }
        for (const event of log.events) {
          const content = decodeEvent(event)
          if (content.kind === 'text') expect(content.text).toMatch(printable)
          if (content.kind === 'variable') expect(content.name).toMatch(printable)
          if (content.kind === 'image') expect(content.devicePath).toMatch(printable)
        }
      }),
      { numRuns: runs / 4 },
    )
  })

  test('differs in nothing from itself, and in something from another', () => {
    fc.assert(
      fc.property(anyLog, anyLog, (log, other) => {
        expect(compareBoots(log, log, 'sha256')).toEqual([])
        const replayed = (from: EventLog) =>
          JSON.stringify([...replayEventLog(from, 'sha256')].sort())
        const same = replayed(log) === replayed(other)
        expect(compareBoots(log, other, 'sha256').length === 0).toBe(same)
      }),
      { numRuns: runs / 4 },
    )
  })
})

describe('a flipped bit of a real log', () => {
  const log = parseEventLog(real)

  test('in any digest makes a PCR not replay', () => {
    for (const event of log.events) {
      for (const bit of bitsOf(32)) {
        const digest = flipped(event.digests.get('sha256') ?? new Uint8Array(32), bit)
        const digests = new Map([['sha256' as const, digest]])
        const events = log.events.with(event.index, { ...event, digests })
        const { findings } = verifyEventLog({ ...log, events }, 'sha256', quoted)
        expect(findings).toContainEqual(
          expect.objectContaining({ code: 'EVENTLOG_REPLAY', pcr: event.pcr }),
        )
      }
    }
  })

  /** Types, and data that the standard does not measure whole, are the host's word: a flip there changes no more. */
  test('anywhere else is refused, or changes nothing that was proved', () => {
    const untouched = verifyEventLog(log, 'sha256', quoted).summary
    const measured = log.events.map(({ digests }) => digests)
    fc.assert(
      fc.property(fc.nat({ max: real.length * 8 - 1 }), (bit) => {
        const read = judge(flipped(real, bit))
        if (!read) return
        const { findings, summary } = verifyEventLog(read, 'sha256', quoted)
        if (failures(findings).length > 0) return
        expect(summary.secureBoot).toBe(untouched.secureBoot)
        expect([untouched.commandLine, undefined]).toContain(summary.commandLine)
        for (const { digests } of summary.bootApplications) expect(measured).toContainEqual(digests)
      }),
      { numRuns: runs / 2 },
    )
  })
})

/** One bit of each octet, so that every octet is visited. */
function bitsOf(count: number): readonly number[] {
  return Array.from({ length: count }, (_, index) => index * 8 + (index % 8))
}

function flipped(input: Uint8Array, bit: number): Uint8Array {
  const copy = Uint8Array.from(input)
  copy[bit >> 3] = (copy[bit >> 3] ?? 0) ^ (1 << (bit & 7))
  return copy
}
