import { toHex } from '../core/bytes.js'
import type { ByteReader } from '../core/reader.js'
import { readGuid } from './guid.js'
import { latinText, printable, utf16Text } from './printable.js'

/** Gives the text of a node, from a reader of what follows its header. @throws DecodeError where that is too short */
type NodeText = (body: ByteReader) => string

const hex = (value: number | bigint): string => `0x${value.toString(16).toUpperCase()}`
const u8 = (body: ByteReader): string => hex(body.u8())
const u16 = (body: ByteReader): string => hex(body.u16())
const u32 = (body: ByteReader): string => hex(body.u32())
const u64 = (body: ByteReader): string => hex(body.u64())
const octets = (count: number) => (body: ByteReader) => toHex(body.take(count))
/** A field behind four octets that mean nothing. */
const behindReserved =
  (field: NodeText): NodeText =>
  (body) => {
    body.take(4)
    return field(body)
  }
const of =
  (name: string, ...fields: readonly NodeText[]): NodeText =>
  (body) =>
    `${name}(${fields.map((field) => field(body)).join(',')})`

/** `VenHw(guid)` or `VenHw(guid,data)`; the data are bounded. */
const MAX_VENDOR_OCTETS = 32
const vendor =
  (name: string): NodeText =>
  (body) => {
    const guid = readGuid(body)
    const data = body.rest()
    if (data.length === 0) return `${name}(${guid})`
    const cut = data.length > MAX_VENDOR_OCTETS ? '…' : ''
    return `${name}(${guid},${toHex(data.subarray(0, MAX_VENDOR_OCTETS))}${cut})`
  }

const EISA_PNP = 0x41d0
const ACPI_NAMES: Readonly<Record<number, string>> = {
  2563: 'PciRoot',
  2568: 'PcieRoot',
  1540: 'Floppy',
  769: 'Keyboard',
  1281: 'Serial',
  1025: 'ParallelPort',
}

/** Identifiers of EISA: three letters of five bits each, and a number. */
function eisaId(id: number): string {
  const vendorBits = id & 0xffff
  const letters = [10, 5, 0].map((shift) =>
    String.fromCharCode(0x40 + ((vendorBits >> shift) & 0x1f)),
  )
  return `${letters.join('')}${(id >>> 16).toString(16).toUpperCase().padStart(4, '0')}`
}

const acpi: NodeText = (body) => {
  const id = body.u32()
  const unit = u32(body)
  const name = (id & 0xffff) === EISA_PNP ? ACPI_NAMES[id >>> 16] : undefined
  return name ? `${name}(${unit})` : `Acpi(${printable(eisaId(id))},${unit})`
}

const expandedAcpi: NodeText = (body) => {
  const [id, unit, compatible] = [body.u32(), body.u32(), body.u32()]
  return `AcpiEx(${printable(eisaId(id))},${printable(eisaId(compatible))},${hex(unit)})`
}

const displays: NodeText = (body) => {
  const adapters: string[] = []
  while (body.remaining >= 4 && adapters.length < 8) adapters.push(u32(body))
  return `AcpiAdr(${adapters.join(',')})`
}

const ETHERNET_OCTETS = 6
const MAX_MAC_OCTETS = 32

const mac: NodeText = (body) => {
  const address = body.take(MAX_MAC_OCTETS)
  const kind = body.u8()
  const length = kind === 0 || kind === 1 ? ETHERNET_OCTETS : MAX_MAC_OCTETS
  return `MAC(${toHex(address.subarray(0, length))},${hex(kind)})`
}

const ip4 = (address: Uint8Array): string => address.join('.')
const ip6 = (address: Uint8Array): string => (toHex(address).match(/.{4}/g) ?? []).join(':')
const protocol = (number: number): string =>
  number === 6 ? 'TCP' : number === 17 ? 'UDP' : hex(number)

const ipv4: NodeText = (body) => {
  const [local, remote] = [ip4(body.take(4)), ip4(body.take(4))]
  const [localPort, remotePort] = [body.u16(), body.u16()]
  const transport = protocol(body.u16())
  const origin = body.u8() === 0 ? 'DHCP' : 'Static'
  const fields = [`${remote}:${remotePort}`, transport, origin, `${local}:${localPort}`]
  if (body.remaining >= 8) fields.push(ip4(body.take(4)), ip4(body.take(4)))
  return `IPv4(${fields.join(',')})`
}

const IPV6_ORIGINS = ['Static', 'StatelessAutoConfigure', 'StatefulAutoConfigure']

const ipv6: NodeText = (body) => {
  const [local, remote] = [ip6(body.take(16)), ip6(body.take(16))]
  const [localPort, remotePort] = [body.u16(), body.u16()]
  const transport = protocol(body.u16())
  const origin = body.u8()
  const fields = [
    ...[`[${remote}]:${remotePort}`, transport, IPV6_ORIGINS[origin] ?? hex(origin)],
    `[${local}]:${localPort}`,
  ]
  if (body.remaining >= 17) {
    const prefix = body.u8()
    fields.push(`${prefix}`, ip6(body.take(16)))
  }
  return `IPv6(${fields.join(',')})`
}

const usbWwid: NodeText = (body) => {
  const [number, maker, product] = [u16(body), u16(body), u16(body)]
  return `UsbWwid(${maker},${product},${number},"${printable(utf16Text(body.rest()))}")`
}

const iscsi: NodeText = (body) => {
  body.take(4)
  const unit = toHex(body.take(8))
  const group = u16(body)
  return `iSCSI(${printable(latinText(body.rest()))},${group},0x${unit})`
}

