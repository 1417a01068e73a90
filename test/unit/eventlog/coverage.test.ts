import { describe, expect, test } from 'vitest'
import { concat, utf8 } from '../../../src/core/bytes.js'
import {
  coverageOf,
  EVENT_TYPES,
  type EventTypeName,
  isDataCovered,
} from '../../../src/eventlog/index.js'
import { buildLog, imageData, variableData } from './build-log.js'

function coverage(type: EventTypeName | number, data: Uint8Array, measured = data) {
  const [event] = buildLog([{ pcr: 8, type, data, measured }]).events
  if (!event) throw new TypeError('an event')
  const { kind, part } = coverageOf(event, 'sha256')
  expect(isDataCovered(event, 'sha256')).toBe(kind === 'data')
  return part ? `${kind}: ${part}` : kind
}

const wide = (text: string) => new Uint8Array(Buffer.from(text, 'utf16le'))
const DATA = utf8('these octets')
const OTHER = utf8('other octets')

const MUST: readonly EventTypeName[] = [
  ...(['EV_SEPARATOR', 'EV_ACTION', 'EV_S_CRTM_VERSION', 'EV_OMIT_BOOT_DEVICE_EVENTS'] as const),
  ...(['EV_EFI_VARIABLE_DRIVER_CONFIG', 'EV_EFI_VARIABLE_BOOT', 'EV_EFI_GPT_EVENT'] as const),
  ...(['EV_EFI_ACTION', 'EV_EFI_VARIABLE_BOOT2', 'EV_EFI_VARIABLE_AUTHORITY'] as const),
  ...(['EV_EFI_SPDM_DEVICE_POLICY', 'EV_EFI_SPDM_DEVICE_AUTHORITY'] as const),
]
const DESCRIBED: readonly EventTypeName[] = [
  ...(['EV_EFI_BOOT_SERVICES_APPLICATION', 'EV_EFI_BOOT_SERVICES_DRIVER'] as const),
  ...(['EV_EFI_RUNTIME_SERVICES_DRIVER', 'EV_POST_CODE2', 'EV_EFI_HCRTM_EVENT'] as const),
  ...(['EV_EFI_PLATFORM_FIRMWARE_BLOB', 'EV_EFI_PLATFORM_FIRMWARE_BLOB2'] as const),
  ...(['EV_EFI_HANDOFF_TABLES', 'EV_EFI_HANDOFF_TABLES2'] as const),
]
const OPEN = (Object.keys(EVENT_TYPES) as EventTypeName[]).filter(
  (type) => !MUST.includes(type) && !DESCRIBED.includes(type) && type !== 'EV_NO_ACTION',
)

describe('a digest proves', () => {
  test.each(MUST)('the data of %s, or it is a mismatch', (type) => {
    expect(coverage(type, DATA)).toBe('data')
    expect(coverage(type, DATA, OTHER)).toBe('mismatch')
  })

  test.each(DESCRIBED)('what the data of %s describe, and never the data', (type) => {
    expect(coverage(type, imageData('x.efi'), OTHER)).toBe('described')
    expect(coverage(type, DATA)).toBe('described')
  })

  test.each(OPEN)('the data of %s, or what they describe', (type) => {
    expect(coverage(type, DATA)).toBe('data')
    expect(coverage(type, DATA, OTHER)).toBe('described')
  })

  test('nothing of an event that extends nothing', () => {
    expect(coverage('EV_NO_ACTION', DATA)).toBe('none')
  })

  test('nothing of a type that is not known', () => {
    expect(coverage(0x8401, DATA)).toBe('described')
  })
})

