import { describe, expect, test } from 'vitest'
import { toHex } from '../../src/core/bytes.js'
import { failures } from '../../src/core/finding.js'
import {
  compareBoots,
  decodeEvent,
  EVENT_TYPES,
  encodeEventLog,
  isDataCovered,
  parseEventLog,
  replayEventLog,
  verifyEventLog,
  withEventDigests,
} from '../../src/eventlog/index.js'
import { MEASURED_BOOT_VARIANTS, measuredBoot, measuredPcrs } from '../helpers/vectors.js'

/** Real boots of OVMF, read in the guest: see test/vectors/measured-boot/MANIFEST.md. */
const LOGGED = MEASURED_BOOT_VARIANTS.filter((variant) => !variant.includes('no-event-log'))
const UKI = '01-uki-sb-off'
const GRUB = '04-shim-grub-sb-on-mskeys'

const logOf = (variant: string) => parseEventLog(measuredBoot(variant, 'binary_bios_measurements'))

function codesOf(log: ReturnType<typeof logOf>, variant: string): readonly string[] {
  return failures(verifyEventLog(log, 'sha256', measuredPcrs(variant)).findings).map(
    ({ code }) => code,
  )
}

describe.each(LOGGED)('%s', (variant) => {
  test('verifies against the PCRs of the guest, without a finding', () => {
    const { findings } = verifyEventLog(logOf(variant), 'sha256', measuredPcrs(variant))
    expect(failures(findings)).toEqual([])
    expect(findings.find(({ check }) => check === 'event-log.replay')?.found).toBe(
      'PCR 0,1,2,3,4,5,6,7,8,9,11,12,13,14,15,17,18,19,20,21,22',
    )
  })

  test('is written as it was read', () => {
    expect(toHex(encodeEventLog(logOf(variant)))).toBe(
      toHex(measuredBoot(variant, 'binary_bios_measurements')),
    )
  })

  test('is refused without any one of its events, or with one of them changed', () => {
    const log = logOf(variant)
    for (const { index } of log.events) {
      const without = { ...log, events: log.events.toSpliced(index, 1) }
      expect(codesOf(without, variant)).toContain('EVENTLOG_REPLAY')
      const flipped = withEventDigests(log, index, () => new Uint8Array(32).fill(index))
      expect(codesOf(flipped, variant)).toContain('EVENTLOG_REPLAY')
    }
  })
})

test('three banks replay, each to its own values', () => {
  const log = logOf('05-uki-sb-on-multibank-tis')
  expect(log.banks).toEqual(['sha1', 'sha256', 'sha384'])
  for (const bank of log.banks) expect(replayEventLog(log, bank).get(0)).toBeDefined()
})

test.each([
  [UKI, { secureBoot: 'off', kernel: 'unified kernel image BOOTX64.EFI' }],
  ['05-uki-sb-on-multibank-tis', { secureBoot: 'on' }],
  [GRUB, { secureBoot: 'on', kernel: '/vmlinuz' }],
] as const)('%s is described as it was booted', (variant, expected) => {
  const { summary } = verifyEventLog(logOf(variant), 'sha256', measuredPcrs(variant))
  expect(summary).toMatchObject(expected)
})

test('GRUB names its boot loaders, kernel and command line', () => {
  const { summary } = verifyEventLog(logOf(GRUB), 'sha256', measuredPcrs(GRUB))
  expect(summary.commandLine).toBe('/vmlinuz console=ttyS0 ima_policy=tcb vspike.imadisk')
  expect(summary.bootApplications.map(({ name }) => name).slice(0, 2)).toEqual([
    'BOOTX64.EFI',
    'grubx64.efi',
  ])
})

test('refuses the log of one boot with the PCRs of another', () => {
  const { findings } = verifyEventLog(
    logOf(UKI),
    'sha256',
    measuredPcrs('03-uki-sb-off-other-cmdline'),
  )
  expect(failures(findings).map(({ code, pcr }) => ({ code, pcr }))).toEqual([
    { code: 'EVENTLOG_REPLAY', pcr: 4 },
    { code: 'EVENTLOG_REPLAY', pcr: 9 },
    { code: 'EVENTLOG_REPLAY', pcr: 11 },
  ])
})

