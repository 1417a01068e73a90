import { expect, test } from 'vitest'
import { utf8 } from '../../../../src/core/bytes.js'
import { ByteWriter } from '../../../../src/core/reader.js'
import { identifyImage } from '../../../../src/host-agent/vm/image.js'

const MIB = 1024n * 1024n
const refused = expect.objectContaining({ code: 'VM_IMAGE' })

test('octets without a magic are a raw image of whole sectors', () => {
  expect(identifyImage(new Uint8Array(512), 1000)).toEqual({ format: 'raw', virtualOctets: 1024 })
})

test('a qcow2 image is as large as its header says', () => {
  expect(identifyImage(qcow2({}), 4096)).toEqual({ format: 'qcow2', virtualOctets: 1_048_576 })
  expect(identifyImage(qcow2({ version: 2 }).subarray(0, 72), 72).format).toBe('qcow2')
})

test.each([
  ['with a backing file', { backingFileOffset: 512n }],
  ['with encryption', { encryption: 2 }],
  ['of version 1', { version: 1 }],
  ['of version 4', { version: 4 }],
  ['that is marked corrupt', { features: 0b10n }],
  ['with its data in another file', { features: 0b100n }],
  ['with features that nobody knows', { features: 1n << 40n }],
  ['of no size', { sizeOctets: 0n }],
  ['of more octets than a number holds', { sizeOctets: 1n << 60n }],
])('refuses a qcow2 image %s', (_, header) => {
  expect(() => identifyImage(qcow2(header), 4096)).toThrow(refused)
})

test('refuses a qcow2 header that is cut short', () => {
  for (const length of [4, 71]) {
    expect(() => identifyImage(qcow2({}).subarray(0, length), length)).toThrow(refused)
  }
  expect(() => identifyImage(qcow2({}).subarray(0, 75), 75)).toThrow(refused)
})

test.each(['KDMV', '# Disk DescriptorFile', 'conectix', 'vhdxfile', 'QED\0', 'LUKS\u0000'])(
  'refuses an image of another format: %s',
  (magic) => {
    const head = new Uint8Array(512)
    head.set(magic.startsWith('LUKS') ? [0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe] : utf8(magic))
    expect(() => identifyImage(head, 512)).toThrow(refused)
  },
)

test('refuses an empty image', () => {
  expect(() => identifyImage(new Uint8Array(), 0)).toThrow(refused)
})

function qcow2(header: {
  readonly version?: number
  readonly backingFileOffset?: bigint
  readonly sizeOctets?: bigint
  readonly encryption?: number
  readonly features?: bigint
}): Uint8Array {
  const { version = 3, backingFileOffset = 0n, sizeOctets = MIB, encryption = 0 } = header
  return new ByteWriter('big')
    .put(Uint8Array.of(0x51, 0x46, 0x49, 0xfb))
    .u32(version)
    .u64(backingFileOffset)
    .put(new Uint8Array(8))
    .u64(sizeOctets)
    .u32(encryption)
    .put(new Uint8Array(36))
    .u64(header.features ?? 0n)
    .put(new Uint8Array(432))
    .finish()
}
