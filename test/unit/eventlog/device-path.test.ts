import { describe, expect, test } from 'vitest'
import { concat, fromHex, utf8 } from '../../../src/core/bytes.js'
import { ByteWriter } from '../../../src/core/reader.js'
import { parseDevicePath } from '../../../src/eventlog/device-path.js'

const END = Uint8Array.of(0x7f, 0xff, 4, 0)
const wide = (text: string) => new Uint8Array(Buffer.from(text, 'utf16le'))

function node(type: number, subtype: number, body: Uint8Array): Uint8Array {
  const writer = new ByteWriter('little').u8(type).u8(subtype)
  return writer
    .u16(body.length + 4)
    .put(body)
    .finish()
}

const textOf = (...nodes: readonly Uint8Array[]) => parseDevicePath(concat(...nodes, END)).text
const GUID_TEXT = '33221100-5544-7766-8899-aabbccddeeff'

/** Nodes with the text that clause 10.6.1.6 of the UEFI Specification gives to them. */
const NODES: readonly (readonly [text: string, type: number, subtype: number, body: string])[] = [
  ['Pci(0x1D,0x2)', 1, 1, '021d'],
  ['PcCard(0x1)', 1, 2, '01'],
  ['MemoryMapped(0xB,0x820000,0xFFFFFF)', 1, 3, '0b0000000000820000000000ffffff0000000000'],
  [`VenHw(${GUID_TEXT})`, 1, 4, '00112233445566778899aabbccddeeff'],
  [`VenHw(${GUID_TEXT},0102)`, 1, 4, '00112233445566778899aabbccddeeff0102'],
  ['Ctrl(0x5)', 1, 5, '05000000'],
  ['BMC(0x1,0xCA2)', 1, 6, '01a20c000000000000'],
  ['PciRoot(0x0)', 2, 1, 'd041030a00000000'],
  ['PcieRoot(0x1)', 2, 1, 'd041080a01000000'],
  ['Floppy(0x0)', 2, 1, 'd041040600000000'],
  ['Acpi(PNP0C02,0x3)', 2, 1, 'd041020c03000000'],
  ['AcpiEx(PNP0A08,PNP0A03,0x0)', 2, 2, 'd041080a00000000d041030a000000'],
  ['AcpiAdr(0x80010100)', 2, 3, '00010180'],
  ['Ata(Secondary,Master,0x0)', 3, 1, '01000000'],
  ['Scsi(0x1,0x2)', 3, 2, '01000200'],
  ['Fibre(0x10,0x2)', 3, 3, '0000000010000000000000000200000000000000'],
  ['I1394(0x1)', 3, 4, '000000000100000000000000'],
  ['USB(0xB,0x0)', 3, 5, '0b00'],
  ['I2O(0x7)', 3, 6, '07000000'],
  ['MAC(0cc47aff601c,0x1)', 3, 11, `0cc47aff601c${'00'.repeat(26)}01`],
  [
    'IPv4(192.168.0.1:69,UDP,Static,192.168.0.2:0,192.168.0.254,255.255.255.0)',
    3,
    12,
    'c0a80002c0a8000100004500110001c0a800feffffff00',
  ],
  ['Uart(115200,0x8,0x1,0x1)', 3, 14, '0000000000c2010000000000080101'],
  ['UsbClass(0x781,0x5567,0x8,0x6,0x50)', 3, 15, '81076755080650'],
  ['Unit(0x1)', 3, 17, '01'],
  ['Sata(0x1,0xFFFF,0x0)', 3, 18, '0100ffff0000'],
  ['iSCSI(iqn.a,0x1,0x0000000000000000)', 3, 19, '000000000000000000000000010069716e2e61'],
  ['Vlan(12)', 3, 20, '0c00'],
  ['NVMe(0x1,00-25-38-5B-71-00-3A-6B)', 3, 23, '010000006b3a00715b382500'],
  ['Uri(https://a.example/b.efi)', 3, 24, Buffer.from('https://a.example/b.efi').toString('hex')],
  ['UFS(0x0,0x1)', 3, 25, '0001'],
  ['SD(0x1)', 3, 26, '01'],
  ['eMMC(0x1)', 3, 29, '01'],
  ['Dns(1.1.1.1)', 3, 31, `0001010101${'00'.repeat(12)}`],
  [
    `HD(1,GPT,${GUID_TEXT},0x800,0x100000)`,
    4,
    1,
    '010000000008000000000000000010000000000000112233445566778899aabbccddeeff0202',
  ],
  [
    'HD(2,MBR,0x33221100,0x3F,0x1000)',
    4,
    1,
    '020000003f00000000000000001000000000000000112233445566778899aabbccddeeff0101',
  ],
  ['CDROM(0x1,0x0,0x2D0)', 4, 2, '010000000000000000000000d002000000000000'],
  [`VenMedia(${GUID_TEXT})`, 4, 3, '00112233445566778899aabbccddeeff'],
  [`Media(${GUID_TEXT})`, 4, 5, '00112233445566778899aabbccddeeff'],
  [`FvFile(${GUID_TEXT})`, 4, 6, '00112233445566778899aabbccddeeff'],
  [`Fv(${GUID_TEXT})`, 4, 7, '00112233445566778899aabbccddeeff'],
  ['Offset(0x24638,0x645FF)', 4, 8, '000000003846020000000000ff45060000000000'],
  ['BBS(HD,"disk",0x0)', 5, 1, '020000006469736b00'],
]