const nvme: NodeText = (body) => {
  const namespace = u32(body)
  const identifier = [...body.take(8)].reverse()
  const text = identifier.map((octet) => octet.toString(16).toUpperCase().padStart(2, '0'))
  return `NVMe(${namespace},${text.join('-')})`
}

const dns: NodeText = (body) => {
  const isIpv6 = body.u8() !== 0
  const servers: string[] = []
  while (body.remaining >= 16 && servers.length < 8) {
    const address = body.take(16)
    servers.push(isIpv6 ? ip6(address) : ip4(address.subarray(0, 4)))
  }
  return `Dns(${servers.join(',')})`
}

const GPT_SIGNATURE = 2
const MBR_SIGNATURE = 1

const hardDrive: NodeText = (body) => {
  const partition = body.u32()
  const [start, size] = [u64(body), u64(body)]
  const signature = body.peek(16)
  const guid = readGuid(body)
  const [format, kind] = [body.u8(), body.u8()]
  const name = format === GPT_SIGNATURE ? 'GPT' : format === MBR_SIGNATURE ? 'MBR' : hex(format)
  const mbr = new DataView(signature.buffer, signature.byteOffset).getUint32(0, true)
  const identifier = kind === GPT_SIGNATURE ? guid : kind === MBR_SIGNATURE ? hex(mbr) : '0'
  return `HD(${partition},${name},${identifier},${start},${size})`
}

const VIRTUAL_DISK = '77ab535a-45fc-624b-5560-f7b281d1f96e'
const VIRTUAL_CD = '3d5abd30-4175-87ce-6d64-d2ade523c4bb'

const ramDisk: NodeText = (body) => {
  const [start, end, type, instance] = [u64(body), u64(body), readGuid(body), body.u16()]
  if (type === VIRTUAL_DISK) return `VirtualDisk(${start},${end},${instance})`
  if (type === VIRTUAL_CD) return `VirtualCD(${start},${end},${instance})`
  return `RamDisk(${start},${end},${instance},${type})`
}

const BBS_TYPES = ['', 'Floppy', 'HD', 'CDROM', 'PCMCIA', 'USB', 'Network']

const bbs: NodeText = (body) => {
  const [type, flags] = [body.u16(), u16(body)]
  const description = printable(latinText(body.rest()))
  return `BBS(${BBS_TYPES[type] || hex(type)},"${description}",${flags})`
}

const pci: NodeText = (body) => {
  const [number, device] = [u8(body), u8(body)]
  return `Pci(${device},${number})`
}

const ata: NodeText = (body) => {
  const [channel, device] = [body.u8(), body.u8()]
  const [first, second] = [
    channel === 0 ? 'Primary' : 'Secondary',
    device === 0 ? 'Master' : 'Slave',
  ]
  return `Ata(${first},${second},${u16(body)})`
}

/**
 * Texts of the nodes that boot logs have, by type and subtype.
 *
 * @see UEFI Specification, clause 10.3 (nodes) and 10.6.1.6 (their texts)
 */
export const NODE_TEXTS: ReadonlyMap<number, NodeText> = new Map([
  [0x0101, pci],
  [0x0102, of('PcCard', u8)],
  [0x0103, of('MemoryMapped', u32, u64, u64)],
  [0x0104, vendor('VenHw')],
  [0x0105, of('Ctrl', u32)],
  [0x0106, of('BMC', u8, u64)],
  [0x0201, acpi],
  [0x0202, expandedAcpi],
  [0x0203, displays],
  [0x0301, ata],
  [0x0302, of('Scsi', u16, u16)],
  [0x0303, of('Fibre', behindReserved(u64), u64)],
  [0x0304, of('I1394', behindReserved(u64))],
  [0x0305, of('USB', u8, u8)],
  [0x0306, of('I2O', u32)],
  [0x0309, of('Infiniband', u32, octets(16), u64, u64, u64)],
  [0x030a, vendor('VenMsg')],
  [0x030b, mac],
  [0x030c, ipv4],
  [0x030d, ipv6],
  [
    0x030e,
    of(
      'Uart',
      behindReserved((body) => `${body.u64()}`),
      u8,
      u8,
      u8,
    ),
  ],
  [0x030f, of('UsbClass', u16, u16, u8, u8, u8)],
  [0x0310, usbWwid],
  [0x0311, of('Unit', u8)],
  [0x0312, of('Sata', u16, u16, u16)],
  [0x0313, iscsi],
  [0x0314, of('Vlan', (body) => `${body.u16()}`)],
  [0x0315, of('FibreEx', behindReserved(octets(8)), octets(8))],
  [0x0316, of('SasEx', octets(8), octets(8), u16, u16)],
  [0x0317, nvme],
  [0x0318, (body) => `Uri(${printable(latinText(body.rest()))})`],
  [0x0319, of('UFS', u8, u8)],
  [0x031a, of('SD', u8)],
  [0x031b, of('Bluetooth', octets(6))],
  [0x031c, (body) => `Wi-Fi(${printable(latinText(body.take(32)))})`],
  [0x031d, of('eMMC', u8)],
  [0x031e, of('BluetoothLE', octets(6), u8)],
  [0x031f, dns],
  [0x0320, of('NVDIMM', readGuid)],
  [0x0401, hardDrive],
  [0x0402, of('CDROM', u32, u64, u64)],
  [0x0403, vendor('VenMedia')],
  [0x0404, (body) => printable(utf16Text(body.rest()))],
  [0x0405, of('Media', readGuid)],
  [0x0406, of('FvFile', readGuid)],
  [0x0407, of('Fv', readGuid)],
  [0x0408, of('Offset', behindReserved(u64), u64)],
  [0x0409, ramDisk],
  [0x0501, bbs],
])
