import { readdir, writeFile } from 'node:fs/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { ErrorCode } from '../../../src/core/error-codes.js'
import { PlatformError } from '../../../src/core/errors.js'
import { createTestHost, processesNaming, type TestHost } from './support.js'

const MIB = 1024 * 1024
const PAUSES = { firstMs: 20, longestMs: 80 }

let host: TestHost
let vmId: string

beforeEach(async () => {
  host = await createTestHost({ unlockPauses: PAUSES, random: () => 1 })
  const made = await host.vms.create({
    ...{ name: 'vm', provider: 'kp', memoryMib: 64, vtpm: false },
    disks: [{ name: 'root', sizeOctets: MIB }],
  })
  vmId = made.vmId
})
afterEach(() => host[Symbol.asyncDispose]())

const refuse = (code: ErrorCode) => {
  host.keys.refusal = new PlatformError(code, `refused with ${code}`)
}
/** How often keys were asked for, from now on. */
const countUnwraps = () => {
  const counted = { calls: 0 }
  const { unwrap } = host.keys
  host.keys.unwrap = (...request) => {
    counted.calls += 1
    return unwrap.apply(host.keys, request)
  }
  return counted
}
const stateOf = async () => (await host.vms.list())[0]

describe('a VM is locked when it is to be started and its key', () => {
  test.each([
    ['KMS_KEY_DESTROYED', 'missing'],
    ['HOST_KEY_ABSENT', 'missing'],
    ['NOT_FOUND', 'missing'],
    ['KMS_UNREACHABLE', 'unreachable'],
    ['AUTHORITY_UNREACHABLE', 'unreachable'],
    ['SEALED', 'unreachable'],
    ['ATTESTATION_REFUSED', 'refused'],
    ['KEY_HOST_STATUS', 'refused'],
  ] as const)('is not had for %s: %s', async (code, reason) => {
    refuse(code)
    await expect(host.vms.start('vm')).rejects.toMatchObject({ code })
    const lock = { code, reason, message: `refused with ${code}` }
    expect(await stateOf()).toMatchObject({ state: 'locked', lock })
    expect(await host.vms.show('vm')).toMatchObject({ state: 'locked', lock, name: 'vm' })
    expect((await host.vms.show('vm')).memoryMib).toBeUndefined()
    expect(processesNaming(host.directory)).toEqual([])
  })
})

test('an altered wrapped key locks nothing: no key that comes back would help', async () => {
  refuse('KEY_ENVELOPE_AUTHENTICATION')
  await expect(host.vms.start('vm')).rejects.toMatchObject({ code: 'KEY_ENVELOPE_AUTHENTICATION' })
  await expect(host.vms.show('vm')).rejects.toMatchObject({ code: 'KEY_ENVELOPE_AUTHENTICATION' })
  expect(await stateOf()).toMatchObject({ state: 'stopped' })
})

test('the inventory is told that a VM is locked, why, and that it is not any more', async () => {
  refuse('KMS_KEY_NOT_FOUND')
  await host.vms.start('vm').catch(() => undefined)
  expect(host.inventory.vms.get(vmId)).toMatchObject({
    ...{ state: 'locked', lock: { code: 'KMS_KEY_NOT_FOUND', reason: 'missing' } },
  })
  expect(JSON.stringify(host.inventory.vms.get(vmId))).not.toContain('refused with')
  host.keys.refusal = undefined
  await host.vms.unlock('vm')
  expect(host.inventory.vms.get(vmId)).toMatchObject({ state: 'stopped' })
  expect(host.inventory.vms.get(vmId)?.lock).toBeUndefined()
})

test('a lock that could not be told is told when the inventory can be reached', async () => {
  host.inventory.isAway = true
  refuse('AUTHORITY_UNREACHABLE')
  await host.vms.start('vm').catch(() => undefined)
  expect(host.inventory.vms.get(vmId)).toMatchObject({ state: 'stopped' })
  host.inventory.isAway = false
  await host.vms.reportUntold()
  expect(host.inventory.vms.get(vmId)).toMatchObject({ state: 'locked' })
})

test('a VM is unlocked by itself when its key is back, without a busy loop meanwhile', async () => {
  refuse('KMS_TIMEOUT')
  await host.vms.start('vm').catch(() => undefined)
  const counted = countUnwraps()
  const beganMs = performance.now()
  await expect.poll(() => counted.calls, { timeout: 5000 }).toBeGreaterThanOrEqual(4)
  // 20, 40, 80 and 80 ms at the least
  expect(performance.now() - beganMs).toBeGreaterThan(200)
  host.keys.refusal = undefined
  await expect.poll(async () => (await stateOf())?.state).toBe('stopped')
  expect(await readdir(`${host.directory}/${vmId}`)).not.toContain('lock.json')
  const after = counted.calls
  await new Promise((resolve) => setTimeout(resolve, 200))
  expect(counted.calls).toBe(after)
  expect(await host.vms.start('vm')).toMatchObject({ state: 'running' })
})

