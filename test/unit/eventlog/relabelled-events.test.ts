import { describe, expect, test } from 'vitest'
import { utf8 } from '../../../src/core/bytes.js'
import { failures } from '../../../src/core/finding.js'
import {
  EVENT_TYPES,
  type EventLog,
  type EventTypeName,
  replayEventLog,
  verifyEventLog,
} from '../../../src/eventlog/index.js'
import {
  action,
  application,
  authority,
  buildLog,
  DBX,
  type EventPlan,
  EXIT,
  LOADER,
  PLAIN_BOOT,
  secureBoot,
  setting,
  withEvent,
  withMore,
} from './build-log.js'

/** What an attacker with code on the host can do: extend what he writes, and give any type and data to any event. */
const log = buildLog(PLAIN_BOOT)
const AUTHORITY = LOADER - 1
const BOOT_OPTION = 7

const verdictOf = (attacked: EventLog) =>
  verifyEventLog(attacked, 'sha256', replayEventLog(attacked, 'sha256'))
const codesOf = (attacked: EventLog): readonly string[] => [
  ...new Set(failures(verdictOf(attacked).findings).map(({ code }) => code)),
]
const called = (index: number, type: EventTypeName, data?: Uint8Array) =>
  withEvent(log, index, { type: EVENT_TYPES[type], ...(data ? { data } : {}) })

test('the boot itself is accepted', () => expect(codesOf(log)).toEqual([]))

describe('an authority is not hidden', () => {
  test.each([
    'EV_IPL',
    'EV_EVENT_TAG',
    'EV_COMPACT_HASH',
    'EV_PLATFORM_CONFIG_FLAGS',
    'EV_EFI_BOOT_SERVICES_DRIVER',
    'EV_EFI_VARIABLE_BOOT',
    'EV_EFI_VARIABLE_BOOT2',
    'EV_EFI_GPT_EVENT',
  ] as const)('as %s', (type) => {
    expect(codesOf(called(AUTHORITY, type))).toContain('EVENTLOG_EVENT_TYPE')
  })

  test.each(['EV_EFI_ACTION', 'EV_ACTION'] as const)('as %s: its data are no text', (type) => {
    expect(codesOf(called(AUTHORITY, type))).toContain('EVENTLOG_DATA')
    expect(codesOf(called(AUTHORITY, type, utf8('something')))).toContain('EVENTLOG_DATA')
  })

  test('behind other data', () => {
    const other = authority(new Uint8Array(48).fill(2)).data ?? new Uint8Array()
    expect(codesOf(withEvent(log, AUTHORITY, { data: other }))).toEqual([
      'EVENTLOG_DATA',
      'EVENTLOG_SECURE_BOOT',
    ])
  })
})

describe('a boot application is not hidden', () => {
  test.each([
    'EV_EVENT_TAG',
    'EV_EFI_VARIABLE_BOOT',
    'EV_EFI_GPT_EVENT',
    'EV_EFI_PLATFORM_FIRMWARE_BLOB',
    'EV_POST_CODE',
  ] as const)('as %s, which PCR 4 does not have', (type) => {
    expect(codesOf(called(LOADER, type))).toContain('EVENTLOG_EVENT_TYPE')
  })

  test.each(['EV_IPL', 'EV_COMPACT_HASH', 'EV_EFI_BOOT_SERVICES_DRIVER'] as const)(
    'as %s: the summary lists it by its digest',
    (type) => {
      const [application_] = verdictOf(called(LOADER, type)).summary.bootApplications
      expect(application_?.event).toBe(LOADER)
      expect(application_?.digests).toEqual(log.events[LOADER]?.digests)
    },
  )

  test('as an action: the digest is not that of its text', () => {
    const hidden = called(LOADER, 'EV_EFI_ACTION', utf8('Returning'))
    expect(codesOf(hidden)).toEqual(['EVENTLOG_DATA'])
    expect(verdictOf(hidden).summary.bootApplications).toHaveLength(1)
  })
})

describe('debug mode is not hidden', () => {
  const debugged = withMore(log, [action(7, 'UEFI Debug Mode')], 3)

  test.each(['EV_EFI_ACTION', 'EV_ACTION', 'EV_EFI_VARIABLE_DRIVER_CONFIG'] as const)(
    'as %s with other data',
    (type) => {
      const change = { type: EVENT_TYPES[type], data: utf8('DMA Protection Disabled') }
      const hidden = withEvent(debugged, 3, change)
      expect(codesOf(hidden)).toEqual(['EVENTLOG_DEBUG_MODE'])
      expect(verdictOf(hidden).summary.debug).toBe(true)
    },
  )

  test('in any PCR of the firmware, or with the zero behind its text measured', () => {
    const elsewhere = withMore(log, [action(0, 'UEFI Debug Mode')], 0)
    expect(codesOf(elsewhere)).toEqual(['EVENTLOG_DEBUG_MODE'])
    const ended = withMore(log, [action(7, 'UEFI Debug Mode\0')], 3)
    expect(codesOf(ended)).toEqual(['EVENTLOG_DEBUG_MODE'])
    expect(verdictOf(ended).summary.debug).toBe(true)
    expect(verdictOf(log).summary.debug).toBe(false)
  })
})