test.each(NODES)('%s', (text, type, subtype, body) => {
  expect(textOf(node(type, subtype, fromHex(body)))).toBe(text)
})

test('IPv6 addresses', () => {
  const local = fromHex('fe800000000000000000000000000001')
  const remote = fromHex('20010db8000000000000000000000002')
  const rest = fromHex(`0000500006000140${'00'.repeat(16)}`)
  expect(textOf(node(3, 13, concat(local, remote, rest)))).toBe(
    'IPv6([2001:0db8:0000:0000:0000:0000:0000:0002]:80,TCP,StatelessAutoConfigure,' +
      '[fe80:0000:0000:0000:0000:0000:0000:0001]:0,64,0000:0000:0000:0000:0000:0000:0000:0000)',
  )
})

test.each([
  ['VirtualDisk(0x1000,0x2000,0)', '5a53ab77fc454b625560f7b281d1f96e'],
  ['VirtualCD(0x1000,0x2000,0)', '30bd5a3d7541ce876d64d2ade523c4bb'],
  [`RamDisk(0x1000,0x2000,0,${GUID_TEXT})`, '00112233445566778899aabbccddeeff'],
])('%s', (text, type) => {
  const places = '00100000000000000020000000000000'
  expect(textOf(node(4, 9, fromHex(`${places}${type}0000`)))).toBe(text)
})

describe('a device path', () => {
  const pci = node(1, 1, fromHex('001f'))
  const file = node(4, 4, wide('\\EFI\\BOOT\\BOOTX64.EFI\0'))

  test('is its nodes, with the last file named', () => {
    const path = parseDevicePath(concat(node(2, 1, fromHex('d041030a00000000')), pci, file, END))
    expect(path).toEqual({
      text: 'PciRoot(0x0)/Pci(0x1F,0x0)/\\EFI\\BOOT\\BOOTX64.EFI',
      fileName: 'BOOTX64.EFI',
    })
  })

  test('may have several instances', () => {
    expect(textOf(pci, Uint8Array.of(0x7f, 1, 4, 0), pci)).toBe('Pci(0x1F,0x0),Pci(0x1F,0x0)')
  })

  test('ends at its end node, or where its octets end', () => {
    expect(parseDevicePath(concat(pci, END, pci)).text).toBe('Pci(0x1F,0x0)')
    expect(parseDevicePath(pci).text).toBe('Pci(0x1F,0x0)')
    expect(parseDevicePath(new Uint8Array()).text).toBe('')
  })

  test('shows nodes that are unknown or too short as they are', () => {
    expect(textOf(node(9, 9, Uint8Array.of(1, 2)))).toBe('Path(9,9,0102)')
    expect(textOf(node(1, 1, Uint8Array.of(1)))).toBe('Path(1,1,01)')
    expect(textOf(node(9, 9, new Uint8Array(40)))).toBe(`Path(9,9,${'00'.repeat(32)}…)`)
  })

  test('is short and printable, whatever a host wrote', () => {
    expect(textOf(node(4, 4, wide('\\a\u001b[2J\u202e.efi\0')))).toBe('\\a\\u001b[2J\\u202e.efi')
    const many = parseDevicePath(concat(...Array.from({ length: 1000 }, () => pci), END))
    expect(many.text.split('/')).toHaveLength(64)
    expect(many.text.endsWith('…')).toBe(true)
    expect(textOf(node(3, 24, utf8('x'.repeat(10_000)))).length).toBeLessThan(4200)
  })

  test('is refused where a node is longer than it', () => {
    expect(() => parseDevicePath(Uint8Array.of(1, 1, 40, 0, 0, 0))).toThrow(
      expect.objectContaining({ code: 'DECODE_TRUNCATED' }),
    )
  })
})