test('a provider that does not answer is asked once in a round, not for each of its VMs', async () => {
  for (const name of ['b', 'c', 'd']) {
    await host.vms.create({ name, provider: 'kp', vtpm: false, disks: [] })
  }
  await using calm = host.restart({ unlockPauses: { firstMs: 60_000, longestMs: 60_000 } })
  refuse('KMS_UNREACHABLE')
  for (const { name } of await calm.list()) await calm.start(name).catch(() => undefined)
  const counted = countUnwraps()
  await calm.unlockAll()
  expect(counted.calls).toBe(1)
  host.keys.refusal = undefined
  await calm.unlockAll()
  expect((await calm.list()).map(({ state }) => state)).toEqual(Array(4).fill('stopped'))
})

test('unlocking by hand says why it does not work yet', async () => {
  await using calm = host.restart({ unlockPauses: { firstMs: 60_000, longestMs: 60_000 } })
  refuse('KMS_KEY_DESTROYED')
  await expect(calm.unlock('vm')).rejects.toMatchObject({ code: 'KMS_KEY_DESTROYED' })
  expect((await calm.list())[0]).toMatchObject({ state: 'locked' })
  host.keys.refusal = undefined
  expect(await calm.unlock('vm')).toMatchObject({ state: 'stopped' })
  await expect(calm.unlock('nobody')).rejects.toMatchObject({ code: 'VM_NOT_FOUND' })
})

test('a lock outlives the agent, and one that cannot be read does no harm', async () => {
  refuse('KMS_KEY_DESTROYED')
  await host.vms.start('vm').catch(() => undefined)
  const since = (await stateOf())?.lock?.since
  await using next = host.restart()
  await next.recover()
  expect((await next.list())[0]).toMatchObject({ state: 'locked', lock: { since } })
  await writeFile(`${host.directory}/${vmId}/lock.json`, '{"format":9}')
  expect((await next.list())[0]).toMatchObject({ state: 'stopped' })
  await expect(next.start('vm')).rejects.toMatchObject({ code: 'KMS_KEY_DESTROYED' })
  expect((await next.list())[0]).toMatchObject({ state: 'locked' })
})

test('a VM that runs is not locked, and is shown, while its keys cannot be had', async () => {
  await host.vms.start('vm')
  refuse('AUTHORITY_UNREACHABLE')
  expect(await host.vms.show('vm')).toMatchObject({ state: 'running' })
  expect((await stateOf())?.lock).toBeUndefined()
})

test('a locked VM can be deleted', async () => {
  refuse('KMS_KEY_DESTROYED')
  await host.vms.start('vm').catch(() => undefined)
  await host.vms.delete('vm')
  expect(await host.vms.list()).toEqual([])
  expect(host.inventory.vms.size).toBe(0)
})

describe('a host that is refused', () => {
  const error = new PlatformError('ATTESTATION_REFUSED', 'revoked')
  const start = async () => {
    await host.vms.create({ name: 'plain', vtpm: false, memoryMib: 64, disks: [] })
    await host.vms.create({ name: 'off', provider: 'kp', vtpm: false, disks: [] })
    await host.vms.start('vm')
    await host.vms.start('plain')
    refuse('ATTESTATION_REFUSED')
  }
  const states = async () =>
    Object.fromEntries((await host.vms.list()).map(({ name, state }) => [name, state]))

  test('keeps its VMs, and starts none', async () => {
    await start()
    await host.vms.refuseHost(error, 'keep')
    expect(await states()).toEqual({ vm: 'running', plain: 'running', off: 'locked' })
    await expect(host.vms.start('off')).rejects.toMatchObject({ code: 'ATTESTATION_REFUSED' })
  })

  test('or stops those that are encrypted, which are locked then', async () => {
    await start()
    await Promise.all([1, 2].map(() => host.vms.refuseHost(error, { graceSeconds: 0 })))
    expect(await states()).toEqual({ vm: 'locked', plain: 'running', off: 'locked' })
    await expect(host.vms.start('vm')).rejects.toMatchObject({ code: 'ATTESTATION_REFUSED' })
    host.keys.refusal = undefined
    await host.vms.unlockAll()
    expect(await states()).toEqual({ vm: 'stopped', plain: 'running', off: 'stopped' })
  })
})