describe('a digest proves a part:', () => {
  test('the value of a boot variable, and not its name', () => {
    const value = utf8('value')
    const data = variableData('Boot0000', value)
    expect(coverage('EV_EFI_VARIABLE_BOOT', data, value)).toBe('part: the value of the variable')
    expect(coverage('EV_EFI_VARIABLE_BOOT', variableData('Boot0001', value), value)).toContain(
      'part',
    )
    expect(coverage('EV_EFI_VARIABLE_BOOT', variableData('Boot0000', OTHER), value)).toBe(
      'mismatch',
    )
    // The newer type measures the name too
    expect(coverage('EV_EFI_VARIABLE_BOOT2', data, value)).toBe('mismatch')
  })

  test('all but the last octet of an authority that an old shim logged', () => {
    const data = variableData('Shim', DATA)
    const logged = concat(data, Uint8Array.of(0))
    expect(coverage('EV_EFI_VARIABLE_AUTHORITY', logged, data)).toBe('part: all but the last octet')
    const longer = concat(logged, Uint8Array.of(0))
    expect(coverage('EV_EFI_VARIABLE_AUTHORITY', longer, data)).toBe('mismatch')
    expect(coverage('EV_EFI_VARIABLE_DRIVER_CONFIG', logged, data)).toBe('mismatch')
  })

  test.each([
    ['grub_cmd: ', 'set a=b', ''],
    ['kernel_cmdline: ', '/vmlinuz quiet', ''],
    ['module_cmdline: ', '/module', ''],
    ['grub_cmd ', 'set a=b', '\0'],
    ['grub_kernel_cmdline ', '/vmlinuz', ''],
  ])('the text that GRUB logs behind "%s"', (prefix, text, end) => {
    const data = utf8(`${prefix}${text}\0`)
    const part = `part: the text behind "${prefix}"`
    expect(coverage('EV_IPL', data, utf8(`${text}${end}`))).toBe(part)
    expect(coverage('EV_IPL', data, utf8(`${text}!`))).toBe('described')
    expect(coverage('EV_EFI_ACTION', data, utf8(text))).toBe('mismatch')
  })

  test('what a file of GRUB is called is not what was measured', () => {
    expect(coverage('EV_IPL', utf8('/vmlinuz\0'), utf8('/vmlinuz'))).toBe('described')
  })

  test('the name of a section, in the first of two events', () => {
    const data = wide('.cmdline\0')
    expect(coverage('EV_IPL', data, utf8('.cmdline\0'))).toBe('part: the name of the section')
    expect(coverage('EV_IPL', data, utf8('root=/dev/vda'))).toBe('described')
  })

  test('a command line of systemd, with and without its last zero', () => {
    const line = 'root=/dev/vda'
    const data = wide(`${line}\0`)
    expect(coverage('EV_IPL', data)).toBe('data')
    expect(coverage('EV_IPL', data, wide(line))).toBe('part: the text without its last zero')
    const padded = concat(data, Uint8Array.of(0))
    expect(coverage('EV_IPL', data, padded)).toBe('part: the text and one more zero octet')
    expect(coverage('EV_IPL', data, wide('root=/dev/vdb'))).toBe('described')
  })

  test('the data of a tag without its header', () => {
    const data = concat(Uint8Array.of(1, 2, 3, 4, DATA.length, 0, 0, 0), DATA)
    expect(coverage('EV_EVENT_TAG', data, DATA)).toBe('part: the data of the tag')
    expect(coverage('EV_EVENT_TAG', data)).toBe('data')
    expect(coverage('EV_EVENT_TAG', data.subarray(0, 9), DATA)).toBe('described')
  })
})

test('a bank that an event has no digest of proves nothing', () => {
  const [event] = buildLog([{ pcr: 7, type: 'EV_EFI_ACTION', data: DATA }]).events
  if (!event) throw new TypeError('an event')
  expect(coverageOf(event, 'sha384').kind).toBe('mismatch')
  expect(isDataCovered(event, 'sha384')).toBe(false)
})

test('says where each rule is written', () => {
  for (const type of Object.keys(EVENT_TYPES) as EventTypeName[]) {
    const [event] = buildLog([{ pcr: 7, type, data: DATA }]).events
    if (!event) throw new TypeError('an event')
    expect(coverageOf(event, 'sha256').rule).toMatch(/clause 10\.4\.\d|GNU GRUB manual/)
  }
})
