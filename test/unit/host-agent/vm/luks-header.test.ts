import fc from 'fast-check'
import { expect, test } from 'vitest'
import { isPlatformError } from '../../../../src/core/errors.js'
import { ByteWriter } from '../../../../src/core/reader.js'
import { expectedLuksHeader, parseLuksHeader } from '../../../../src/host-agent/vm/luks-header.js'

const VOLUME = '0f3c1c1e-8a52-4f4a-9a3e-1d2c3b4a5f60'

test('reads how a volume is encrypted', () => {
  expect(parseLuksHeader(header(1))).toEqual({ ...expectedLuksHeader(VOLUME), rounds: 1000 })
})

test('refuses LUKS2, and what is no LUKS volume', () => {
  const refused = expect.objectContaining({ code: 'DECODE_VALUE' })
  expect(() => parseLuksHeader(header(2))).toThrow(refused)
  expect(() => parseLuksHeader(new Uint8Array(592))).toThrow(refused)
})

test('tells the most that any key slot in use would cost, and the digest', () => {
  expect(parseLuksHeader(header(1, { rounds: 4_000_000_000 }))).toMatchObject({
    rounds: 4_000_000_000,
  })
  expect(parseLuksHeader(header(1, { stripes: 90_000 }))).toMatchObject({ stripes: 90_000 })
  expect(parseLuksHeader(header(1, { digestRounds: 5_000 }))).toMatchObject({ rounds: 5_000 })
})

test('any octets are either a header or refused with a code', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 600 }), (octets) => {
      const whole = Buffer.concat([header(1).subarray(0, 8), octets])
      try {
        parseLuksHeader(whole)
      } catch (error) {
        expect(isPlatformError(error)).toBe(true)
      }
    }),
  )
})

function header(
  version: number,
  { rounds = 1000, stripes = 4000, digestRounds = 1000 } = {},
): Uint8Array {
  const slot = (state: number, cost: number) =>
    new ByteWriter('big').u32(state).u32(cost).put(new Uint8Array(32)).u32(8).u32(stripes).finish()
  const text = (value: string, length: number) => {
    const octets = new Uint8Array(length)
    octets.set(Buffer.from(value, 'latin1'))
    return octets
  }
  return (
    new ByteWriter('big')
      .put(Uint8Array.of(0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe))
      .u16(version)
      .put(text('aes', 32))
      .put(text('xts-plain64', 32))
      .put(text('sha256', 32))
      .u32(4096)
      .u32(64)
      .put(new Uint8Array(52))
      .u32(digestRounds)
      .put(text(VOLUME, 40))
      .put(slot(0x00ac71f3, rounds))
      // one that is not in use costs nothing
      .put(slot(0x0000dead, 4_000_000_001))
      .put(new Uint8Array(288))
      .finish()
  )
}
