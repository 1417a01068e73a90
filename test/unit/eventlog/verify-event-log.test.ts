import { describe, expect, test } from 'vitest'
import { concat, utf8 } from '../../../src/core/bytes.js'
import { failures } from '../../../src/core/finding.js'
import {
  EVENT_TYPES,
  type EventLog,
  encodeEventLog,
  initialPcr,
  parseEventLog,
  replayEventLog,
  startupLocality,
  verifyEventLog,
} from '../../../src/eventlog/index.js'
import type { HashName } from '../../../src/tpm/index.js'
import { processorMsOf } from '../../helpers/processor-time.js'
import {
  action,
  application,
  buildLog,
  digestsOf,
  EXIT,
  LOADER,
  PLAIN_BOOT,
  SEPARATOR,
  secureBoot,
  separator,
  separatorOf,
  withEvent,
  withMore,
} from './build-log.js'

const log = buildLog(PLAIN_BOOT)

/** Codes of a log whose PCRs are what the log leads to: those of an attacker who extended what he wrote. */
function codesOf(attacked: EventLog, bank: HashName = 'sha256'): readonly string[] {
  return codesAgainst(attacked, replayEventLog(attacked, bank), bank)
}

function codesAgainst(
  attacked: EventLog,
  pcrValues: ReadonlyMap<number, Uint8Array>,
  bank: HashName = 'sha256',
): readonly string[] {
  const { findings } = verifyEventLog(attacked, bank, pcrValues)
  return [...new Set(failures(findings).map(({ code }) => code))]
}

const quoted = replayEventLog(log, 'sha256')

test.each(['sha256', 'sha384', 'sha512'] as const)('accepts a plain boot in bank %s', (bank) => {
  const plain = buildLog(PLAIN_BOOT, ['sha1', 'sha256', 'sha384', 'sha512'])
  expect(codesOf(plain, bank)).toEqual([])
})

describe('replay', () => {
  test('starts PCR 0 with the locality that an event tells, and PCR 17 to 22 with ones', () => {
    const locality: Parameters<typeof buildLog>[0][number] = {
      pcr: 0,
      type: 'EV_NO_ACTION',
      data: concat(utf8('StartupLocality\0'), Uint8Array.of(3)),
    }
    const started = buildLog([locality, ...PLAIN_BOOT])
    expect(startupLocality(started)).toBe(3)
    expect(initialPcr(0, 'sha256', 3).at(-1)).toBe(3)
    expect(initialPcr(1, 'sha256', 3)).toEqual(new Uint8Array(32))
    for (let pcr = 17; pcr <= 22; pcr += 1) {
      expect(initialPcr(pcr, 'sha256', 3)).toEqual(new Uint8Array(32).fill(0xff))
    }
    expect(codesAgainst(started, quoted)).toEqual(['EVENTLOG_REPLAY'])
    expect(codesOf(started)).toEqual([])
  })

  test('refuses a flipped digest, and names the PCR', () => {
    const digest = Uint8Array.from(log.events[LOADER]?.digests.get('sha256') ?? [])
    digest[0] = (digest[0] ?? 0) ^ 1
    const flipped = withEvent(log, LOADER, { digests: new Map([['sha256', digest]]) })
    const { findings } = verifyEventLog(flipped, 'sha256', quoted)
    expect(failures(findings)).toEqual([
      expect.objectContaining({ code: 'EVENTLOG_REPLAY', pcr: 4 }),
    ])
  })

  test('refuses a log without its last event, or without any other', () => {
    for (let index = 0; index < log.events.length; index += 1) {
      const without = { ...log, events: log.events.toSpliced(index, 1) }
      expect(codesAgainst(without, quoted)).toContain('EVENTLOG_REPLAY')
    }
  })

  test('refuses two events of one PCR that changed places', () => {
    const [first, second] = [log.events[EXIT], log.events[EXIT + 1]]
    if (!first || !second) throw new TypeError('two events')
    const swapped = { ...log, events: log.events.with(EXIT, second).with(EXIT + 1, first) }
    expect(codesAgainst(swapped, quoted)).toEqual(['EVENTLOG_REPLAY'])
  })

  test('refuses the log of another boot', () => {
    const other = buildLog(PLAIN_BOOT.with(LOADER, application('other.efi')))
    expect(codesAgainst(other, quoted)).toEqual(['EVENTLOG_REPLAY'])
  })

  test('refuses a value that no event explains', () => {
    const more = new Map(quoted).set(9, new Uint8Array(32).fill(1))
    expect(codesAgainst(log, more)).toEqual(['EVENTLOG_REPLAY'])
    expect(codesAgainst(log, new Map(quoted).set(17, new Uint8Array(32)))).toEqual([
      'EVENTLOG_REPLAY',
    ])
  })

  test('refuses a value of another length', () => {
    expect(codesAgainst(log, new Map(quoted).set(4, new Uint8Array()))).toEqual(['EVENTLOG_REPLAY'])
  })

  test.each([10, 16, 23])('leaves out PCR %i, which others extend', (pcr) => {
    const more = new Map(quoted).set(pcr, new Uint8Array(32).fill(1))
    expect(codesAgainst(log, more)).toEqual([])
  })

  test('refuses an event that is called one that extends nothing', () => {
    const hidden = withEvent(log, LOADER, { type: EVENT_TYPES.EV_NO_ACTION })
    expect(codesAgainst(hidden, quoted)).toEqual(['EVENTLOG_REPLAY'])
  })
})

