import { describe, expect, test } from 'vitest'
import { utf8 } from '../../../src/core/bytes.js'
import {
  compareBoots,
  decodeEvent,
  describeBoot,
  type EventLog,
  withEventDigests,
} from '../../../src/eventlog/index.js'
import {
  application,
  buildLog,
  digestsOf,
  type EventPlan,
  imageData,
  LOADER,
  PLAIN_BOOT,
  secureBoot,
  variableData,
  withEvent,
  withMore,
} from './build-log.js'

const log = buildLog(PLAIN_BOOT)

function grub(command: string, measured = command, prefix = 'kernel_cmdline: '): EventPlan {
  return { pcr: 8, type: 'EV_IPL', data: utf8(`${prefix}${command}\0`), measured: utf8(measured) }
}

/** What GRUB measures of a kernel: the command that loads it, and its command line. */
const loads = (command: string): readonly EventPlan[] => [
  grub(`linux ${command}`, `linux ${command}`, 'grub_cmd: '),
  grub(command),
]

describe('a boot is described by', () => {
  test('its firmware, boot loader, kernel and command line', () => {
    const booted = withMore(log, loads('/vmlinuz root=/dev/vda2 quiet'))
    expect(describeBoot(booted, 'sha256')).toMatchObject({
      secureBoot: 'on',
      firmwareVersion: '1.0',
      bootApplications: [{ event: LOADER, name: 'grubx64.efi', path: '\\EFI\\BOOT\\grubx64.efi' }],
      kernel: '/vmlinuz',
      commandLine: '/vmlinuz root=/dev/vda2 quiet',
    })
  })

  test.each([
    [[1], 'on'],
    [[0], 'off'],
    [[], 'unknown'],
    [[2], 'unknown'],
    [[1, 0], 'unknown'],
  ] as const)('Secure Boot: a variable of %j says %s', (value, expected) => {
    const booted = buildLog(PLAIN_BOOT.with(2, secureBoot(value)))
    expect(describeBoot(booted, 'sha256').secureBoot).toBe(expected)
  })

  test('no Secure Boot state where the variable is missing, twice, or of another vendor', () => {
    const missing = { ...log, events: log.events.toSpliced(2, 1) }
    const twice = withMore(log, [secureBoot([1])], 3)
    const foreign = {
      pcr: 7,
      type: 'EV_EFI_VARIABLE_DRIVER_CONFIG',
      data: variableData('SecureBoot', Uint8Array.of(1), new Uint8Array(16)),
    } as const
    for (const booted of [missing, twice, buildLog(PLAIN_BOOT.with(2, foreign))]) {
      expect(describeBoot(booted, 'sha256').secureBoot).toBe('unknown')
    }
  })

  test('a variable behind the separator says nothing', () => {
    const late = withMore(buildLog(PLAIN_BOOT.toSpliced(2, 1)), [secureBoot([1])])
    expect(describeBoot(late, 'sha256').secureBoot).toBe('unknown')
  })

  test('no command line that was not measured', () => {
    const command = grub('linux /vmlinuz quiet', 'linux /vmlinuz quiet', 'grub_cmd: ')
    const lying = withMore(log, [command, grub('/vmlinuz quiet', '/vmlinuz init=/bin/sh')])
    expect(describeBoot(lying, 'sha256').commandLine).toBeUndefined()
    expect(describeBoot(lying, 'sha256').kernel).toBeUndefined()
  })

  test('no command line that a running system put beside the real one', () => {
    const [command, real] = loads('/vmlinuz init=/bin/sh')
    if (!command || !real) throw new TypeError('what GRUB measures')
    const append = (...first: readonly EventPlan[]) =>
      withMore(log, [...first, ...loads('/vmlinuz quiet')])
    const altered = append(command, { ...real, data: utf8('grub_cmd: something else') })
    const stripped = append(command, { ...real, data: new Uint8Array() })
    const relabelled = append(command, { ...real, type: 'EV_EFI_ACTION' })
    const renamed = append(command, { ...real, data: utf8('grub_cmd: /vmlinuz init=/bin/sh\0') })
    for (const attacked of [append(command, real), altered, stripped, relabelled, renamed]) {
      expect(describeBoot(attacked, 'sha256').commandLine).toBeUndefined()
    }
  })

  describe('the command line of a unified kernel image', () => {
    const wide = (text: string) => new Uint8Array(Buffer.from(text, 'utf16le'))
    const stub = (text: string, measured = text): EventPlan => ({
      pcr: 12,
      type: 'EV_IPL',
      data: wide(`${text}\0`),
      measured: wide(measured),
    })
    const lineOf = (...plans: readonly EventPlan[]) =>
      describeBoot(withMore(log, plans), 'sha256').commandLine

    test('that was measured once, or twice the same', () => {
      expect(lineOf(stub('root=/dev/vda'))).toBe('root=/dev/vda')
      expect(lineOf(stub('root=/dev/vda'), stub('root=/dev/vda'))).toBe('root=/dev/vda')
    })

    test('and none that was not measured, or stands beside another event of its PCR', () => {
      const tag = { pcr: 12, type: 'EV_EVENT_TAG', data: utf8('x') } as const
      expect(lineOf(stub('quiet', 'init=/bin/sh'))).toBeUndefined()
      expect(lineOf(stub('init=/bin/sh'), stub('quiet'))).toBeUndefined()
      expect(lineOf(tag, stub('quiet'))).toBeUndefined()
    })
  })

  test('microcode that the firmware loaded', () => {
    const update = { pcr: 1, type: 'EV_CPU_MICROCODE', data: utf8('revision A1') } as const
    const { microcode } = describeBoot(withMore(log, [update], 0), 'sha256')
    expect(microcode).toMatchObject([{ event: 0, text: 'revision A1' }])
    expect(describeBoot(log, 'sha256').microcode).toBeUndefined()
  })

  test('the command line that was measured, whatever type its event is given', () => {
    const events = loads('/vmlinuz quiet')
    const booted = withMore(
      log,
      events.map((event) => ({ ...event, type: 'EV_S_CRTM_VERSION' as const })),
    )
    expect(describeBoot(booted, 'sha256').commandLine).toBe('/vmlinuz quiet')
  })
})

