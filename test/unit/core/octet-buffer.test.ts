import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { OctetBuffer } from '../../../src/core/octet-buffer.js'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

function memoryOctets(): number {
  collectGarbage()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

describe('octets that come in pieces', () => {
  test('come out as they went in, however they are cut', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ piece: fc.uint8Array({ maxLength: 3000 }), take: fc.nat(4000) })),
        (steps) => {
          const buffer = new OctetBuffer()
          const given: number[] = []
          const taken: number[] = []
          for (const { piece, take } of steps) {
            buffer.append(piece)
            given.push(...piece)
            taken.push(...buffer.take(Math.min(take, buffer.length)))
          }
          taken.push(...buffer.take())
          expect(taken).toEqual(given)
          expect(buffer.length).toBe(0)
        },
      ),
    )
  })

  test('are not taken out before they are there', () => {
    const buffer = new OctetBuffer()
    buffer.append(Uint8Array.of(1, 2))
    expect(() => buffer.take(3)).toThrow(RangeError)
    expect(buffer.take(2)).toEqual(Uint8Array.of(1, 2))
  })

  test('take little room where each comes alone', () => {
    const before = memoryOctets()
    const buffer = new OctetBuffer()
    for (let count = 0; count < 500_000; count += 1) buffer.append(Buffer.from([count & 0xff]))
    expect(memoryOctets() - before).toBeLessThan(8 * 1024 * 1024)
    expect(buffer.take().length).toBe(500_000)
  })
})