describe('the bank', () => {
  test('must be in the log', () => {
    expect(codesOf(log, 'sha384')).toEqual(['EVENTLOG_BANK'])
  })

  test('of SHA-1 is never trusted, also where it replays', () => {
    const both = buildLog(PLAIN_BOOT, ['sha1', 'sha256'])
    expect(codesOf(both, 'sha1')).toEqual(['EVENTLOG_SHA1'])
    expect(codesOf(both, 'sha256')).toEqual([])
  })

  test('is not in a log of the older format, whatever bank is asked for', () => {
    const old: EventLog = {
      ...buildLog(PLAIN_BOOT, ['sha1']),
      format: 'sha1',
      header: new Uint8Array(),
    }
    const read = parseEventLog(encodeEventLog(old))
    for (const bank of ['sha1', 'sha256', 'sha384'] as const) {
      expect(codesOf(read, bank)).toEqual(['EVENTLOG_SHA1'])
    }
  })
})

describe('separators', () => {
  test.each([0, 1, 2, 3, 4, 5, 6, 7])('must be there: PCR %i', (pcr) => {
    const without = { ...log, events: log.events.toSpliced(separatorOf(pcr), 1) }
    expect(codesOf(without)).toContain('EVENTLOG_SEPARATOR')
  })

  test.each([0, 1, 2, 3, 4, 5, 6, 7])('must not come twice: PCR %i', (pcr) => {
    expect(codesOf(withMore(log, [separator(pcr)]))).toEqual(['EVENTLOG_SEPARATOR'])
  })

  test.each([
    'EV_EFI_ACTION',
    'EV_IPL',
    'EV_EFI_BOOT_SERVICES_APPLICATION',
    'EV_COMPACT_HASH',
  ] as const)(
    'must not be hidden under type %s, with a second one behind the events to hide',
    (type) => {
      const relabelled = withEvent(log, separatorOf(4), { type: EVENT_TYPES[type] })
      expect(codesOf(withMore(relabelled, [separator(4)]))).toContain('EVENTLOG_SEPARATOR')
    },
  )

  test('must not be hidden in PCR 7, in front of other Secure Boot settings', () => {
    const relabelled = withEvent(log, separatorOf(7), { type: EVENT_TYPES.EV_EFI_ACTION })
    const attacked = withMore(relabelled, [secureBoot([1]), separator(7)])
    expect(codesOf(attacked)).toContain('EVENTLOG_SEPARATOR')
  })

  test('may stand behind a first measurement of PCR 0 that is of four zeros', () => {
    const empty = { pcr: 0, type: 'EV_S_CRTM_CONTENTS', measured: SEPARATOR } as const
    expect(codesOf(withMore(log, [empty], 0))).toEqual([])
    expect(codesOf(withMore(log, [empty]))).toEqual(['EVENTLOG_SEPARATOR'])
  })

  test('must have the digest of a separator', () => {
    const digests = digestsOf(utf8('else'), ['sha256'])
    expect(codesOf(withEvent(log, separatorOf(4), { digests }))).toEqual(['EVENTLOG_SEPARATOR'])
  })

  test('must show the data that were measured', () => {
    for (const data of [Uint8Array.of(1, 0, 0, 0), new Uint8Array(), new Uint8Array(5)]) {
      expect(codesOf(withEvent(log, separatorOf(4), { data }))).toEqual(['EVENTLOG_DATA'])
    }
  })

  test('may be all ones', () => {
    const ones = new Uint8Array(4).fill(0xff)
    const change = { data: ones, digests: digestsOf(ones, ['sha256']) }
    expect(codesOf(withEvent(log, separatorOf(4), change))).toEqual([])
  })

  test('must not say that the firmware failed', () => {
    const error = Uint8Array.of(1, 0, 0, 0)
    const change = { data: error, digests: digestsOf(error, ['sha256']) }
    expect(codesOf(withEvent(log, separatorOf(4), change))).toEqual(['EVENTLOG_SEPARATOR'])
  })
})