describe('the end of boot services is not hidden', () => {
  test.each(['EV_IPL', 'EV_EVENT_TAG', 'EV_EFI_GPT_EVENT2'] as const)('as %s', (type) => {
    const hidden = withEvent(called(EXIT, type), EXIT + 1, { type: EVENT_TYPES[type] })
    expect(codesOf(hidden)).toEqual(['EVENTLOG_EVENT_TYPE'])
    expect(codesOf(withMore(hidden, [application('late.efi')]))).toContain('EVENTLOG_ORDER')
  })
})

describe('actions of the firmware stand under their type alone', () => {
  test.each(['EV_IPL', 'EV_COMPACT_HASH', 'EV_EFI_BOOT_SERVICES_APPLICATION'] as const)(
    'and not under %s',
    (type) => {
      expect(codesOf(called(BOOT_OPTION, type))).toContain('EVENTLOG_EVENT_TYPE')
    },
  )
})

describe('nothing is appended', () => {
  const appended: readonly EventPlan[] = [
    { pcr: 0, type: 'EV_S_CRTM_VERSION', data: new Uint8Array(Buffer.from('2.0\0', 'utf16le')) },
    { pcr: 0, type: 'EV_EFI_PLATFORM_FIRMWARE_BLOB', data: new Uint8Array(16) },
    { pcr: 0, type: 'EV_POST_CODE', data: utf8('ACPI DATA') },
    {
      pcr: 1,
      type: 'EV_EFI_VARIABLE_DRIVER_CONFIG',
      data: setting('Any', utf8('x')).data ?? utf8(''),
    },
    { pcr: 1, type: 'EV_CPU_MICROCODE', data: utf8('microcode') },
    { pcr: 2, type: 'EV_EFI_BOOT_SERVICES_APPLICATION', data: utf8('x') },
    { pcr: 3, type: 'EV_NONHOST_CONFIG', data: utf8('x') },
    { pcr: 6, type: 'EV_COMPACT_HASH', data: utf8('x') },
    secureBoot([1]),
    action(7, 'DMA Protection Disabled'),
  ]

  test.each(appended)('behind the separator of its PCR: %j', (plan) => {
    expect(codesOf(withMore(log, [plan], EXIT))).toEqual(['EVENTLOG_ORDER'])
  })

  const late: readonly EventPlan[] = [
    ...appended,
    authority(),
    application('late.efi'),
    { pcr: 1, type: 'EV_EFI_HANDOFF_TABLES', data: new Uint8Array(8) },
    { pcr: 2, type: 'EV_EFI_BOOT_SERVICES_DRIVER', data: utf8('x') },
    { pcr: 4, type: 'EV_IPL', data: utf8('x') },
    { pcr: 5, type: 'EV_EVENT_TAG', data: utf8('x'.repeat(9)) },
    action(4, 'Returning from EFI Application from Boot Option'),
  ]

  test.each(late)('behind the end of boot services: %j', (plan) => {
    expect(codesOf(withMore(log, [plan]))).toEqual(['EVENTLOG_ORDER'])
  })

  test('of a firmware version in place of the real one', () => {
    const hidden = called(0, 'EV_S_CRTM_CONTENTS')
    const version = { ...PLAIN_BOOT[0], pcr: 0, type: 'EV_S_CRTM_VERSION' as const }
    const newer = { ...version, data: new Uint8Array(Buffer.from('2.0\0', 'utf16le')) }
    const attacked = withMore(hidden, [newer], EXIT)
    expect(codesOf(attacked)).toEqual(['EVENTLOG_ORDER'])
    expect(verdictOf(attacked).summary.firmwareVersion).toBeUndefined()
    expect(verdictOf(withMore(log, [newer], EXIT)).summary.firmwareVersion).toBe('1.0')
  })

  test.each([
    [1, 'EV_EFI_HANDOFF_TABLES'],
    [1, 'EV_EVENT_TAG'],
    [2, 'EV_EFI_BOOT_SERVICES_DRIVER'],
    [5, 'EV_EVENT_TAG'],
  ] as const)('but what comes late in PCR %i: %s', (pcr, type) => {
    const measured = utf8('measured')
    const tag = Uint8Array.of(0x2a, 0x58, 0xbc, 0xf5, 1, 0, 0, 0, 0x41)
    expect(codesOf(withMore(log, [{ pcr, type, data: tag, measured }], EXIT))).toEqual([])
  })
})

