import { describe, expect, test } from 'vitest'
import { concat, fromHex, utf8 } from '../../../src/core/bytes.js'
import { ByteWriter } from '../../../src/core/reader.js'
import { decodeEvent, EVENT_TYPES, type EventTypeName } from '../../../src/eventlog/index.js'
import { buildLog, hashList, imageData, specIdEvent, variableData } from './build-log.js'

function contentOf(type: EventTypeName | number, data: Uint8Array) {
  const [event] = buildLog([{ pcr: 0, type, data }]).events
  if (!event) throw new TypeError('an event')
  return decodeEvent(event)
}

const wide = (text: string) => new Uint8Array(Buffer.from(text, 'utf16le'))
const signature = (text: string) => utf8(text.padEnd(16, '\0'))
const short = (text: string) => concat(Uint8Array.of(text.length + 1), utf8(`${text}\0`))
const le = () => new ByteWriter('little')
const GUID = fromHex('00112233445566778899aabbccddeeff')
const GUID_TEXT = '33221100-5544-7766-8899-aabbccddeeff'
const BLOB = le().u64(0x82_0000n).u64(0xe_0000n).finish()

test.each(Object.keys(EVENT_TYPES) as EventTypeName[])(
  '%s never throws, whatever its data',
  (type) => {
    const datas = [0, 1, 4, 7, 8, 16, 28, 56, 92, 200].flatMap((length) =>
      [0, 0xff, 0x41].map((octet) => new Uint8Array(length).fill(octet)),
    )
    for (const data of datas) expect(contentOf(type, data).kind).toEqual(expect.any(String))
  },
)

test('a type that is not known is opaque', () => {
  expect(contentOf(0x8401, utf8('text'))).toEqual({ kind: 'opaque' })
})