describe('text of a log', () => {
  const textOf = (type: 'EV_IPL' | 'EV_EFI_ACTION' | 'EV_S_CRTM_VERSION', data: Uint8Array) => {
    const event = buildLog([{ pcr: 0, type, data }]).events[0]
    const content = event && decodeEvent(event)
    return content?.kind === 'text' ? content.text : undefined
  }

  test('has no control characters, and nothing but ASCII', () => {
    expect(textOf('EV_IPL', utf8('a\u001b[2Jb\r\nc'))).toBe('a\\u001b[2Jb\\u000d\\u000ac')
    expect(textOf('EV_S_CRTM_VERSION', Buffer.from('\u202e1.0\0', 'utf16le'))).toBe('\\u202e1.0')
  })

  test('is short, whatever the host wrote', () => {
    const long = textOf('EV_EFI_ACTION', new Uint8Array(100_000).fill(0x41))
    expect(long?.length).toBe(4097)
    expect(long?.endsWith('…')).toBe(true)
  })

  test.each([
    'EV_EFI_VARIABLE_DRIVER_CONFIG',
    'EV_EFI_BOOT_SERVICES_APPLICATION',
    'EV_EVENT_TAG',
  ] as const)('is left alone where the data of %s cannot be read', (type) => {
    const datas = [new Uint8Array(), new Uint8Array(7), new Uint8Array(32).fill(0xff)]
    for (const data of datas) {
      const event = buildLog([{ pcr: 7, type, data }]).events[0]
      expect(event && decodeEvent(event)).toEqual({ kind: 'opaque' })
    }
  })

  test('ends with a device path node that has no length', () => {
    const data = imageData('x.efi')
    data[34] = 0
    data[35] = 0
    const event = buildLog([{ pcr: 4, type: 'EV_EFI_BOOT_SERVICES_APPLICATION', data }]).events[0]
    expect(event && decodeEvent(event)).toMatchObject({ kind: 'image', devicePath: '' })
  })
})

describe('two boots', () => {
  const sentences = (found: EventLog) =>
    compareBoots(log, found, 'sha256').map(({ sentence }) => sentence)

  test('that are the same differ in nothing', () => {
    expect(sentences(buildLog(PLAIN_BOOT))).toEqual([])
  })

  test('with another boot loader differ in it', () => {
    const found = withEventDigests(log, LOADER, () => new Uint8Array(32).fill(0xab))
    expect(sentences(found)).toEqual([
      expect.stringMatching(/^PCR 4: grubx64\.efi: was sha256:[0-9a-f]{64}, now sha256:(ab){32}$/),
    ])
  })

  test('with more or fewer events differ in these', () => {
    expect(sentences(withMore(log, [application('extra.efi')], LOADER + 1))).toEqual([
      expect.stringMatching(/^PCR 4: extra\.efi: is new, sha256:/),
    ])
    expect(sentences({ ...log, events: log.events.toSpliced(LOADER, 1) })).toEqual([
      expect.stringMatching(/^PCR 4: grubx64\.efi: is missing, was sha256:/),
    ])
  })

  test('with other Secure Boot settings differ in the variable', () => {
    expect(sentences(buildLog(PLAIN_BOOT.with(2, secureBoot([0]))))).toEqual([
      expect.stringMatching(/^PCR 7: variable SecureBoot: was sha256:.*, now sha256:/),
    ])
  })

  test('that differ in everything are told in a few sentences for each PCR', () => {
    const many = Array.from({ length: 1000 }, (_, index) => grub(`/vmlinuz ${index}`))
    const told = sentences(withMore(log, many))
    expect(told).toHaveLength(5)
    expect(told.at(-1)).toBe('PCR 8: and 996 more events')
  })

  test('without digests of the bank are never the same', () => {
    const other = withEvent(log, LOADER, { digests: digestsOf(utf8('x'), ['sha384']) })
    expect(sentences(other)).toEqual([expect.stringContaining('now no sha256 digest')])
  })
})