describe('Secure Boot settings', () => {
  const without = (index: number) => buildLog(PLAIN_BOOT.toSpliced(index, 1))

  test.each([2, 3, 4, 5, 6])('are there once each: not without event %i', (index) => {
    expect(codesOf(without(index))).toContain('EVENTLOG_SECURE_BOOT')
  })

  test.each([2, 3, 4, 5, 6])('are there once each: not with event %i twice', (index) => {
    const plan = PLAIN_BOOT[index]
    expect(codesOf(withMore(log, plan ? [plan] : [], 7))).toEqual(['EVENTLOG_SECURE_BOOT'])
  })

  test('come in their order', () => {
    const [first, second] = [PLAIN_BOOT[5], PLAIN_BOOT[6]]
    if (!first || !second) throw new TypeError('two settings')
    expect(codesOf(buildLog(PLAIN_BOOT.with(5, second).with(6, first)))).toEqual([
      'EVENTLOG_SECURE_BOOT',
    ])
  })

  test('may be missing altogether, and say nothing then', () => {
    const none = buildLog(PLAIN_BOOT.toSpliced(2, 5))
    expect(codesOf(none)).toEqual([])
    expect(verdictOf(none).summary).toMatchObject({ secureBoot: 'unknown' })
    expect(verdictOf(none).summary.dbx).toBeUndefined()
  })

  test.each(['PK', 'KEK', 'db'] as const)('have a %s where Secure Boot is on', (name) => {
    const index = PLAIN_BOOT.findIndex((_, at) => at === { PK: 3, KEK: 4, db: 5 }[name])
    const guid =
      name === 'db' ? (PLAIN_BOOT[5]?.data ?? new Uint8Array()).subarray(0, 16) : undefined
    const empty = (value: readonly number[]) =>
      buildLog(
        PLAIN_BOOT.with(index, setting(name, new Uint8Array(), guid)).with(2, secureBoot(value)),
      )
    expect(codesOf(empty([1]))).toEqual(['EVENTLOG_SECURE_BOOT'])
    expect(codesOf(empty([0]))).toEqual([])
  })

  test('have an authority that allowed what was booted, where Secure Boot is on', () => {
    expect(codesOf(without(AUTHORITY))).toEqual(['EVENTLOG_SECURE_BOOT'])
    const off = PLAIN_BOOT.with(2, secureBoot([0])).toSpliced(AUTHORITY, 1)
    expect(codesOf(buildLog(off))).toEqual([])
  })

  test('are reported as they are where nothing is wrong', () => {
    const { findings } = verdictOf(log)
    expect(findings.find(({ check }) => check === 'event-log.secure-boot')?.found).toBe('on')
  })

  test('do not forbid less than was measured', () => {
    const { summary } = verdictOf(log)
    expect(summary.dbx).toMatchObject({ covered: true, hashes: ['01'.repeat(32)] })
    const altered = Uint8Array.from(log.events[DBX]?.data ?? [])
    altered[altered.length - 1] = 2
    const lying = verdictOf(withEvent(log, DBX, { data: altered })).summary
    expect(lying.dbx).toMatchObject({ covered: false, hashes: [] })
  })
})

describe('quirks of real machines are accepted, and named', () => {
  const quirksOf = (read: EventLog) =>
    verdictOf(read).findings.find(({ check }) => check === 'event-log.quirks')?.found

  test('none where there is none', () => expect(quirksOf(log)).toBeUndefined())

  test('no end of boot services', () => {
    const endless = buildLog(PLAIN_BOOT.slice(0, EXIT))
    expect(codesOf(endless)).toEqual([])
    expect(quirksOf(endless)).toBe('no-exit-boot-services')
  })

  test('an application before the firmware says that it boots', () => {
    const early = buildLog(PLAIN_BOOT.toSpliced(BOOT_OPTION, 1))
    expect(codesOf(early)).toEqual([])
    expect(quirksOf(early)).toBe('application-before-boot-option')
  })

  test('an octet behind an authority', () => {
    const { data = new Uint8Array() } = authority()
    const logged = new Uint8Array([...data, 0])
    const old = withEvent(log, AUTHORITY, { data: logged })
    expect(codesOf(old)).toEqual([])
    expect(quirksOf(old)).toBe('octet-behind-authority')
  })

  test('a firmware version that was not measured', () => {
    const unmeasured = withEvent(log, 0, { data: utf8('2.0') })
    expect(codesOf(unmeasured)).toEqual([])
    expect(quirksOf(unmeasured)).toBe('firmware-version-not-measured')
    expect(verdictOf(unmeasured).summary.firmwareVersion).toBeUndefined()
  })

  test('padding behind the last event', () => {
    expect(quirksOf({ ...log, quirks: ['padding-after-last-event'] })).toBe(
      'padding-after-last-event',
    )
  })
})

describe('events of PCRs that were not quoted', () => {
  const quoted = new Map([...replayEventLog(log, 'sha256')].filter(([pcr]) => pcr !== 7))

  test('are named, and the summary says nothing of them', () => {
    const { findings, summary } = verifyEventLog(log, 'sha256', quoted)
    expect(failures(findings)).toEqual([])
    expect(findings.find(({ check }) => check === 'event-log.unquoted')?.found).toBe('PCR 7')
    expect(summary.secureBoot).toBe('unknown')
    expect(summary.dbx).toBeUndefined()
    expect(summary.bootApplications).toHaveLength(1)
  })

  test('are not named where all were quoted', () => {
    const checks = verdictOf(log).findings.map(({ check }) => check)
    expect(checks).not.toContain('event-log.unquoted')
  })
})
