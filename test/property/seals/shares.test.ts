import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { toHex } from '../../../src/core/bytes.js'
import { isPlatformError } from '../../../src/core/errors.js'
import { randomOctets } from '../../../src/core/random.js'
import { combineShares, inverse, multiply, splitSecret } from '../../../src/seals/shamir.js'
import { encodeShare, parseShare } from '../../../src/seals/share-text.js'

const plans = fc
  .tuple(fc.integer({ min: 2, max: 16 }), fc.integer({ min: 2, max: 16 }))
  .map(([a, b]) => ({ threshold: Math.min(a, b), count: Math.max(a, b) }))
const secrets = fc.uint8Array({ minLength: 32, maxLength: 32 })

describe('a secret that was split', () => {
  test('comes back from any shares that are as many as the threshold, in any order', () => {
    fc.assert(
      fc.property(
        secrets,
        plans,
        fc.infiniteStream(fc.double({ min: 0, max: 1 })),
        (s, plan, o) => {
          const shares = splitSecret(s, plan, randomOctets)
          const order = [...o.take(plan.count)]
          const shuffled = shares.toSorted(
            (a, b) => (order[a.index - 1] ?? 0) - (order[b.index - 1] ?? 0),
          )
          expect(combineShares(shuffled.slice(0, plan.threshold))).toEqual(s)
          expect(combineShares(shuffled)).toEqual(s)
        },
      ),
      { numRuns: 200 },
    )
  })

  test('does not come back from one share fewer', () => {
    fc.assert(
      fc.property(secrets, plans, (secret, plan) => {
        const shares = splitSecret(secret, plan, randomOctets)
        expect(toHex(combineShares(shares.slice(0, plan.threshold - 1)))).not.toBe(toHex(secret))
      }),
      { numRuns: 200 },
    )
  })

  test('may be any secret at all for who has one share fewer', () => {
    // For every other octet there is a polynomial through the same share: here found by trying all coefficients.
    const [share] = splitSecret(Uint8Array.of(7), { threshold: 2, count: 2 }, () =>
      Uint8Array.of(99),
    )
    const possible = new Set<number>()
    for (let coefficient = 0; coefficient < 256; coefficient += 1) {
      for (let secret = 0; secret < 256; secret += 1) {
        if ((multiply(coefficient, 1) ^ secret) === share?.value[0]) possible.add(secret)
      }
    }
    expect(possible.size).toBe(256)
  })

  test.each([
    [1, 5],
    [0, 2],
    [6, 5],
    [3, 17],
    [2.5, 5],
  ])('is not split %d of %d', (threshold, count) => {
    expect(() => splitSecret(new Uint8Array(32), { threshold, count }, randomOctets)).toThrow(
      TypeError,
    )
  })
})

test('every octet but 0 has an inverse', () => {
  for (let octet = 1; octet < 256; octet += 1) expect(multiply(octet, inverse(octet))).toBe(1)
})

describe('the text of a share', () => {
  const share = { setId: '00ff10aa55', threshold: 3, index: 5, value: new Uint8Array(32).fill(9) }

  test('is read as it was written, with capitals and blanks as people put them', () => {
    const text = encodeShare(share)
    expect(text).toMatch(/^sgl-share(-[a-z2-7]{6}){12}$/)
    for (const written of [text, text.toUpperCase(), ` ${text.replaceAll('-', ' ')}\n`]) {
      const { setId, threshold, index, value } = parseShare(written)
      expect({ setId, threshold, index, value: value.use((v) => v.slice()) }).toEqual(share)
    }
  })

  test('is refused with any letter changed or left out', () => {
    const text = encodeShare(share)
    const codes = new Set<string>()
    for (let at = 'sgl-share-'.length; at < text.length; at += 1) {
      if (text[at] === '-') continue
      for (const letter of ['a', 'z', '7', '1', '']) {
        if (letter === text[at]) continue
        codes.add(codeOf(() => parseShare(text.slice(0, at) + letter + text.slice(at + 1))))
      }
    }
    expect(codes).toEqual(new Set(['SHARE_CHECKSUM', 'SHARE_FORMAT']))
  })

  test('is refused whatever else it is', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.string().map((end) => `sgl-share-${end}`),
        ),
        (text) => {
          expect(['SHARE_FORMAT', 'SHARE_CHECKSUM']).toContain(codeOf(() => parseShare(text)))
        },
      ),
    )
  })
})

function codeOf(read: () => unknown): string {
  try {
    read()
  } catch (error) {
    return isPlatformError(error) ? error.code : String(error)
  }
  return 'read'
}