describe('types', () => {
  test.each([0x02, 0x14, 0x8401, 0x8000_00ff, 0xffff_ffff])('0x%s is not known', (type) => {
    expect(codesOf(withMore(log, [{ pcr: 4, type, data: utf8('?') }]))).toEqual([
      'EVENTLOG_EVENT_TYPE',
    ])
  })

  test.each([
    [7, 'EV_EFI_BOOT_SERVICES_APPLICATION'],
    [4, 'EV_EFI_VARIABLE_DRIVER_CONFIG'],
    [0, 'EV_EFI_BOOT_SERVICES_APPLICATION'],
    [5, 'EV_EFI_VARIABLE_AUTHORITY'],
    [6, 'EV_IPL'],
    [1, 'EV_EFI_VARIABLE_AUTHORITY'],
  ] as const)('have their PCR: PCR %i has no %s', (pcr, type) => {
    expect(codesOf(withMore(log, [{ pcr, type, data: utf8('x') }]))).toContain(
      'EVENTLOG_EVENT_TYPE',
    )
  })

  test.each([8, 9, 11, 14])('are free in PCR %i, which the boot loader uses', (pcr) => {
    expect(codesOf(withMore(log, [{ pcr, type: 0xdead, data: utf8('x') }]))).toEqual([])
  })
})

describe('order', () => {
  test('refuses a boot application that was appended after boot services ended', () => {
    expect(codesOf(withMore(log, [application('good.efi')]))).toEqual(['EVENTLOG_ORDER'])
  })

  test.each([
    'Exit Boot Services Invocation',
    'Exit Boot Services Returned with Success',
    'Exit Boot Services Returned with Failure',
  ])('knows that boot services ended by "%s"', (text) => {
    const ended = buildLog([...PLAIN_BOOT.slice(0, EXIT), action(5, text), application('late.efi')])
    expect(codesOf(ended)).toEqual(['EVENTLOG_ORDER'])
  })

  test('cannot see one that was appended and is written in front of that: its PCR differs', () => {
    const attacked = withMore(log, [application('good.efi')], LOADER + 1)
    expect(codesOf(attacked)).toEqual([])
    expect(codesAgainst(attacked, quoted)).toEqual(['EVENTLOG_REPLAY'])
    const { summary } = verifyEventLog(attacked, 'sha256', quoted)
    expect(summary.bootApplications.map(({ name }) => name)).toEqual(['grubx64.efi', 'good.efi'])
  })

  test('accepts an application that the firmware starts before the separator', () => {
    expect(codesOf(withMore(log, [application('setup.efi')], 3))).toEqual([])
  })

  test('refuses Secure Boot settings behind the separator', () => {
    expect(codesOf(withMore(log, [secureBoot([1])]))).toEqual(['EVENTLOG_ORDER'])
  })

  test.each(['EV_EFI_ACTION', 'EV_ACTION'] as const)('refuses debug mode told by %s', (type) => {
    const debug = { pcr: 7, type, data: utf8('UEFI Debug Mode') }
    expect(codesOf(withMore(log, [debug], 3))).toEqual(['EVENTLOG_DEBUG_MODE'])
    const terminated = { ...debug, data: utf8('UEFI Debug Mode\0') }
    expect(codesOf(withMore(log, [terminated], 3))).toEqual(['EVENTLOG_DEBUG_MODE'])
  })
})

