import fc from 'fast-check'
import { expect, test } from 'vitest'
import { DecodeError } from '../../../src/core/errors.js'
import { decodeTtlv, frameLength } from '../../../src/kmip/decode.js'
import { encodeTtlv } from '../../../src/kmip/encode.js'
import { KmipError } from '../../../src/kmip/errors.js'
import { describeTtlv } from '../../../src/kmip/mask.js'
import { requestFromTtlv, requestToTtlv, responseFromTtlv } from '../../../src/kmip/message.js'
import { TAG } from '../../../src/kmip/tags.js'
import {
  byteString,
  enumeration,
  structure,
  type Ttlv,
  textString,
} from '../../../src/kmip/ttlv.js'
import { ttlvFromXml, ttlvToXml } from '../../../src/kmip/xml.js'
import { MUTANTS_TIMEOUT_MS } from '../../helpers/mutants.js'

const tag = fc.oneof(
  fc.constantFrom(...Object.values(TAG)),
  fc.integer({ min: 0x540000, max: 0x54ffff }),
)
const int64 = fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n })
const uint32 = fc.integer({ min: 0, max: 0xffffffff })

/** Any scalar; text without what XML cannot have. */
const scalar: fc.Arbitrary<Ttlv> = fc.oneof(
  fc.record({ tag, type: fc.constant('Integer' as const), value: fc.integer() }),
  fc.record({ tag, type: fc.constant('LongInteger' as const), value: int64 }),
  fc.record({ tag, type: fc.constant('BigInteger' as const), value: fc.bigInt() }),
  fc.record({ tag, type: fc.constant('Enumeration' as const), value: uint32 }),
  fc.record({ tag, type: fc.constant('Boolean' as const), value: fc.boolean() }),
  fc.record({
    tag,
    type: fc.constant('TextString' as const),
    value: fc.string().filter((text) => !/[^\x20-\x7e]/.test(text)),
  }),
  fc.record({ tag, type: fc.constant('ByteString' as const), value: fc.uint8Array() }),
  fc.record({ tag, type: fc.constant('DateTime' as const), value: int64 }),
  fc.record({ tag, type: fc.constant('Interval' as const), value: uint32 }),
  fc.record({ tag, type: fc.constant('DateTimeExtended' as const), value: int64 }),
)

const item: fc.Arbitrary<Ttlv> = fc.letrec<{ item: Ttlv }>((tie) => ({
  item: fc.oneof(
    { depthSize: 'small' },
    scalar,
    fc.record({
      tag,
      type: fc.constant('Structure' as const),
      value: fc.array(tie('item'), { maxLength: 5 }),
    }),
  ),
})).item

test('any item comes back from its octets as it was', () => {
  fc.assert(
    fc.property(item, (one) => {
      expect(decodeTtlv(encodeTtlv(one))).toEqual(one)
    }),
    { numRuns: 2_000 },
  )
})

test('any item comes back from its XML as it was', () => {
  fc.assert(
    fc.property(item, (one) => {
      expect(ttlvFromXml(ttlvToXml(one))).toEqual(one)
    }),
    { numRuns: 1_000 },
  )
})

test('any octets are an item or are refused, and nothing else', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (octets) => {
      readOrRefuse(octets)
    }),
    { numRuns: 20_000 },
  )
})

test('any text is an item in XML or is refused, and nothing else', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: fc.constantFrom('<', '>', '/', '"', '=', 'a', '&', '!', ' ') }),
      (text) => {
        try {
          ttlvFromXml(text)
        } catch (error) {
          expect(error).toBeInstanceOf(KmipError)
        }
      },
    ),
    { numRuns: 5_000 },
  )
})

test('a hundred thousand changed messages are read or refused, and nothing else', {
  timeout: MUTANTS_TIMEOUT_MS,
}, () => {
  const original = encodeTtlv(
    requestToTtlv({
      version: { major: 2, minor: 1 },
      maximumResponseSize: 1 << 20,
      items: [
        {
          operation: 1,
          batchItemId: new Uint8Array([1, 2, 3]),
          payload: structure(TAG.RequestPayload, [
            enumeration(TAG.ObjectType, 2),
            structure(TAG.Attributes, [
              enumeration(TAG.CryptographicAlgorithm, 3),
              textString(TAG.ObjectGroup, 'a group'),
              byteString(TAG.Data, new Uint8Array(20)),
            ]),
          ]),
        },
      ],
    }),
  )
  const next = randomNumbers(0x5161)
  let read = 0
  for (let count = 0; count < 100_000; count += 1) {
    const mutant = mutate(original, next)
    if (readOrRefuse(mutant)) read += 1
  }
  expect(read).toBeGreaterThan(1_000)
  expect(read).toBeLessThan(90_000)
})

function readOrRefuse(octets: Uint8Array): boolean {
  try {
    frameLength(octets)
    const decoded = decodeTtlv(octets)
    describeTtlv(decoded)
    if (decoded.tag === TAG.ResponseMessage) responseFromTtlv(decoded)
    else requestFromTtlv(decoded)
    return true
  } catch (error) {
    if (!(error instanceof DecodeError) && !(error instanceof KmipError)) throw error
    return false
  }
}

/** One to three changes: an octet changed, removed, added, or a piece repeated. */
function mutate(original: Uint8Array, next: (below: number) => number): Uint8Array {
  const octets = [...original]
  for (let changes = 1 + next(3); changes > 0; changes -= 1) {
    const at = next(octets.length)
    const kind = next(8)
    if (kind < 5) octets[at] = next(256)
    else if (kind === 5) octets.splice(at, 1 + next(16))
    else if (kind === 6) octets.splice(at, 0, next(256))
    else octets.splice(at & ~7, 0, ...octets.slice(at & ~7, (at & ~7) + 8 * (1 + next(4))))
    if (octets.length === 0) return new Uint8Array(0)
  }
  return Uint8Array.from(octets)
}

/** Numbers that are the same in every run (xorshift32). */
function randomNumbers(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % below
  }
}
