import { expect, test } from 'vitest'
import type { HostKeyProvider } from '../../../../src/api/host-keys.js'
import { Secret } from '../../../../src/core/secret.js'
import { Keyring } from '../../../../src/host-agent/host-keys/keyring.js'

const PROVIDER: HostKeyProvider = {
  providerId: '11111111-2222-4333-8444-555555555555',
  name: 'silver',
  kind: 'native',
  tpmRequired: false,
  current: 2,
  versions: [1, 2],
}

/** A keyring with versions 1 and 2, and the octets that it was given. */
function filled() {
  const keyring = new Keyring()
  const octets = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)]
  keyring.keepOnly([PROVIDER])
  octets.forEach((key, index) => {
    keyring.add(PROVIDER.providerId, index + 1, new Secret(key))
  })
  return { keyring, octets }
}

const isErased = (octets: Uint8Array | undefined) => octets?.every((octet) => octet === 0)

test('a host erases at once what it is told not to hold, and nothing else', () => {
  const { keyring, octets } = filled()
  expect(keyring.keepOnly([{ ...PROVIDER, versions: [2] }])).toBe(1)
  expect(octets.map(isErased)).toEqual([true, false])
  expect(keyring.holds()).toEqual([{ providerId: PROVIDER.providerId, versions: [2] }])
  expect(() => keyring.use(PROVIDER.providerId, 1, () => 0)).toThrow(
    expect.objectContaining({ code: 'HOST_KEY_ABSENT' }),
  )
})

test('a host that ends, or is told of no provider, has no key left', () => {
  const { keyring, octets } = filled()
  keyring[Symbol.dispose]()
  expect(octets.map(isErased)).toEqual([true, true])
  expect(keyring.holds()).toEqual([])
})

test('a key that comes again takes the place of the one before, which is erased', () => {
  const { keyring, octets } = filled()
  keyring.add(PROVIDER.providerId, 1, new Secret(new Uint8Array(32).fill(9)))
  expect(isErased(octets[0])).toBe(true)
  expect(keyring.use(PROVIDER.providerId, 1, (key) => key[0])).toBe(9)
})

test('a key is never shown by what holds it', () => {
  const { keyring } = filled()
  expect(JSON.stringify(keyring)).not.toMatch(/[12],[12]/)
})

test('keys of an earlier process are used and not said to be held, until they are delivered', () => {
  using keyring = new Keyring()
  const { providerId } = PROVIDER
  const octets = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)]
  const keys = octets.map((key, index) => ({
    providerId,
    version: index + 1,
    secret: new Secret(key),
  }))
  keyring.restore([PROVIDER], keys)
  expect(keyring.versionsOf(providerId)).toEqual([1, 2])
  expect(keyring.holds()).toEqual([])
  expect(keyring.add(providerId, 1, new Secret(new Uint8Array(32).fill(1)))).toBe(true)
  expect(keyring.holds()).toEqual([{ providerId, versions: [1] }])
  // one that was put on the disk by somebody else
  expect(keyring.add(providerId, 2, new Secret(new Uint8Array(32).fill(9)))).toBe(false)
  expect(keyring.use(providerId, 2, (key) => key[0])).toBe(9)
  expect(octets.map(isErased)).toEqual([true, true])
})