describe('data that were not measured', () => {
  test('are refused where the standard measures them whole', () => {
    const setting = log.events[2]
    if (!setting) throw new TypeError('the SecureBoot variable')
    const data = Uint8Array.from(setting.data)
    data[data.length - 1] = 0
    expect(codesAgainst(withEvent(log, 2, { data }), quoted)).toEqual(['EVENTLOG_DATA'])
    const quiet = withEvent(log, EXIT, { data: utf8('Exit Boot Services something') })
    expect(codesAgainst(quiet, quoted)).toEqual(['EVENTLOG_DATA'])
  })

  test('do not say that Secure Boot is on', () => {
    const off = buildLog(PLAIN_BOOT.with(2, secureBoot([0])))
    const lying = withEvent(off, 2, { data: log.events[2]?.data ?? new Uint8Array() })
    const { findings, summary } = verifyEventLog(lying, 'sha256', replayEventLog(off, 'sha256'))
    expect(summary.secureBoot).toBe('unknown')
    expect(failures(findings)).toEqual([
      expect.objectContaining({ code: 'EVENTLOG_DATA', pcr: 7, event: 2 }),
    ])
  })

  test('of an image name it for people, and prove nothing', () => {
    const renamed = withEvent(log, LOADER, { data: new Uint8Array(3) })
    expect(codesAgainst(renamed, quoted)).toEqual([])
  })
})

test('reports every event that is wrong, and the place of each', () => {
  const attacked = withMore(log, [application('a.efi'), secureBoot([1]), separator(0)])
  const { findings } = verifyEventLog(attacked, 'sha256', replayEventLog(attacked, 'sha256'))
  expect(failures(findings)).toEqual([
    expect.objectContaining({ code: 'EVENTLOG_ORDER', pcr: 4, event: EXIT + 2 }),
    expect.objectContaining({ code: 'EVENTLOG_ORDER', pcr: 7, event: EXIT + 3 }),
    expect.objectContaining({ code: 'EVENTLOG_SEPARATOR', pcr: 0, event: EXIT + 4 }),
  ])
})

test('reads and verifies 20 000 events in linear time', async () => {
  const timeOf = async (count: number): Promise<number> => {
    const grub = Array.from({ length: count - PLAIN_BOOT.length }, (_, index) => ({
      pcr: 8,
      type: 'EV_IPL' as const,
      data: Uint8Array.of(index),
    }))
    const octets = encodeEventLog(buildLog([...PLAIN_BOOT, ...grub]))
    const values = replayEventLog(parseEventLog(octets), 'sha256')
    return await processorMsOf(() => {
      const { findings } = verifyEventLog(parseEventLog(octets), 'sha256', values)
      expect(failures(findings)).toEqual([])
    })
  }
  await timeOf(2_000)
  const [small, large] = [await timeOf(2_000), await timeOf(20_000)]
  // Ten times the events; a quadratic step would take a hundred times as long
  expect(large).toBeLessThan(Math.max(small, 5) * 40)
  expect(large).toBeLessThan(2_000)
})
