import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Secret } from '../../../../src/core/secret.js'
import { openHome, sealHome } from '../../../../src/host-agent/vm/home.js'
import type { Home } from '../../../../src/host-agent/vm/records.js'

const VM = '0f3c1c1e-8a52-4f4a-9a3e-1d2c3b4a5f60'
const OTHER_VM = '1f3c1c1e-8a52-4f4a-9a3e-1d2c3b4a5f60'
const home: Home = {
  ...{ name: 'web-1', provider: 'kp', memoryMib: 512, cpus: 2, vtpm: true },
  disks: [{ name: 'root', sizeOctets: 1_048_576, volumeId: OTHER_VM }],
}
const dek = () => new Secret(new Uint8Array(32).fill(7))

test('a home opens with its key, for its VM and generation', () => {
  expect(openHome(sealHome(home, VM, 3, dek()), VM, 3, dek())).toEqual(home)
})

test('a home says nothing in the clear', () => {
  expect(Buffer.from(sealHome(home, VM, 1, dek())).includes('web-1')).toBe(false)
})

test('the home of another VM, of another generation or under another key does not open', () => {
  const sealed = sealHome(home, VM, 3, dek())
  const corrupt = expect.objectContaining({ code: 'VM_HOME_CORRUPT' })
  expect(() => openHome(sealed, OTHER_VM, 3, dek())).toThrow(corrupt)
  expect(() => openHome(sealed, VM, 2, dek())).toThrow(corrupt)
  expect(() => openHome(sealed, VM, 3, new Secret(new Uint8Array(32)))).toThrow(corrupt)
})

test('a home with one bit of another value does not open, wherever it is', () => {
  const sealed = sealHome(home, VM, 1, dek())
  fc.assert(
    fc.property(fc.nat(sealed.length * 8 - 1), (bit) => {
      const altered = sealed.slice()
      altered[bit >> 3] = (altered[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      expect(() => openHome(altered, VM, 1, dek())).toThrow(
        expect.objectContaining({ code: 'VM_HOME_CORRUPT' }),
      )
    }),
  )
})

test('a home that is cut short does not open', () => {
  const sealed = sealHome(home, VM, 1, dek())
  for (let length = 0; length < sealed.length; length += 1) {
    expect(() => openHome(sealed.subarray(0, length), VM, 1, dek())).toThrow(
      expect.objectContaining({ code: 'VM_HOME_CORRUPT' }),
    )
  }
})
