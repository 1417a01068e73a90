import { describe, expect, test } from 'vitest'
import { utf8 } from '../../../src/core/bytes.js'
import {
  describeEvent,
  EVENT_TYPES,
  type EventTypeName,
  eventLine,
} from '../../../src/eventlog/index.js'
import {
  application,
  authority,
  buildLog,
  type EventPlan,
  hashList,
  IMAGE_SECURITY,
  PLAIN_BOOT,
  setting,
} from './build-log.js'

function eventOf(plan: EventPlan) {
  const [event] = buildLog([plan], ['sha1', 'sha256']).events
  if (!event) throw new TypeError('an event')
  return event
}

const lineOf = (plan: EventPlan) => eventLine(eventOf(plan), 'sha256').replace(/ {2}sha256:.*$/, '')

describe('an event is described', () => {
  test('as plain data', () => {
    const list = hashList([new Uint8Array(32).fill(1)])
    const event = eventOf(setting('dbx', list, IMAGE_SECURITY))
    const described = describeEvent(event, 'sha256')
    expect(JSON.parse(JSON.stringify(described))).toEqual(described)
    expect(described).toEqual({
      index: 0,
      pcr: 7,
      type: 'EV_EFI_VARIABLE_DRIVER_CONFIG',
      digests: {
        sha1: expect.stringMatching(/^[0-9a-f]{40}$/),
        sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
      },
      octets: 114,
      coverage: {
        kind: 'data',
        rule: 'TCG PC Client Platform Firmware Profile, clause 10.4.1',
      },
      content: {
        kind: 'variable',
        guid: 'd719b2cb-3d3a-4596-a3bc-dad00e67656f',
        vendor: 'EFI image security database',
        name: 'dbx',
        value: expect.stringMatching(/^[0-9a-f]{128}… \(76 octets\)$/),
        meaning: {
          kind: 'signature-lists',
          lists: [
            {
              type: 'EFI_CERT_SHA256',
              signatures: [
                {
                  owner: '00000000-0000-0000-0000-000000000000',
                  hash: '01'.repeat(32),
                  of: 'image',
                },
              ],
            },
          ],
        },
      },
    })
  })

  test('with numbers of 64 bits as hexadecimal text', () => {
    const event = eventOf({
      pcr: 0,
      type: 'EV_EFI_PLATFORM_FIRMWARE_BLOB',
      data: new Uint8Array(16).fill(0xff),
    })
    expect(describeEvent(event, 'sha256').content).toEqual({
      kind: 'firmware',
      blob: { address: '0xffffffffffffffff', length: '0xffffffffffffffff' },
    })
  })

  test('without members that have no value', () => {
    const event = eventOf({
      pcr: 4,
      type: 'EV_EFI_BOOT_SERVICES_APPLICATION',
      data: new Uint8Array(32),
    })
    expect(describeEvent(event, 'sha256').content).toEqual({
      kind: 'image',
      devicePath: '',
      address: '0x0',
      length: '0x0',
    })
  })

  test('by number where its type is not known', () => {
    const event = eventOf({ pcr: 2, type: 0x8401, data: Uint8Array.of(1) })
    expect(describeEvent(event, 'sha256')).toMatchObject({
      type: '0x8401',
      content: { kind: 'opaque' },
    })
    expect(eventLine(event, 'sha256')).toContain('0x8401  cannot be read  [described]')
  })
})

describe('an event is one line', () => {
  test.each([
    [setting('SecureBoot', Uint8Array.of(1)), 'SecureBoot: on  [data]'],
    [setting('KEK', new Uint8Array()), 'KEK: empty  [data]'],
    [setting('PK', Uint8Array.of(1)), 'PK: cannot be read (DECODE_TRUNCATED)  [data]'],
    [setting('BootOrder', Uint8Array.of(1, 0)), 'BootOrder: Boot0001  [data]'],
    [setting('Other', Uint8Array.of(1, 2)), 'Other: 0102  [data]'],
    [
      setting('dbx', hashList([new Uint8Array(32), new Uint8Array(32)]), IMAGE_SECURITY),
      'dbx: 2 hashes  [data]',
    ],
    [authority(), 'db: 1 hash  [data]'],
    [application('x.efi'), '\\EFI\\BOOT\\x.efi  [described]'],
    [
      { pcr: 8, type: 'EV_IPL', data: utf8('grub_cmd: ls\0'), measured: utf8('ls') },
      '"grub_cmd: ls"  [part: the text behind "grub_cmd: "]',
    ],
  ] as const)('%# %j', (plan, expected) => {
    expect(lineOf(plan)).toBe(`0  PCR ${plan.pcr}  ${plan.type}  ${expected}`)
  })

  test('that ends with the digest of the bank', () => {
    const event = eventOf(PLAIN_BOOT[2] ?? authority())
    expect(eventLine(event, 'sha256')).toMatch(/ {2}sha256:[0-9a-f]{64}$/)
    expect(eventLine(event, 'sha1')).toMatch(/ {2}sha1:[0-9a-f]{40}$/)
    expect(eventLine(event, 'sha384')).toMatch(/ {2}\[mismatch] {2}no sha384 digest$/)
  })

  test('short and printable, whatever a host wrote', () => {
    for (const type of Object.keys(EVENT_TYPES) as EventTypeName[]) {
      const data = utf8(`grub_cmd: \u001b[2J\u202e${'\n'.repeat(5000)}`)
      const line = eventLine(eventOf({ pcr: 8, type, data }), 'sha256')
      expect(line).toMatch(/^[\x20-\x7e…]*$/)
      expect(line.length).toBeLessThan(500)
    }
  })
})
