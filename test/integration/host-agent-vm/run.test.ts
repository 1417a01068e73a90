import { readFileSync } from 'node:fs'
import { mkdir, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { PlatformError } from '../../../src/core/errors.js'
import { DEFAULT_FIRMWARE, findKvmDefect } from '../../../src/host-agent/vm/accelerator.js'
import { identify, isAlive } from '../../../src/host-agent/vm/processes.js'
import { DEFAULT_PROGRAMS } from '../../../src/host-agent/vm/programs.js'
import { Qmp } from '../../../src/host-agent/vm/qmp.js'
import { memoryLogger } from '../../helpers/memory-logger.js'
import { startAndDie } from './killed.js'
import {
  createTestHost,
  findKeys,
  findWideModes,
  processesNaming,
  secretsOf,
  type TestHost,
  watchForLeaks,
} from './support.js'

const MIB = 1024 * 1024

let host: TestHost
let folder: string
let state: string

beforeAll(async () => {
  host = await createTestHost()
  const { vmId } = await host.vms.create({
    ...{ name: 'vm', provider: 'kp', memoryMib: 128 },
    disks: [
      { name: 'root', sizeOctets: MIB },
      { name: 'data', sizeOctets: MIB },
    ],
  })
  folder = `${host.directory}/${vmId}`
  state = `${folder}/vtpm/tpm2-00.permall`
})

afterAll(() => host[Symbol.asyncDispose]())

describe('a VM that runs', () => {
  const steps: string[] = []
  let leaks: readonly string[]
  let pid = 0

  beforeAll(async () => {
    const watch = watchForLeaks(host)
    const vm = await host.vms.start('vm', (step) => steps.push(step))
    leaks = await watch.stop()
    pid = vm.pid ?? 0
    expect(vm).toMatchObject({ state: 'running', accelerator: 'tcg' })
  })

  test('is started step by step', () => {
    expect(steps).toEqual(['keys', 'accelerator', 'vtpm', 'qemu', 'disks', 'run', 'done'])
  })

  test('had no key and no file for others at any moment of its start', () => {
    expect(leaks).toEqual([])
  })

  test('is seen as running, here and in the inventory', async () => {
    expect(await host.vms.show('vm')).toMatchObject({ state: 'running', pid })
    expect([...host.inventory.vms.values()]).toMatchObject([{ state: 'running' }])
  })

  test('has a guest that executes, with both disks, its firmware variables and the virtual TPM', async () => {
    await using qmp = await Qmp.connect(`${folder}/run/qmp.sock`)
    expect(await qmp.execute('query-status')).toMatchObject({ status: 'running', running: true })
    const blocks = JSON.stringify(await qmp.execute('query-named-block-nodes'))
    expect(blocks.match(/"drv": ?"luks"/g)?.length).toBe(3)
    expect(await qmp.execute('query-tpm')).toMatchObject([{ model: 'tpm-crb' }])
  })

  test('has no key on a command line, in an environment, in a file or in an object of QEMU', async () => {
    expect(processesNaming(folder).length).toBe(2)
    expect(await findKeys(await secretsOf(host), host.directory)).toEqual([])
    await using qmp = await Qmp.connect(`${folder}/run/qmp.sock`)
    expect(JSON.stringify(await qmp.execute('qom-list', { path: '/objects' }))).not.toContain(
      'secret',
    )
  })

  test('has sockets that only its owner can use, and dumps no core', async () => {
    expect((await readdir(`${folder}/run`)).sort()).toEqual([
      ...[
        'att.sock',
        'qemu.log',
        'qemu.pid',
        'qmp.sock',
        'run.json',
        'swtpm.log',
        'swtpm.pid',
        'tpm.sock',
      ],
    ])
    expect(await findWideModes(host.directory)).toEqual([])
    expect(await readFile(`/proc/${pid}/limits`, 'utf8')).toMatch(/core file size +([01]) +\1 /)
    expect(await readFile(`/proc/${pid}/coredump_filter`, 'utf8')).toMatch(/^0+$/m)
  })

  test('is neither started again, nor deleted, nor are its disks read', async () => {
    for (const attempt of [
      () => host.vms.start('vm'),
      () => host.vms.delete('vm'),
      () => host.vms.readDisk('vm', 'root', 0, 1),
    ]) {
      await expect(attempt()).rejects.toMatchObject({ code: 'VM_RUNNING' })
    }
  })

  test('runs on when a stop is cancelled that waits for its guest, and is shown meanwhile', async () => {
    const cancelled = new PlatformError('TASK_CANCELLED', 'the task was cancelled')
    const cancel = new AbortController()
    const begun: string[] = []
    const stopping = host.vms.stop(
      'vm',
      { graceSeconds: 3600 },
      { onProgress: (step) => begun.push(step), signal: cancel.signal },
    )
    await expect.poll(() => begun).toEqual(['shutdown'])
    expect(await host.vms.show('vm')).toMatchObject({ state: 'running', pid })
    await expect(host.vms.addDisk('vm', { name: 'late', sizeOctets: MIB })).rejects.toMatchObject({
      code: 'VM_BUSY',
    })
    cancel.abort(cancelled)
    await expect(stopping).rejects.toMatchObject({ code: 'TASK_CANCELLED' })
    expect(await host.vms.show('vm')).toMatchObject({ state: 'running', pid })
  })

  test('goes on when the agent ends, and the next agent finds and stops it', async () => {
    await using next = host.restart()
    await next.recover()
    expect(await next.list()).toMatchObject([{ state: 'running', pid }])
    expect(await next.stop('vm', { graceSeconds: 0 })).toMatchObject({ state: 'stopped' })
    expect(processesNaming(folder)).toEqual([])
    expect(await readdir(folder)).not.toContain('run')
    await expect(next.stop('vm')).rejects.toMatchObject({ code: 'VM_STOPPED' })
  })

  test('starts again after it was stopped, since its virtual TPM is the one it stopped with', async () => {
    expect(await host.vms.start('vm')).toMatchObject({ state: 'running' })
    const stopped: string[] = []
    await host.vms.stop('vm', { graceSeconds: 1 }, { onProgress: (step) => stopped.push(step) })
    expect(stopped).toEqual(['shutdown', 'power-off', 'settle', 'done'])
    expect(JSON.parse(await readFile(`${folder}/vtpm.json`, 'utf8'))).toMatchObject({
      ...{ state: 'stopped', generation: 3 },
    })
  })
})

test('a VM whose QEMU ends by itself is settled and reported, with the disk that it was given meanwhile', async () => {
  const { pid = 0 } = await host.vms.start('vm')
  await host.vms.addDisk('vm', { name: 'late', sizeOctets: MIB })
  process.kill(pid, 'SIGTERM')
  await expect
    .poll(() => [...host.inventory.vms.values()][0]?.state, { timeout: 10_000 })
    .toBe('stopped')
  expect([...host.inventory.vms.values()][0]?.disks.map(({ name }) => name)).toContain('late')
  expect(await readdir(folder)).not.toContain('run')
  expect(processesNaming(folder)).toEqual([])
  await host.vms.removeDisk('vm', 'late')
})

test('a VM whose virtual TPM was killed is shown as such, and has it again when it is started anew', async () => {
  const { logger, lines } = memoryLogger()
  await using watching = host.restart({ logger })
  await watching.start('vm')
  const [swtpm = 0] = processesNaming(`${folder}/run/tpm.sock`).filter((pid) =>
    readFileSync(`/proc/${pid}/comm`, 'utf8').startsWith('swtpm'),
  )
  process.kill(swtpm, 'SIGKILL')
  await expect
    .poll(() => lines.filter((line) => line.includes('vm.vtpm-ended')).length, { timeout: 10_000 })
    .toBe(1)
  expect(await watching.show('vm')).toMatchObject({ state: 'running', vtpmEnded: true })
  await watching.stop('vm', { graceSeconds: 0 })
  const again = await watching.start('vm')
  expect(again.vtpmEnded).toBeUndefined()
  await watching.stop('vm', { graceSeconds: 0 })
  expect(processesNaming(folder)).toEqual([])
})

test('a VM whose run record cannot be read is shown, stopped, and keeps no other from being listed', async () => {
  const { pid } = await host.vms.start('vm')
  await writeFile(`${folder}/run/run.json`, '{')
  expect(await host.vms.list()).toMatchObject([{ state: 'running', pid, accelerator: 'tcg' }])
  await expect(host.vms.start('vm')).rejects.toMatchObject({ code: 'VM_RUNNING' })
  await host.vms.stop('vm', { graceSeconds: 0 })
  expect(processesNaming(folder)).toEqual([])
  await mkdir(`${folder}/run`)
  await writeFile(`${folder}/run/run.json`, '{')
  expect(await host.vms.list()).toMatchObject([{ state: 'stopped' }])
  expect(await host.vms.start('vm')).toMatchObject({ state: 'running' })
  await host.vms.stop('vm', { graceSeconds: 0 })
})

test('a VM that crashed with its agent starts from the state that it had reached', async () => {
  await using crashed = host.restart()
  const { pid = 0 } = await crashed.start('vm')
  await crashed[Symbol.asyncDispose]()
  const identity = await identify(pid)
  process.kill(pid, 'SIGKILL')
  await expect.poll(async () => identity && (await isAlive(identity))).toBe(false)
  await using next = host.restart()
  await next.recover()
  expect(await next.start('vm')).toMatchObject({ state: 'running' })
  await next.stop('vm', { graceSeconds: 0 })
})

describe('a virtual TPM is not started', () => {
  test('when its state is missing: swtpm would make a new one', async () => {
    const content = await readFile(state)
    await rm(state)
    await expect(host.vms.start('vm')).rejects.toMatchObject({ code: 'VTPM_STATE_MISSING' })
    expect(await readdir(`${folder}/vtpm`)).not.toContain('tpm2-00.permall')
    await writeFile(state, content, { mode: 0o600 })
  })

  test('when an older state was put back', async () => {
    const older = await readFile(state)
    await host.vms.start('vm')
    const isOlder = async () => (await readFile(state)).equals(older)
    await expect.poll(isOlder, { timeout: 30_000 }).toBe(false)
    await host.vms.stop('vm', { graceSeconds: 0 })
    const newer = await readFile(state)
    await writeFile(state, older)
    await expect(host.vms.start('vm')).rejects.toMatchObject({ code: 'VTPM_STATE_ROLLBACK' })
    await writeFile(state, newer)
  })

  test('when one bit of its state is another, wherever it is', async () => {
    const content = await readFile(state)
    for (const offset of [0, 3, 5, 9, 11, 15, 16, content.length >> 1, content.length - 1]) {
      const altered = Buffer.from(content)
      altered.writeUInt8(altered.readUInt8(offset) ^ 1, offset)
      await writeFile(state, altered)
      await expect(host.vms.start('vm')).rejects.toMatchObject({
        code: expect.stringMatching(/^VTPM_STATE_(CORRUPT|TRUNCATED)$/),
      })
    }
    await writeFile(state, content)
  })

  test('when its state is a link', async () => {
    await rename(state, `${state}.real`)
    await symlink(`${state}.real`, state)
    await expect(host.vms.start('vm')).rejects.toMatchObject({ code: 'VTPM_STATE_CORRUPT' })
    await rename(`${state}.real`, state)
  })
})

test('a start that fails in the middle leaves no process and a VM that starts', async () => {
  const firmware = { ...DEFAULT_FIRMWARE, code: '/nonexistent/OVMF.fd' }
  await using broken = host.restart({ firmware })
  await expect(broken.start('vm')).rejects.toMatchObject({
    ...{ code: 'VM_PROCESS', message: expect.stringContaining('/nonexistent/OVMF.fd') },
  })
  expect(processesNaming(folder)).toEqual([])
  expect(await host.vms.start('vm')).toMatchObject({ state: 'running' })
  await host.vms.stop('vm', { graceSeconds: 0 })
})

test('an agent that was killed in the middle of a start leaves nothing after recovery', async () => {
  for (const step of ['vtpm', 'qemu', 'disks', 'run']) {
    await startAndDie(host, 'vm', step)
    await using next = host.restart()
    await next.recover()
    expect(processesNaming(folder)).toEqual([])
    expect(await next.list()).toMatchObject([{ state: 'stopped' }])
  }
  expect(await host.vms.start('vm')).toMatchObject({ state: 'running' })
  await host.vms.stop('vm', { graceSeconds: 0 })
})

test('KVM is taken only where a guest runs under it', async () => {
  const reason = await findKvmDefect(DEFAULT_PROGRAMS, DEFAULT_FIRMWARE)
  await using auto = await createTestHost({ accelerator: 'auto' })
  await auto.vms.create({ name: 'a', provider: 'kp', vtpm: false, memoryMib: 64, disks: [] })
  const vm = await auto.vms.start('a')
  expect(vm.accelerator).toBe(reason === undefined ? 'kvm' : 'tcg')
})

test('memory of a VM is kept in RAM where the agent is told to', async () => {
  await using locking = host.restart({ lockMemory: true })
  const { pid } = await locking.start('vm')
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  expect(Number(/^VmLck:\s+(\d+) kB$/m.exec(status)?.[1])).toBeGreaterThan(128 * 1024)
  await locking.stop('vm', { graceSeconds: 0 })
})
