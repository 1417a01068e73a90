import { readFileSync, writeFileSync } from 'node:fs'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { PlatformError } from '../../../src/core/errors.js'
import { createTestHost, type TestHost } from './support.js'

const MIB = 1024 * 1024
const AWAY = new PlatformError('AUTHORITY_UNREACHABLE', 'away')

let host: TestHost

beforeEach(async () => {
  host = await createTestHost()
})
afterEach(() => host[Symbol.asyncDispose]())

const make = (name: string) =>
  host.vms.create({
    ...{ name, provider: 'kp', memoryMib: 256, vtpm: false },
    disks: [{ name: 'data', sizeOctets: MIB }],
  })
const wrappedOf = (vmId: string): readonly string[] =>
  JSON.parse(readFileSync(`${host.directory}/${vmId}/keys.json`, 'utf8')).keys.map(
    ({ wrapped }: { wrapped: string }) => wrapped,
  )
/** As after the agent was killed and started again. */
async function settleAfterRestart(): Promise<void> {
  await using vms = host.restart()
  await vms.settleReleases()
}

test('keys are wrapped anew VM by VM, the old ones are released, and the VM opens as before', async () => {
  const [a, b] = [await make('a'), await make('b')]
  const before = [...wrappedOf(a.vmId), ...wrappedOf(b.vmId)]
  const percents: number[] = []
  await host.vms.rewrapKeys(undefined, (_, percent) => percents.push(percent))
  const after = [...wrappedOf(a.vmId), ...wrappedOf(b.vmId)]
  expect(after.filter((text) => before.includes(text))).toEqual([])
  expect([...host.keys.released].sort()).toEqual([...before].sort())
  expect(percents.at(-1)).toBe(100)
  expect(await host.vms.show('a')).toMatchObject({ memoryMib: 256 })
  expect(await host.vms.readDisk('b', 'data', 0, 16)).toHaveLength(16)
})

test('keys of other providers are left alone', async () => {
  const { vmId } = await make('a')
  const before = wrappedOf(vmId)
  await host.vms.rewrapKeys('another')
  expect(wrappedOf(vmId)).toEqual(before)
  expect(host.keys.released).toEqual([])
})

test('records are as they were where the provider refuses, and nothing is released', async () => {
  const { vmId } = await make('a')
  const before = wrappedOf(vmId)
  host.keys.refusal = AWAY
  await expect(host.vms.rewrapKeys(undefined)).rejects.toMatchObject({ code: AWAY.code })
  host.keys.refusal = undefined
  expect(wrappedOf(vmId)).toEqual(before)
  await settleAfterRestart()
  expect(host.keys.released).toEqual([])
})

test('old keys that could not be released are released by the agent that comes after', async () => {
  const { vmId } = await make('a')
  const before = wrappedOf(vmId)
  const { release } = host.keys
  host.keys.release = () => Promise.reject(AWAY)
  await host.vms.rewrapKeys(undefined)
  host.keys.release = release
  expect(host.keys.released).toEqual([])
  await settleAfterRestart()
  expect([...host.keys.released].sort()).toEqual([...before].sort())
  await settleAfterRestart()
  expect(host.keys.released).toHaveLength(before.length)
})

test('a key that is noted and still in the records is not released, as after a kill between the two', async () => {
  const { vmId } = await make('a')
  const { release } = host.keys
  host.keys.release = () => Promise.reject(AWAY)
  const records = readFileSync(`${host.directory}/${vmId}/keys.json`, 'utf8')
  await host.vms.rewrapKeys(undefined)
  host.keys.release = release
  writeFileSync(`${host.directory}/${vmId}/keys.json`, records)
  await settleAfterRestart()
  expect(host.keys.released).toEqual([])
  expect(await host.vms.show('a')).toMatchObject({ memoryMib: 256 })
})

test('keys of a VM that is deleted, or that could not be made, are released', async () => {
  const { vmId } = await make('a')
  const before = wrappedOf(vmId)
  await host.vms.delete('a')
  await host.vms.settleReleases()
  expect([...host.keys.released].sort()).toEqual([...before].sort())
  const certify = () => Promise.reject(AWAY)
  await using vms = host.restart({ certifier: { certify, authorityPem: certify } })
  const failing = { name: 'b', provider: 'kp', memoryMib: 256, disks: [] }
  await expect(vms.create(failing)).rejects.toBeInstanceOf(PlatformError)
  await vms.settleReleases()
  expect(host.keys.released.length).toBeGreaterThan(before.length)
})
