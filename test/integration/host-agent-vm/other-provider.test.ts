import { readFile } from 'node:fs/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { PlatformError } from '../../../src/core/errors.js'
import { createTestHost, type TestHost } from './support.js'

const MIB = 1024 * 1024
const AWAY = new PlatformError('KMS_UNREACHABLE', 'away')

let host: TestHost
let root: string

beforeEach(async () => {
  host = await createTestHost()
  const { vmId } = await host.vms.create({
    ...{ name: 'vm', provider: 'gold', memoryMib: 64 },
    disks: [{ name: 'root', sizeOctets: MIB }],
  })
  root = `${host.directory}/${vmId}`
})
afterEach(() => host[Symbol.asyncDispose]())

interface KeyRecord {
  readonly object: string
  readonly provider: string
  readonly wrapped: string
  readonly generation: number
}
const records = async (): Promise<readonly KeyRecord[]> =>
  JSON.parse(await readFile(`${root}/keys.json`, 'utf8')).keys
const wrappedOf = (keys: readonly KeyRecord[]) => keys.map(({ wrapped }) => wrapped).sort()
const released = async () => {
  await host.vms.settleReleases()
  return [...host.keys.released].sort()
}
const readable = async () => (await host.vms.readDisk('vm', 'root', 0, 64)).length

test('a VM that runs gets its keys wrapped by another provider, and back, with the same data keys', async () => {
  const before = await records()
  const data = await readFile(`${root}/disk-root.luks`)
  await host.vms.start('vm')
  const vm = await host.vms.rewrap('vm', { provider: 'silver' })
  expect(vm).toMatchObject({ provider: 'silver', state: 'running' })
  const after = await records()
  expect(after.map(({ provider }) => provider)).toEqual(after.map(() => 'silver'))
  expect(after.map(({ object, generation }) => [object, generation]).sort()).toEqual(
    before.map(({ object, generation }) => [object, generation]).sort(),
  )
  expect(await released()).toEqual(wrappedOf(before))
  await host.vms.stop('vm', { graceSeconds: 0 })
  expect((await readFile(`${root}/disk-root.luks`)).equals(data)).toBe(true)
  expect(await readable()).toBe(64)
  expect(await host.vms.rewrap('vm', { provider: 'gold' })).toMatchObject({ provider: 'gold' })
  expect(await released()).toEqual([...wrappedOf(before), ...wrappedOf(after)].sort())
  expect(await host.vms.start('vm')).toMatchObject({ state: 'running', provider: 'gold' })
})

test('a VM that is stopped gets new data keys under another provider, and every older wrapped key is released', async () => {
  const before = await records()
  const wrapped: string[] = []
  const { wrap } = host.keys
  host.keys.wrap = async (...request) => {
    const texts = await wrap.apply(host.keys, request)
    wrapped.push(...texts)
    return texts
  }
  await host.vms.recrypt('vm', { provider: 'silver' })
  const after = await records()
  expect(after.map(({ provider }) => provider)).toEqual(after.map(() => 'silver'))
  expect(after.every(({ generation }) => generation === 2)).toBe(true)
  expect(await readable()).toBe(64)
  // also those of the old data keys under the new provider
  const kept = new Set(wrappedOf(after))
  const gone = [...wrappedOf(before), ...wrapped.filter((text) => !kept.has(text))].sort()
  expect(await released()).toEqual(gone)
})

test('its own provider wraps the keys of one VM anew, while it runs', async () => {
  const before = await records()
  await host.vms.start('vm')
  await host.vms.rewrap('vm', {})
  expect(wrappedOf(await records())).not.toEqual(wrappedOf(before))
  expect(await released()).toEqual(wrappedOf(before))
})

test('all stays as it was where the other provider does not wrap, wraps another key, or some parts are meant', async () => {
  const before = await records()
  const { wrap } = host.keys
  host.keys.wrap = () => Promise.reject(AWAY)
  await expect(host.vms.rewrap('vm', { provider: 'silver' })).rejects.toMatchObject(AWAY)
  host.keys.wrap = wrap
  const { unwrap } = host.keys
  host.keys.unwrap = (provider, items) => {
    host.keys.wrongFor = provider === 'silver' ? 'disk-root' : undefined
    return unwrap.call(host.keys, provider, items)
  }
  await expect(host.vms.rewrap('vm', { provider: 'silver' })).rejects.toMatchObject({
    code: 'VM_KEY_WRONG',
  })
  host.keys.unwrap = unwrap
  host.keys.wrongFor = undefined
  const parts = { provider: 'silver', disks: ['root'] }
  await expect(host.vms.recrypt('vm', parts)).rejects.toMatchObject({ code: 'REQUEST_INVALID' })
  expect(await records()).toEqual(before)
  // what the other provider wrapped for nothing is released
  expect((await released()).some((text) => wrappedOf(before).includes(text))).toBe(false)
  expect(host.keys.released.length).toBe(before.length)
  expect(await readable()).toBe(64)
})

test('a plain VM has no keys to be wrapped, and one that is busy waits', async () => {
  await host.vms.create({ name: 'plain', vtpm: false, disks: [] })
  await expect(host.vms.rewrap('plain', { provider: 'gold' })).rejects.toMatchObject({
    code: 'VM_PLAIN',
  })
  const recrypting = host.vms.recrypt('vm', {})
  await expect(host.vms.rewrap('vm', {})).rejects.toMatchObject({ code: 'VM_BUSY' })
  await expect(host.vms.delete('vm')).rejects.toMatchObject({ code: 'VM_BUSY' })
  await expect(host.vms.detachDisk('vm', 'root')).rejects.toMatchObject({ code: 'VM_BUSY' })
  await recrypting
})

test('a VM that is deleted leaves no reference, also when its provider can be told later alone', async () => {
  await host.vms.rewrap('vm', { provider: 'silver' })
  await host.vms.settleReleases()
  const last = await records()
  host.keys.released.length = 0
  host.keys.refusal = AWAY
  await host.vms.delete('vm')
  await host.vms.settleReleases()
  expect(host.keys.released).toEqual([])
  host.keys.refusal = undefined
  await using next = host.restart()
  await next.settleReleases()
  expect([...host.keys.released].sort()).toEqual(wrappedOf(last))
})