describe('firmware', () => {
  test.each(['EV_EFI_PLATFORM_FIRMWARE_BLOB', 'EV_POST_CODE', 'EV_S_CRTM_CONTENTS'] as const)(
    '%s is a place in memory',
    (type) => {
      expect(contentOf(type, BLOB)).toEqual({
        kind: 'firmware',
        blob: { address: 0x82_0000n, length: 0xe_0000n },
      })
    },
  )

  test.each(['EV_EFI_PLATFORM_FIRMWARE_BLOB2', 'EV_POST_CODE2'] as const)(
    '%s has a description too',
    (type) => {
      expect(contentOf(type, concat(short('SMM CODE'), BLOB))).toEqual({
        kind: 'firmware',
        blob: { description: 'SMM CODE', address: 0x82_0000n, length: 0xe_0000n },
      })
      expect(contentOf(type, concat(Uint8Array.of(0xff), BLOB))).toEqual({ kind: 'opaque' })
    },
  )

  test.each(['EV_POST_CODE', 'EV_S_CRTM_CONTENTS'] as const)('%s may be text', (type) => {
    expect(contentOf(type, utf8('ACPI DATA'))).toEqual({ kind: 'text', text: 'ACPI DATA' })
  })

  test('with octets behind its place is opaque', () => {
    const data = concat(BLOB, Uint8Array.of(0))
    expect(contentOf('EV_EFI_PLATFORM_FIRMWARE_BLOB', data)).toEqual({ kind: 'opaque' })
  })

  test('has a version that is text or a GUID', () => {
    const versionOf = (data: Uint8Array) => contentOf('EV_S_CRTM_VERSION', data)
    expect(versionOf(wide('1.0\0'))).toEqual({ kind: 'text', text: '1.0' })
    expect(versionOf(wide('\0'))).toEqual({ kind: 'text', text: '' })
    expect(versionOf(GUID)).toEqual({ kind: 'text', text: GUID_TEXT })
    expect(versionOf(Uint8Array.of(1, 2, 3)).kind).toBe('octets')
  })

  test('loads microcode, described by text or by the header of the update', () => {
    expect(contentOf('EV_CPU_MICROCODE', utf8('Load microcode revision A1'))).toMatchObject({
      kind: 'text',
    })
    const header = le().u32(1).u32(0x2b00_04d0).u32(0x0831_2023).u32(0x000a_0671)
    const update = header.put(new Uint8Array(32)).put(new Uint8Array(100)).finish()
    expect(contentOf('EV_CPU_MICROCODE', update)).toEqual({
      kind: 'microcode',
      update: { revision: 0x2b00_04d0, date: '2023-08-31', processorSignature: 0x000a_0671 },
    })
  })

  test('hands over tables', () => {
    const table = concat(fromHex('4415fdf294972c4a992ee5bbcf20e394'), le().u64(0x1000n).finish())
    const tables = concat(le().u64(2n).finish(), table, GUID, le().u64(0x2000n).finish())
    const handoff = {
      tables: [
        {
          guid: 'f2fd1544-9794-4a2c-992e-e5bbcf20e394',
          name: 'SMBIOS 3 table',
          address: 0x1000n,
        },
        { guid: GUID_TEXT, address: 0x2000n },
      ],
    }
    expect(contentOf('EV_EFI_HANDOFF_TABLES', tables)).toEqual({ kind: 'tables', handoff })
    expect(contentOf('EV_TABLE_OF_DEVICES', tables)).toEqual({ kind: 'tables', handoff })
    expect(contentOf('EV_EFI_HANDOFF_TABLES2', concat(short('Tables'), tables))).toEqual({
      kind: 'tables',
      handoff: { description: 'Tables', ...handoff },
    })
    const more = Uint8Array.from(tables)
    more[0] = 3
    expect(contentOf('EV_EFI_HANDOFF_TABLES', more)).toEqual({ kind: 'opaque' })
    more.fill(0xff, 0, 8)
    expect(contentOf('EV_EFI_HANDOFF_TABLES', more)).toEqual({ kind: 'opaque' })
    const many = concat(le().u64(257n).finish(), new Uint8Array(257 * 24))
    expect(contentOf('EV_EFI_HANDOFF_TABLES', many)).toEqual({ kind: 'opaque' })
  })

  test.each([
    'EV_PLATFORM_CONFIG_FLAGS',
    'EV_NONHOST_CODE',
    'EV_NONHOST_CONFIG',
    'EV_NONHOST_INFO',
    'EV_COMPACT_HASH',
    'EV_IPL_PARTITION_DATA',
    'EV_OMIT_BOOT_DEVICE_EVENTS',
    'EV_EFI_HCRTM_EVENT',
  ] as const)('%s is text, octets behind a label, or octets', (type) => {
    expect(contentOf(type, utf8('HCRTM\0\0\0'))).toEqual({ kind: 'text', text: 'HCRTM' })
    expect(contentOf(type, wide('wide\0'))).toEqual({ kind: 'text', text: 'wide' })
    const labelled = concat(utf8('Label\0'), Uint8Array.of(1, 2))
    expect(contentOf(type, labelled)).toEqual({ kind: 'octets', label: 'Label', data: labelled })
    const octets = Uint8Array.of(0xff, 1, 2)
    expect(contentOf(type, octets)).toEqual({ kind: 'octets', data: octets })
  })
})

