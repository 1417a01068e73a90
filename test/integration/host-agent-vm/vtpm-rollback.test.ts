import { cp, readFile, rm, writeFile } from 'node:fs/promises'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { VmService } from '../../../src/host-agent/vm/index.js'
import { identify, isAlive } from '../../../src/host-agent/vm/processes.js'
import { createTestHost, processesNaming, type TestHost } from './support.js'
import { createWitness, type TestWitness } from './witness.js'

let witness: TestWitness
let host: TestHost
let folder: string
let state: string
let saved: string

beforeAll(async () => {
  witness = await createWitness()
  host = await createTestHost({ vtpmWitness: witness })
  const { vmId } = await host.vms.create({ name: 'vm', provider: 'kp', memoryMib: 64, disks: [] })
  folder = `${host.directory}/${vmId}`
  state = `${folder}/vtpm/tpm2-00.permall`
  saved = `${host.directory}-saved`
})

afterAll(async () => {
  await host[Symbol.asyncDispose]()
  await witness[Symbol.asyncDispose]()
  await rm(saved, { recursive: true, force: true })
})

beforeEach(async () => {
  await witness.newEvents()
})

/** Runs the VM until its firmware has used the virtual TPM. */
async function started(vms: VmService = host.vms): Promise<number> {
  const before = await readFile(state)
  const { pid = 0 } = await vms.start('vm')
  await expect
    .poll(async () => (await readFile(state)).equals(before), { timeout: 30_000 })
    .toBe(false)
  return pid
}

const stop = () => host.vms.stop('vm', { graceSeconds: 0 })
const record = async () => JSON.parse(await readFile(`${folder}/vtpm.json`, 'utf8'))

/** Keeps the directory of the VM as it is, as whoever makes a backup does. */
async function save(): Promise<void> {
  await rm(saved, { recursive: true, force: true })
  await cp(folder, saved, { recursive: true })
}

async function putBack(files: readonly string[]): Promise<void> {
  for (const file of files) await cp(`${saved}/${file}`, `${folder}/${file}`, { recursive: true })
}

const ALL = ['vtpm', 'vtpm.json', 'vtpm-backup.permall']

/** Host and agent are gone in one moment: nobody saw the end of the VM. */
async function crash(): Promise<void> {
  await using agent = host.restart()
  const pid = await started(agent)
  await agent[Symbol.asyncDispose]()
  const running = await Promise.all(processesNaming(folder).map(identify))
  process.kill(pid, 'SIGKILL')
  for (const one of running) {
    if (one) await expect.poll(() => isAlive(one), { timeout: 5000 }).toBe(false)
  }
  await using next = host.restart()
  await next.recover()
}

describe('an older state', () => {
  test('is refused when it is put back alone', async () => {
    await save()
    await started()
    await stop()
    await putBack(['vtpm'])
    await expect(host.vms.start('vm')).rejects.toMatchObject({ code: 'VTPM_STATE_ROLLBACK' })
    expect(processesNaming(folder)).toEqual([])
    expect(await witness.newEvents()).toEqual(['vtpm.state-refused'])
  })

  test('gives way to the copy of the recorded one', async () => {
    await host.vms.restoreVtpmState('vm')
    expect(await witness.newEvents()).toEqual(['vtpm.state-restored'])
    await started()
    await stop()
  })

  test('is refused when it is put back with its record and its copy', async () => {
    await putBack(ALL)
    await expect(host.vms.start('vm')).rejects.toMatchObject({ code: 'VTPM_STATE_ROLLBACK' })
    await expect(host.vms.restoreVtpmState('vm')).rejects.toMatchObject({
      code: 'VTPM_STATE_ROLLBACK',
    })
    await expect(host.vms.recrypt('vm', { vtpm: true })).rejects.toMatchObject({
      code: 'VTPM_STATE_ROLLBACK',
    })
    await expect(host.vms.clone('vm', { name: 'copy', vtpm: 'copy' })).rejects.toMatchObject({
      code: 'VTPM_STATE_ROLLBACK',
    })
  })

  test('is refused with a record that was made to say that it is the newest', async () => {
    const before = await record()
    await writeFile(`${folder}/vtpm.json`, JSON.stringify({ ...before, generation: 99 }))
    await expect(host.vms.start('vm')).rejects.toMatchObject({ code: 'VTPM_STATE_ROLLBACK' })
    await writeFile(`${folder}/vtpm.json`, JSON.stringify({ ...before, state: 'running' }))
    await expect(host.vms.start('vm')).rejects.toMatchObject({ code: 'VTPM_STATE_ROLLBACK' })
    await putBack(ALL)
  })

  test('is told of as an older one by an agent that finds it when it starts', async () => {
    await using next = host.restart()
    await next.recover()
    expect(await witness.newEvents()).toEqual(['vtpm.state-rolled-back'])
  })

  test('is not accepted while nobody can witness it', async () => {
    witness.isAway = true
    await expect(host.vms.acceptVtpmState('vm')).rejects.toMatchObject({
      code: 'AUTHORITY_UNREACHABLE',
    })
    witness.isAway = false
  })

  test('is started from when an administrator accepts it, and is the newest then', async () => {
    await host.vms.acceptVtpmState('vm')
    expect(await witness.newEvents()).toEqual(['vtpm.state-accepted'])
    await started()
    await stop()
    await expect(host.vms.acceptVtpmState('vm')).rejects.toMatchObject({
      code: 'VTPM_STATE_INTACT',
    })
  })

  test('is started from with a warning where the policy of the host is to warn', async () => {
    await putBack(ALL)
    await using lenient = host.restart({ vtpmRollback: 'warn' })
    await started(lenient)
    await lenient.stop('vm', { graceSeconds: 0 })
    expect(await witness.newEvents()).toContain('vtpm.state-tolerated')
  })
})

describe('a state that a crash of host and agent left', () => {
  test('is not recorded by anybody until the VM starts, and then with a warning', async () => {
    await save()
    const before = await record()
    await crash()
    expect(await record()).toEqual({ ...before, state: 'running' })
    await witness.newEvents()
    await started()
    await stop()
    expect(await witness.newEvents()).toEqual(['vtpm.state-unrecorded'])
    expect((await record()).generation).toBe(before.generation + 2)
  })

  test('is not to be replaced by an older one', async () => {
    await started()
    await stop()
    await crash()
    await putBack(['vtpm'])
    await expect(host.vms.start('vm')).rejects.toMatchObject({ code: 'VTPM_STATE_ROLLBACK' })
    await host.vms.restoreVtpmState('vm')
  })
})

describe('while the control plane is away', () => {
  test('VMs start and stop by their records, and it is told later', async () => {
    await started()
    await stop()
    await witness.newEvents()
    witness.isAway = true
    await started()
    await stop()
    witness.isAway = false
    expect(await witness.newEvents()).toEqual([])
    await using next = host.restart()
    await next.recover()
    expect(await witness.newEvents()).toEqual(['vtpm.state-late'])
    await next.start('vm')
    await next.stop('vm', { graceSeconds: 0 })
    expect(await witness.newEvents()).toEqual([])
  })

  test('an older state is refused by its record alone', async () => {
    await putBack(['vtpm'])
    witness.isAway = true
    await expect(host.vms.start('vm')).rejects.toMatchObject({ code: 'VTPM_STATE_ROLLBACK' })
    witness.isAway = false
  })
})
