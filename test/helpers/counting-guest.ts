const SECTOR = 512
/** Where the guest counts, in its physical memory. */
export const COUNTER_ADDRESS = 0x80000
/** What is there once it counts, in the octets before the counter. */
export const COUNTER_MAGIC = 'SIGILLO!'
/** Where a guest with a mark has what it found in its firmware variable, or zeros. */
export const MARK_ADDRESS = COUNTER_ADDRESS + 16
export const MARK_OCTETS = 16
/** Name of that variable. */
export const MARK_NAME = 'SigilloMark'

const DISK_SECTORS = 32_768
const CLUSTER_SECTORS = 2
const RESERVED_SECTORS = 1
const FAT_SECTORS = 64
const ROOT_ENTRIES = 512
const DATA_START = RESERVED_SECTORS + 2 * FAT_SECTORS + (ROOT_ENTRIES * 32) / SECTOR

/**
 * A raw disk of 16 MiB whose firmware application writes `COUNTER_MAGIC` to its memory and then counts beside it for ever: a
 * guest of which anybody can see from outside that it goes on, and that it was not started again.
 *
 * @param mark 16 octets: before it counts, the guest reads its firmware variable `MARK_NAME`, and then writes this there
 */
export function countingGuest(mark?: Uint8Array): Uint8Array {
  const application = efiApplication(mark ? Buffer.from(mark) : undefined)
  const disk = Buffer.alloc(DISK_SECTORS * SECTOR)
  bootSector().copy(disk)
  for (const fat of [RESERVED_SECTORS, RESERVED_SECTORS + FAT_SECTORS]) {
    for (const [index, value] of [0xfff8, 0xffff, 0xffff, 0xffff, 0xffff].entries()) {
      disk.writeUInt16LE(value, fat * SECTOR + index * 2)
    }
  }
  const root = (RESERVED_SECTORS + 2 * FAT_SECTORS) * SECTOR
  entry('EFI', '', 0x10, 2, 0).copy(disk, root)
  const directory = (cluster: number, parent: number, child: Buffer) =>
    Buffer.concat([entry('.', '', 0x10, cluster, 0), entry('..', '', 0x10, parent, 0), child]).copy(
      disk,
      offsetOf(cluster),
    )
  directory(2, 0, entry('BOOT', '', 0x10, 3, 0))
  directory(3, 2, entry('BOOTX64', 'EFI', 0x20, 4, application.length))
  application.copy(disk, offsetOf(4))
  return disk
}

function offsetOf(cluster: number): number {
  return (DATA_START + (cluster - 2) * CLUSTER_SECTORS) * SECTOR
}

/** @see Microsoft FAT specification, version 1.03: FAT16 on a disk without partitions */
function bootSector(): Buffer {
  const sector = Buffer.alloc(SECTOR)
  sector.write('eb3c90', 'hex')
  sector.write('SIGILLO ', 3, 'latin1')
  sector.writeUInt16LE(SECTOR, 11)
  sector.writeUInt8(CLUSTER_SECTORS, 13)
  sector.writeUInt16LE(RESERVED_SECTORS, 14)
  sector.writeUInt8(2, 16)
  sector.writeUInt16LE(ROOT_ENTRIES, 17)
  sector.writeUInt16LE(DISK_SECTORS, 19)
  sector.writeUInt8(0xf8, 21)
  sector.writeUInt16LE(FAT_SECTORS, 22)
  sector.writeUInt16LE(63, 24)
  sector.writeUInt16LE(16, 26)
  sector.write('800029', 36, 'hex')
  sector.writeUInt32LE(1, 39)
  sector.write('SIGILLO    FAT16   ', 43, 'latin1')
  sector.write('55aa', 510, 'hex')
  return sector
}

function entry(
  name: string,
  extension: string,
  kind: number,
  cluster: number,
  size: number,
): Buffer {
  const octets = Buffer.alloc(32)
  octets.write(name.padEnd(8) + extension.padEnd(3), 'latin1')
  octets.writeUInt8(kind, 11)
  octets.writeUInt16LE(cluster, 26)
  octets.writeUInt32LE(size, 28)
  return octets
}

/**
 * Code that copies the variable of the mark to `MARK_ADDRESS` and then sets it. The system table is in rdx, and
 * `COUNTER_ADDRESS` in rbx.
 *
 * @see UEFI Specification, sections 4.5 and 8.2: `GetVariable` at 0x48 of the runtime services, `SetVariable` at 0x58
 */