describe('partitions', () => {
  const entry = (name: string) =>
    le()
      .put(fromHex('28732ac11ff8d211ba4b00a0c93ec93b'))
      .put(GUID)
      .u64(0x800n)
      .u64(0xffffn)
      .u64(0n)
      .put(concat(wide(name), new Uint8Array(72)).subarray(0, 72))
      .finish()

  interface Header {
    readonly magic?: string
    readonly entryOctets?: number
    readonly count?: bigint
  }

  function table({ magic, entryOctets, count }: Header = {}): Uint8Array {
    return le()
      .put(utf8(magic ?? 'EFI PART'))
      .put(new Uint8Array(32))
      .u64(34n)
      .u64(0xffff_ffff_ffff_ffffn)
      .put(GUID)
      .u64(2n)
      .u32(128)
      .u32(entryOctets ?? 128)
      .u32(0)
      .u64(count ?? 1n)
      .put(entry('ESP'))
      .finish()
  }

  test.each(['EV_EFI_GPT_EVENT', 'EV_EFI_GPT_EVENT2'] as const)('%s has them', (type) => {
    expect(contentOf(type, table())).toEqual({
      kind: 'partitions',
      table: {
        diskGuid: GUID_TEXT,
        firstUsableLba: 34n,
        lastUsableLba: 0xffff_ffff_ffff_ffffn,
        partitions: [
          {
            type: 'c12a7328-f81f-11d2-ba4b-00a0c93ec93b',
            typeName: 'EFI system partition',
            guid: GUID_TEXT,
            firstLba: 0x800n,
            lastLba: 0xffffn,
            name: 'ESP',
          },
        ],
      },
    })
  })

  test('are at most 256', () => {
    const many = (count: number) =>
      concat(
        table({ count: BigInt(count) }),
        ...Array.from({ length: count - 1 }, () => entry('more')),
      )
    expect(contentOf('EV_EFI_GPT_EVENT', many(256)).kind).toBe('partitions')
    expect(contentOf('EV_EFI_GPT_EVENT', many(257))).toEqual({ kind: 'opaque' })
  })

  test.each([
    ['another signature', { magic: 'EFI part' }],
    ['entries of no octets', { entryOctets: 0 }],
    ['entries that are too short', { entryOctets: 127 }],
    ['more entries than there are', { count: 2n }],
    ['2^64 - 1 entries', { count: 0xffff_ffff_ffff_ffffn }],
    ['2^57 entries, whose size overflows', { count: 1n << 57n }],
  ])('with %s are opaque', (_, header) => {
    expect(contentOf('EV_EFI_GPT_EVENT', table(header))).toEqual({ kind: 'opaque' })
  })
})

describe('EV_NO_ACTION', () => {
  const eventOf = (data: Uint8Array) => {
    const content = contentOf('EV_NO_ACTION', data)
    return content.kind === 'no-action' ? content.event : content
  }

  test('tells the specification', () => {
    expect(eventOf(specIdEvent([{ id: 11, digestOctets: 32 }]))).toEqual({
      says: 'specification',
      version: '2.0',
      errata: 0,
      algorithms: [{ id: 11, digestOctets: 32 }],
    })
    const old = concat(signature('Spec ID Event02'), fromHex('000000000201020200'))
    expect(eventOf(old)).toMatchObject({ says: 'specification', version: '1.2' })
    expect(eventOf(specIdEvent([], { count: 0xffff_ffff }))).toEqual({ kind: 'opaque' })
  })

  test('tells the locality of start-up', () => {
    const data = concat(signature('StartupLocality'), Uint8Array.of(3))
    expect(eventOf(data)).toEqual({ says: 'startup-locality', locality: 3 })
    expect(eventOf(concat(data, Uint8Array.of(0)))).toEqual({ kind: 'opaque' })
  })

  test('tells a component of the hardware root of trust', () => {
    const measurement = Uint8Array.of(0, 11, 1, 2)
    const data = concat(
      ...[signature('H-CRTM CompMeas'), Uint8Array.of(6), utf8('H-CRTM'), Uint8Array.of(0x80)],
      ...[Uint8Array.of(4, 0), measurement],
    )
    expect(eventOf(data)).toEqual({
      says: 'hcrtm-component',
      description: 'H-CRTM',
      format: 0x80,
      measurement,
    })
  })

  const platform = concat(le().u32(11129).finish(), GUID)
  const makers = concat(
    ...['Maker', 'Model', '1', 'Firm'].map(short),
    ...[le().u32(4).finish(), short('2')],
  )

  test('tells where reference values are found', () => {
    const first = { says: 'platform', manufacturerId: 11129, referenceManifest: GUID_TEXT }
    expect(eventOf(concat(signature('SP800-155 Event'), platform))).toEqual(first)
    const second = {
      ...first,
      platform: { manufacturer: 'Maker', model: 'Model', version: '1' },
      firmware: { manufacturer: 'Firm', manufacturerId: 4, version: '2' },
    }
    expect(eventOf(concat(signature('SP800-155 Event2'), platform, makers))).toEqual(second)
    const uri = concat(le().u32(1).u32(11).finish(), utf8('https://a.b'))
    const name = concat(GUID, wide('Rim\0'))
    const variable = concat(le().u32(3).u32(name.length).finish(), name)
    expect(eventOf(concat(signature('SP800-155 Event3'), platform, makers, uri, variable))).toEqual(
      {
        ...second,
        manifestLocator: { kind: 'uri', text: 'https://a.b' },
        certificateLocator: { kind: 'variable', guid: GUID_TEXT, name: 'Rim' },
      },
    )
  })

  test('with a signature that is not known is text or octets', () => {
    expect(contentOf('EV_NO_ACTION', utf8('something else'))).toEqual({
      kind: 'text',
      text: 'something else',
    })
    expect(contentOf('EV_NO_ACTION', Uint8Array.of(0xff)).kind).toBe('octets')
  })
})

