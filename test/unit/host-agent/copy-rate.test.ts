import { expect, test } from 'vitest'
import { CopyRate } from '../../../src/host-agent/domain/copy-rate.js'

const MIB = 1024 * 1024
const total = 1000 * MIB

test('the rate of a steady copy is measured, and with it the time that is left', () => {
  const rate = new CopyRate()
  expect(rate.measure({ done: 0, total }, 5_000)).toEqual({})
  for (let second = 1; second < 5; second += 1) {
    rate.measure({ done: second * 100 * MIB, total }, 5_000 + second * 1000)
  }
  expect(rate.measure({ done: 500 * MIB, total }, 10_000)).toEqual({
    ...{ octetsPerSecond: 100 * MIB, secondsLeft: 5 },
  })
})

test('one that becomes slower is followed, and one that stands still has no end', () => {
  const rate = new CopyRate()
  rate.measure({ done: 0, total }, 0)
  rate.measure({ done: 100 * MIB, total }, 1_000)
  let last = rate.measure({ done: 110 * MIB, total }, 2_000)
  expect(last.octetsPerSecond).toBeLessThan(100 * MIB)
  for (let second = 3; second < 120; second += 1) {
    last = rate.measure({ done: 110 * MIB, total }, second * 1000)
  }
  expect(last.octetsPerSecond).toBeLessThan(MIB)
  expect(last.secondsLeft).toBeGreaterThan(890)
})

test('octets that are counted anew do not make it negative', () => {
  const rate = new CopyRate()
  rate.measure({ done: 500 * MIB, total }, 0)
  expect(rate.measure({ done: 0, total }, 1_000)).toEqual({})
})