function exchangeMark(mark: Buffer): Buffer {
  const name = Buffer.from(`${MARK_NAME}\0`, 'utf16le')
  const vendor = Buffer.from('5d1ac0de2b7e4c11a9e05160110c0de1', 'hex')
  const parts: (Buffer | { readonly lea: string; readonly of: 'name' | 'vendor' | 'mark' })[] = [
    // sub rsp, 0x48; mov rsi, [rdx + 0x58]; mov qword [rbx + 0x10], 0; mov qword [rbx + 0x18], 0
    Buffer.from('4883ec48' + '488b7258' + '48c7431000000000' + '48c7431800000000', 'hex'),
    { lea: '488d0d', of: 'name' },
    { lea: '488d15', of: 'vendor' },
    // no attributes wanted; its size at rsp + 0x30, its data to MARK_ADDRESS
    Buffer.from('4531c0' + '48c744243010000000' + '4c8d4c2430', 'hex'),
    Buffer.from('488d4310' + '4889442420' + 'ff5648', 'hex'),
    { lea: '488d0d', of: 'name' },
    { lea: '488d15', of: 'vendor' },
    // non-volatile, for boot services and runtime; 16 octets
    Buffer.from('41b807000000' + '41b910000000', 'hex'),
    { lea: '488d05', of: 'mark' },
    // and past the data
    Buffer.from('4889442420' + 'ff5658' + 'e9', 'hex'),
  ]
  const jump = Buffer.alloc(4)
  jump.writeInt32LE(name.length + vendor.length + mark.length)
  const sizeOf = (part: (typeof parts)[number]) => (Buffer.isBuffer(part) ? part.length : 7)
  const end = parts.reduce((sum, part) => sum + sizeOf(part), jump.length)
  const places = { name: end, vendor: end + name.length, mark: end + name.length + vendor.length }
  let at = 0
  const code = parts.map((part) => {
    at += sizeOf(part)
    if (Buffer.isBuffer(part)) return part
    const distance = Buffer.alloc(4)
    distance.writeInt32LE(places[part.of] - at)
    return Buffer.concat([Buffer.from(part.lea, 'hex'), distance])
  })
  return Buffer.concat([...code, jump, name, vendor, mark])
}

/** @see Microsoft Portable Executable format: PE32+, subsystem 10 (EFI application) */
function efiApplication(mark: Buffer | undefined): Buffer {
  const code = Buffer.concat([
    // mov rbx, COUNTER_ADDRESS
    Buffer.from('48c7c300000800', 'hex'),
    mark ? exchangeMark(mark) : Buffer.alloc(0),
    // mov rax, magic; mov [rbx], rax; xor rcx, rcx
    Buffer.from('48b8', 'hex'),
    Buffer.from(COUNTER_MAGIC, 'latin1'),
    // next: inc rcx; mov [rbx + 8], rcx; jmp next
    Buffer.from('488903' + '4831c9' + '48ffc1' + '48894b08' + 'ebf7', 'hex'),
  ])
  const image = Buffer.alloc(2 * SECTOR)
  image.write('MZ', 'latin1')
  image.writeUInt32LE(64, 60)
  image.write('PE\0\0', 64, 'latin1')
  image.writeUInt16LE(0x8664, 68)
  image.writeUInt16LE(1, 70)
  image.writeUInt16LE(240, 84)
  image.writeUInt16LE(0x22e, 86)
  const optional = 88
  image.writeUInt16LE(0x20b, optional)
  image.writeUInt32LE(SECTOR, optional + 4)
  image.writeUInt32LE(0x1000, optional + 16)
  image.writeUInt32LE(0x1000, optional + 20)
  image.writeUInt32LE(0x1000, optional + 32)
  image.writeUInt32LE(SECTOR, optional + 36)
  image.writeUInt32LE(0x2000, optional + 56)
  image.writeUInt32LE(SECTOR, optional + 60)
  image.writeUInt16LE(10, optional + 68)
  for (const [at, size] of [
    [72, 0x100000],
    [80, 0x1000],
    [88, 0x100000],
    [96, 0x1000],
  ] as const) {
    image.writeBigUInt64LE(BigInt(size), optional + at)
  }
  image.writeUInt32LE(16, optional + 108)
  const section = optional + 240
  image.write('.text', section, 'latin1')
  image.writeUInt32LE(code.length, section + 8)
  image.writeUInt32LE(0x1000, section + 12)
  image.writeUInt32LE(SECTOR, section + 16)
  image.writeUInt32LE(SECTOR, section + 20)
  image.writeUInt32LE(0x60000020, section + 36)
  code.copy(image, SECTOR)
  return image
}
