import { expect, test } from 'vitest'
import { CircuitBreaker } from '../../../src/kmip/client/breaker.js'

test('waits from one second to a minute, and lets one caller try after it', () => {
  let now = 0
  const breaker = new CircuitBreaker(
    () => now,
    () => 0.999_999_999,
  )
  expect(breaker.enter()).toBe(true)
  for (const seconds of [1, 2, 4, 8, 16, 32, 60, 60]) {
    breaker.failed()
    expect(breaker.state).toBe('open')
    now += seconds * 1000 - 10
    expect(breaker.enter()).toBe(false)
    now += 20
    expect(breaker.state).toBe('half-open')
    expect(breaker.enter()).toBe(true)
    expect(breaker.enter()).toBe(false)
  }
  breaker.succeeded()
  expect(breaker.state).toBe('closed')
})

test('counts failures of calls that were under way together once', () => {
  let now = 0
  const breaker = new CircuitBreaker(
    () => now,
    () => 0,
  )
  for (let call = 0; call < 10; call += 1) breaker.failed()
  now = 501
  expect(breaker.state).toBe('half-open')
})