describe('SPDM', () => {
  const PCI = fromHex('0000' + '1000' + '8680' + '3412' + '01' + '000000' + '28100200')
  const second = concat(
    signature('SPDM Device Sec2'),
    fromHex('0200' + '00' + '00' + '50000000' + '01000000' + '01000000' + '04000000'),
    new Uint8Array(8),
    le().u64(0n).finish(),
    Uint8Array.of(1, 2, 3, 4),
    PCI,
  )
  const device = { vendorId: 0x8086, deviceId: 0x1234, subsystemVendorId: 0x1028, subsystemId: 2 }

  test.each(['EV_EFI_SPDM_FIRMWARE_BLOB', 'EV_EFI_SPDM_FIRMWARE_CONFIG'] as const)(
    '%s tells what a device measured',
    (type) => {
      const first = concat(
        ...[signature('SPDM Device Sec'), fromHex('0100' + '4000' + '0b000000' + '01000000')],
        ...[fromHex('0101' + '0300' + '000000'), PCI],
      )
      expect(contentOf(type, first)).toEqual({
        kind: 'spdm',
        event: { version: 1, deviceType: 'pci', device, holds: 'measurements', octets: 3 },
      })
      expect(contentOf(type, second)).toEqual({
        kind: 'spdm',
        event: {
          version: 2,
          authentication: 'succeeded',
          deviceType: 'pci',
          device,
          holds: 'certificate-chain',
          octets: 4,
        },
      })
      expect(contentOf(type, second.subarray(0, 50))).toEqual({ kind: 'opaque' })
      expect(contentOf(type, utf8('something else'))).toEqual({ kind: 'opaque' })
    },
  )

  test('events of an NV index tell an instance and what was new at this boot', () => {
    const instance = concat(signature('NvIndexInstance'), new Uint8Array(8), second)
    expect(contentOf('EV_NO_ACTION', instance)).toMatchObject({
      kind: 'no-action',
      event: { says: 'spdm-instance', spdm: { version: 2, octets: 4 } },
    })
    const dynamic = concat(
      ...[utf8('NvIndexDynamic \0'), new Uint8Array(8), le().u64(7n).u16(5).finish()],
      ...[utf8('nonce'), Uint8Array.of(2, 0, 1, 2)],
    )
    expect(contentOf('EV_NO_ACTION', dynamic)).toEqual({
      kind: 'no-action',
      event: {
        says: 'spdm-dynamic',
        uid: 7n,
        description: 'nonce',
        data: Uint8Array.of(1, 2),
      },
    })
  })

  test('policies and authorities are variables', () => {
    const lists = variableData('devdb', hashList([new Uint8Array(32)]), new Uint8Array(16))
    expect(contentOf('EV_EFI_SPDM_DEVICE_POLICY', lists)).toMatchObject({
      kind: 'variable',
      meaning: { kind: 'signature-lists' },
    })
    const entry = variableData('devdb', new Uint8Array(48), new Uint8Array(16))
    expect(contentOf('EV_EFI_SPDM_DEVICE_AUTHORITY', entry)).toMatchObject({
      meaning: { kind: 'authority' },
    })
  })
})

