import { expect, test } from 'vitest'
import { Secret } from '../../../../src/core/secret.js'
import type { KeyClient, KeyToUnwrap } from '../../../../src/host-agent/vm/ports.js'
import {
  keyObjects,
  makeKeys,
  unwrapKeys,
  wrapKeys,
} from '../../../../src/host-agent/vm/vm-keys.js'

const VM = '0f3c1c1e-8a52-4f4a-9a3e-1d2c3b4a5f60'

/** Keeps what it was asked for; its wrapped keys are numbers. */
class AskedKeys implements KeyClient {
  readonly asked: KeyToUnwrap[] = []
  #octets = 32

  async wrap(_: string, items: Parameters<KeyClient['wrap']>[1]): Promise<readonly string[]> {
    return items.map((__, index) => `sgl1.${index}.x`)
  }

  async unwrap(_: string, items: readonly KeyToUnwrap[]): Promise<readonly Secret[]> {
    this.asked.push(...items)
    return items.map(() => new Secret(new Uint8Array(this.#octets).fill(1)))
  }

  async rewrap(_: string, items: readonly KeyToUnwrap[]): Promise<readonly string[]> {
    return items.map(({ wrapped }) => wrapped)
  }

  async release(): Promise<void> {}

  withOctets(octets: number): this {
    this.#octets = octets
    return this
  }
}

test('a VM has one key for its home, for each disk, and two for its virtual TPM', () => {
  expect(keyObjects(['a', 'b'], true)).toEqual([
    ...['home', 'disk-a', 'disk-b', 'vtpm', 'vtpm-migration'],
  ])
  expect(keyObjects([], false)).toEqual(['home'])
})

test('each key is bound to its VM, object and purpose, whatever its record says', async () => {
  const client = new AskedKeys()
  const objects = keyObjects(['a'], true)
  using keys = makeKeys(objects)
  const records = await wrapKeys(client, { vmId: VM, provider: 'kp', objects, keys })
  const swapped = records.map((record) => ({ ...record, purpose: 'host' as const }))
  const request = { vmId: VM, provider: 'kp', objects, assurance: 'session' as const }
  using opened = await unwrapKeys(client, { ...request, records: swapped })
  expect(opened.of('disk-a').length).toBe(32)
  expect(client.asked).toMatchObject([
    { wrapped: 'sgl1.0.x', purpose: 'vm-home', context: { vm: VM, object: 'home' } },
    { wrapped: 'sgl1.1.x', purpose: 'vm-disk', context: { vm: VM, object: 'disk-a' } },
    { wrapped: 'sgl1.2.x', purpose: 'vtpm-state', context: { vm: VM, object: 'vtpm' } },
    { wrapped: 'sgl1.3.x', purpose: 'vtpm-migration', context: { object: 'vtpm-migration' } },
  ])
})

test('keys are erased when they are no longer needed', () => {
  const keys = makeKeys(['home'])
  const home = keys.of('home')
  keys[Symbol.dispose]()
  home.use((octets) => expect(octets.every((octet) => octet === 0)).toBe(true))
})

test('a key that is missing, or of another size, is refused', async () => {
  const request = { vmId: VM, provider: 'kp', assurance: 'session' as const }
  await expect(
    unwrapKeys(new AskedKeys(), { ...request, objects: ['home'], records: [] }),
  ).rejects.toMatchObject({ code: 'VM_DESCRIPTOR_CORRUPT' })
  using keys = makeKeys(['home'])
  const client = new AskedKeys().withOctets(16)
  const wrap = { vmId: VM, provider: 'kp', objects: ['home'] as const, keys }
  const records = await wrapKeys(client, wrap)
  await expect(
    unwrapKeys(client, { ...request, objects: ['home'], records }),
  ).rejects.toMatchObject({ code: 'VM_KEY_WRONG' })
})
