import { describe, expect, test } from 'vitest'
import { asPhrase, progressBar, sizeText } from '../../../src/cli/output.js'

describe('a size', () => {
  test.each([
    [0, '0 octets'],
    [512, '512 octets'],
    [1024, '1 KiB'],
    [1536, '1.5 KiB'],
    [1025, '1025 octets'],
    [1100 * 1024, '1100 KiB'],
    [20 * 2 ** 30, '20 GiB'],
    [2 ** 40 + 2 ** 39, '1.5 TiB'],
    [2 ** 40 + 512, '1073741824.5 KiB'],
  ])('of %d octets is shown as it is, never rounded', (octets, text) => {
    expect(sizeText(octets)).toBe(text)
  })
})

describe('a progress bar', () => {
  test('has octets, rate and time left where they are known', () => {
    const octets = { done: 10 * 2 ** 30, total: 20 * 2 ** 30 }
    const rate = { octetsPerSecond: 230 * 2 ** 20, secondsLeft: 44 }
    expect(progressBar(50, 'root: copy', octets, rate)).toBe(
      '[##########..........]  50 %  10.0 of 20.0 GiB  230 MiB/s  44 s left  root: copy',
    )
    expect(progressBar(0, 'queued')).toBe('[....................]   0 %  queued')
    expect(progressBar(100, 'done')).toBe('[####################] 100 %  done')
  })
})

test('summaries of operations describe commands, and names stay as they are', () => {
  expect(asPhrase('List clusters')).toBe('list clusters')
  expect(asPhrase('A VM that runs')).toBe('a VM that runs')
  expect(asPhrase('VMs as their hosts reported them')).toBe('VMs as their hosts reported them')
})