describe('EV_EVENT_TAG', () => {
  const tag = (id: number, data: Uint8Array) => le().u32(id).u32(data.length).put(data).finish()

  test.each([
    [0x8f3b_22ec, 'Linux: initrd', utf8('Linux initrd\0'), 'Linux initrd'],
    [0x8f3b_22ed, 'Linux: load options', utf8('LOADED_IMAGE::LoadOptions\0'), undefined],
    [0xf5bc_582a, 'systemd-boot: loader.conf', wide('loader.conf\0'), 'loader.conf'],
    [0x13ae_d6db, 'systemd-stub: profile of the unified kernel image', wide('ID=x\0'), 'ID=x'],
    [0x49df_fe0f, 'systemd-stub: initrd add-on', wide('a.efi\0'), 'a.efi'],
    [0xd5cb_7cbc, 'systemd: SMBIOS type 1', wide('smbios:type1\0'), 'smbios:type1'],
  ] as const)('0x%i is %s', (id, name, data, text) => {
    expect(contentOf('EV_EVENT_TAG', tag(id, data))).toEqual({
      kind: 'tag',
      id,
      name,
      text: text ?? 'LOADED_IMAGE::LoadOptions',
    })
  })

  test('that nobody knows keeps its number', () => {
    expect(contentOf('EV_EVENT_TAG', tag(0xdead_beef, utf8('x')))).toEqual({
      kind: 'tag',
      id: 0xdead_beef,
      text: 'x',
    })
  })

  test('without the header of a tag is text', () => {
    expect(contentOf('EV_EVENT_TAG', utf8('LOADED_IMAGE::LoadOptions\0'))).toEqual({
      kind: 'text',
      text: 'LOADED_IMAGE::LoadOptions',
    })
  })

  test('with a size beyond its end, or octets behind it, is opaque', () => {
    const long = le().u32(0xdead_beef).u32(0xffff_ffff).put(utf8('x')).finish()
    expect(contentOf('EV_EVENT_TAG', long)).toEqual({ kind: 'opaque' })
    const more = concat(tag(0xdead_beef, utf8('x')), Uint8Array.of(0))
    expect(contentOf('EV_EVENT_TAG', more)).toEqual({ kind: 'opaque' })
  })

  describe('of Windows', () => {
    const entries = (data: Uint8Array) => {
      const content = contentOf('EV_EVENT_TAG', data)
      return content.kind === 'windows' ? content.entries : content
    }
    const nested = (depth: number): Uint8Array =>
      depth === 0 ? tag(0x4_0001, Uint8Array.of(1)) : tag(0x4001_0001, nested(depth - 1))

    test('has nested entries with their values', () => {
      const module = concat(
        tag(0x7_0001, wide('\\Windows\\a.sys\0')),
        tag(0x7_0002, le().u64(0x1000n).finish()),
        tag(0x7_0004, new Uint8Array(32).fill(1)),
      )
      const data = tag(
        0x4001_0001,
        concat(tag(0x5_0014, Uint8Array.of(1)), tag(0x4001_0003, module)),
      )
      expect(entries(data)).toEqual([
        {
          id: 0x4001_0001,
          name: 'TRUSTBOUNDARY',
          entries: [
            { id: 0x5_0014, number: 1n },
            {
              id: 0x4001_0003,
              name: 'LOADEDMODULE_AGGREGATION',
              entries: [
                { id: 0x7_0001, name: 'FILEPATH', text: '\\Windows\\a.sys' },
                { id: 0x7_0002, name: 'IMAGESIZE', number: 0x1000n },
                { id: 0x7_0004, name: 'AUTHENTICODEHASH', octets: '01'.repeat(32) },
              ],
            },
          ],
        },
      ])
    })

    test('is read eight levels deep, and opaque below', () => {
      expect(entries(nested(7))).toEqual([expect.objectContaining({ id: 0x4001_0001 })])
      expect(entries(nested(8))).toEqual({ kind: 'opaque' })
      expect(entries(nested(1000))).toEqual({ kind: 'opaque' })
    })

    test('has at most 2048 entries', () => {
      const many = (count: number) =>
        concat(...Array.from({ length: count }, () => tag(0x4_0001, Uint8Array.of(1))))
      expect(entries(many(2048))).toHaveLength(2048)
      expect(entries(many(2049))).toEqual({ kind: 'opaque' })
      expect(
        entries(concat(...Array.from({ length: 50 }, () => tag(0x4001_0001, many(100))))),
      ).toEqual({ kind: 'opaque' })
    })

    test('shows the first octets of long values', () => {
      const [entry] = [entries(tag(0x6_0002, new Uint8Array(1000)))].flat()
      expect(entry).toMatchObject({ octets: `${'00'.repeat(64)}…` })
    })

    test('ends its PCRs with a separator of its own', () => {
      expect(contentOf('EV_SEPARATOR', utf8('WBCL'))).toEqual({ kind: 'windows-separator' })
    })
  })
})

