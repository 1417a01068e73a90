import { describe, expect, test } from 'vitest'
import { renewalDelayMs, retryDelayMs } from '../../../src/host-agent/domain/schedule.js'

const LEAST = 0
const MOST = 0.999_999

describe('a token', () => {
  test.each([30_000, 300_000])(
    'of %d ms is renewed between half and six tenths of its life',
    (lifeMs) => {
      expect(renewalDelayMs({ lifeMs }, LEAST)).toBe(lifeMs * 0.6)
      expect(renewalDelayMs({ lifeMs }, MOST)).toBeCloseTo(lifeMs * 0.5, -1)
    },
  )

  test('that ended already is renewed now', () => {
    expect(renewalDelayMs({ lifeMs: -5_000 }, LEAST)).toBe(0)
  })
})

describe('after failures', () => {
  test('the pause doubles from a second to a minute, and is never less than half of it', () => {
    const longest = [1, 2, 3, 4, 5, 6, 7, 8, 100].map((failures) => retryDelayMs(failures, MOST))
    expect(longest).toEqual([1, 2, 4, 8, 16, 32, 60, 60, 60].map((seconds) => seconds * 1000))
    expect(retryDelayMs(1, LEAST)).toBe(500)
    expect(retryDelayMs(50, LEAST)).toBe(30_000)
  })
})
