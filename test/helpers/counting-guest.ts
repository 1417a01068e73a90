const SECTOR = 512
/** Where the guest counts, in its physical memory. */
export const COUNTER_ADDRESS = 0x80000
/** What is there once it counts, in the octets before the counter. */
export const COUNTER_MAGIC = 'SIGILLO!'

const DISK_SECTORS = 32_768
const CLUSTER_SECTORS = 2
const RESERVED_SECTORS = 1
const FAT_SECTORS = 64
const ROOT_ENTRIES = 512
const DATA_START = RESERVED_SECTORS + 2 * FAT_SECTORS + (ROOT_ENTRIES * 32) / SECTOR

/**
 * A raw disk of 16 MiB whose firmware application writes `COUNTER_MAGIC` to its memory and then counts beside it for ever: a
 * guest of which anybody can see from outside that it goes on, and that it was not started again.
 */
export function countingGuest(): Uint8Array {
  const application = efiApplication()
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

/** @see Microsoft Portable Executable format: PE32+, subsystem 10 (EFI application) */
function efiApplication(): Buffer {
  const code = Buffer.concat([
    // mov rbx, COUNTER_ADDRESS; mov rax, magic; mov [rbx], rax; xor rcx, rcx
    Buffer.from('48c7c300000800' + '48b8', 'hex'),
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
