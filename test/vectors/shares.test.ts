import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { concat, fromHex, toHex } from '../../src/core/bytes.js'
import { combineShares, splitSecret } from '../../src/seals/shamir.js'
import { encodeShare, parseShare } from '../../src/seals/share-text.js'

const vector = JSON.parse(
  readFileSync(new URL('./shares/vector.json', import.meta.url), 'utf8'),
) as {
  readonly secret: string
  readonly coefficients: readonly string[]
  readonly setId: string
  readonly threshold: number
  readonly shares: readonly {
    readonly index: number
    readonly value: string
    readonly text: string
  }[]
}

describe('shares made by another implementation', () => {
  test('are those that the same random octets give here', () => {
    const random = () => concat(...vector.coefficients.map(fromHex))
    const split = splitSecret(fromHex(vector.secret), { threshold: 3, count: 5 }, random)
    expect(split.map(({ value }) => toHex(value))).toEqual(vector.shares.map(({ value }) => value))
  })

  test('are written the same', () => {
    const { setId, threshold } = vector
    for (const { index, value, text } of vector.shares) {
      expect(encodeShare({ setId, threshold, index, value: fromHex(value) })).toBe(text)
    }
  })

  test.each([
    [0, 1, 2],
    [4, 2, 0],
    [1, 3, 4],
  ])('bring the secret back: %i, %i and %i', (...chosen) => {
    const shares = chosen.map((at) => parseShare(vector.shares[at]?.text ?? ''))
    const combined = combineShares(
      shares.map(({ index, value }) => ({ index, value: value.use((octets) => octets.slice()) })),
    )
    expect(toHex(combined)).toBe(vector.secret)
  })
})