describe('EV_IPL', () => {
  test.each([
    [utf8('grub_cmd: set a=b\0'), 'grub', 'command'],
    [utf8('kernel_cmdline: /vmlinuz quiet\0'), 'grub', 'kernel-command-line'],
    [utf8('module_cmdline: /m\0'), 'grub', 'module-command-line'],
    [utf8('grub_cmd set a=b\0\0'), 'grub', 'command'],
    [utf8('grub_kernel_cmdline /vmlinuz\0'), 'grub', 'kernel-command-line'],
    [utf8('grub_linuxefi Kernel\0'), 'grub', 'file'],
    [utf8('(hd0,gpt1)/grub/grub.cfg\0'), 'grub', 'file'],
    [utf8('/vmlinuz\0'), 'grub', 'file'],
    [utf8('MokListX\0'), 'shim', 'variable'],
    [utf8('MokListTrusted\0'), 'shim', 'variable'],
    [utf8('SbatLevel\0'), 'shim', 'variable'],
    [wide('.cmdline\0'), 'systemd', 'section'],
    [wide('root=/dev/vda quiet\0'), 'systemd', 'kernel-command-line'],
    [wide('Credentials initrd\0'), 'systemd', 'initrd'],
    [wide('Global credentials initrd\0'), 'systemd', 'initrd'],
    [utf8('MBR'), 'unknown', 'text'],
  ] as const)('%j is of %s: %s', (data, by, what) => {
    const text = Buffer.from(data).toString('latin1').replaceAll('\0', '').trimEnd()
    expect(contentOf('EV_IPL', data)).toEqual({ kind: 'text', text, loader: { by, what } })
  })
})

describe('images', () => {
  test.each([
    'EV_EFI_BOOT_SERVICES_APPLICATION',
    'EV_EFI_BOOT_SERVICES_DRIVER',
    'EV_EFI_RUNTIME_SERVICES_DRIVER',
  ] as const)('%s has a path and a place', (type) => {
    expect(contentOf(type, imageData('x.efi'))).toEqual({
      kind: 'image',
      devicePath: '\\EFI\\BOOT\\x.efi',
      fileName: 'x.efi',
      address: 0n,
      length: 0n,
    })
  })

  test('with a path of 2^64 - 1 octets are opaque', () => {
    const data = le().put(new Uint8Array(24)).u64(0xffff_ffff_ffff_ffffn).finish()
    expect(contentOf('EV_EFI_BOOT_SERVICES_DRIVER', data)).toEqual({ kind: 'opaque' })
  })
})