test('refuses PCRs without a log, and a log without the end of the boot', () => {
  const header = encodeEventLog({ ...logOf(UKI), events: [] })
  expect(codesOf(parseEventLog(header), UKI)).toContain('EVENTLOG_REPLAY')
})

test('names what another command line changed, and nothing where nothing did', () => {
  const differences = compareBoots(logOf(UKI), logOf('03-uki-sb-off-other-cmdline'), 'sha256')
  expect([...new Set(differences.map(({ pcr }) => pcr))]).toEqual([4, 9, 11])
  expect(differences[0]?.sentence).toMatch(/^PCR 4: BOOTX64\.EFI: was sha256:/)
  expect(compareBoots(logOf(UKI), logOf('10-repeat-of-01-other-vtpm'), 'sha256')).toEqual([])
})

test('refuses changed data wherever the standard measures them whole', () => {
  const log = logOf(GRUB)
  const measuredWhole: readonly number[] = [
    EVENT_TYPES.EV_SEPARATOR,
    EVENT_TYPES.EV_EFI_ACTION,
    EVENT_TYPES.EV_EFI_GPT_EVENT,
    EVENT_TYPES.EV_EFI_VARIABLE_BOOT,
    EVENT_TYPES.EV_EFI_VARIABLE_DRIVER_CONFIG,
    EVENT_TYPES.EV_EFI_VARIABLE_AUTHORITY,
  ]
  for (const event of log.events) {
    const data = Uint8Array.from(event.data)
    const last = data.length - 1
    data[last] = (data[last] ?? 0) ^ 0x20
    const changed = { ...log, events: log.events.with(event.index, { ...event, data }) }
    const expected = measuredWhole.includes(event.type) ? ['EVENTLOG_DATA'] : []
    expect([...new Set(codesOf(changed, GRUB))]).toEqual(expected)
    const read = changed.events[event.index]
    if (read && data.length > 0) expect(isDataCovered(read, 'sha256')).toBe(false)
  }
})

/** The firmware measures the value of a boot variable, not its name: nobody can tell which variable it was. */
test('replays a log in which the name of a boot variable was altered, and takes no word of it for proved', () => {
  const log = logOf(GRUB)
  const event = log.events.find(({ type }) => type === EVENT_TYPES.EV_EFI_VARIABLE_BOOT)
  if (!event) throw new TypeError('a boot variable')
  const data = Uint8Array.from(event.data)
  data[32] = 'X'.charCodeAt(0)
  const altered = { ...event, data }
  expect(decodeEvent(altered)).toMatchObject({ kind: 'variable', name: 'XootOrder' })
  const changed = { ...log, events: log.events.with(event.index, altered) }
  expect(codesOf(changed, GRUB)).toEqual([])
  expect(isDataCovered(altered, 'sha256')).toBe(false)
  const { summary } = verifyEventLog(changed, 'sha256', measuredPcrs(GRUB))
  expect(summary).toEqual(verifyEventLog(log, 'sha256', measuredPcrs(GRUB)).summary)
})

test.each([
  [EVENT_TYPES.EV_SEPARATOR, EVENT_TYPES.EV_EFI_ACTION, 'EVENTLOG_SEPARATOR'],
  [EVENT_TYPES.EV_EFI_VARIABLE_AUTHORITY, 0x14, 'EVENTLOG_EVENT_TYPE'],
  [EVENT_TYPES.EV_EFI_GPT_EVENT, EVENT_TYPES.EV_SEPARATOR, 'EVENTLOG_SEPARATOR'],
  [
    EVENT_TYPES.EV_EFI_VARIABLE_AUTHORITY,
    EVENT_TYPES.EV_EFI_VARIABLE_DRIVER_CONFIG,
    'EVENTLOG_ORDER',
  ],
  [EVENT_TYPES.EV_EFI_VARIABLE_BOOT, EVENT_TYPES.EV_EFI_VARIABLE_DRIVER_CONFIG, 'EVENTLOG_DATA'],
])('refuses each event of type %i that is called %i, though it replays', (from, to, code) => {
  const log = logOf(GRUB)
  const events = log.events.filter(({ type }) => type === from)
  expect(events).not.toEqual([])
  for (const event of events) {
    const relabelled = { ...log, events: log.events.with(event.index, { ...event, type: to }) }
    expect(codesOf(relabelled, GRUB)).toContain(code)
  }
})
