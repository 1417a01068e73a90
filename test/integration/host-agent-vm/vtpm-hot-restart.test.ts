import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { identifyByPidFile, isAlive } from '../../../src/host-agent/vm/processes.js'
import { startAndDie } from './killed.js'
import { createTestHost, processesNaming, type TestHost } from './support.js'
import { createWitness, type TestWitness } from './witness.js'

let witness: TestWitness
let host: TestHost
let folder: string
let state: string

beforeAll(async () => {
  witness = await createWitness()
  host = await createTestHost({ vtpmWitness: witness })
  const { vmId } = await host.vms.create({ name: 'vm', provider: 'kp', memoryMib: 64, disks: [] })
  folder = `${host.directory}/${vmId}`
  state = `${folder}/vtpm/tpm2-00.permall`
})

afterAll(async () => {
  await host[Symbol.asyncDispose]()
  await witness[Symbol.asyncDispose]()
})

const record = async () => JSON.parse(await readFile(`${folder}/vtpm.json`, 'utf8'))

async function digestOfState(): Promise<string> {
  return createHash('sha256')
    .update(await readFile(state))
    .digest('hex')
}

test('a VM with a virtual TPM runs on when its agent is killed, is taken up, and stops in order', async () => {
  const before = await record()
  await startAndDie(host, 'vm', 'done')
  expect(processesNaming(folder)).toHaveLength(2)
  const swtpm = await identifyByPidFile(`${folder}/run/swtpm.pid`, `${folder}/run`)

  await using next = host.restart()
  await next.recover()
  expect(await next.list()).toMatchObject([{ state: 'running' }])
  expect(swtpm && (await isAlive(swtpm))).toBe(true)
  // its firmware goes on to use it
  await expect.poll(digestOfState, { timeout: 30_000 }).not.toBe(before.digest)
  await next.stop('vm', { graceSeconds: 0 })

  expect(processesNaming(folder)).toEqual([])
  expect(await record()).toEqual({
    ...{ format: 1, state: 'stopped', generation: before.generation + 1 },
    digest: await digestOfState(),
  })
  expect(await witness.newEvents()).toEqual([])
})

test('an end that comes while no agent is there is found by the next one, and the VM starts with a warning', async () => {
  await startAndDie(host, 'vm', 'done')
  const before = await record()
  expect(before.state).toBe('running')
  await expect.poll(digestOfState, { timeout: 30_000 }).not.toBe(before.digest)
  const qemu = await identifyByPidFile(`${folder}/run/qemu.pid`, `${folder}/run`)
  process.kill(qemu?.pid ?? 0, 'SIGTERM')
  await expect.poll(() => processesNaming(folder), { timeout: 10_000 }).toEqual([])

  await using next = host.restart()
  await next.recover()
  expect(await next.list()).toMatchObject([{ state: 'stopped' }])
  await next.start('vm')
  expect(await witness.newEvents()).toEqual(['vtpm.state-unrecorded'])
  await next.stop('vm', { graceSeconds: 0 })
})
