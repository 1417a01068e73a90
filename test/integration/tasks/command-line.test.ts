import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { attestNow } from '../../../src/api/host-agent.js'
import type { VmTaskView } from '../../../src/api/tasks.js'
import { createLab, type Lab } from '../../../swtpm/index.js'
import type { TestSite } from '../../helpers/site.js'
import { type Outcome, run as runProgram, sigillo } from '../cli/sigillo.js'
import { startAgent, type TestAgent, trustAgent } from '../host-keys/fixture.js'
import { done, openTaskSite, smallVm } from './fixture.js'

let lab: Lab
let site: TestSite
let a: TestAgent

beforeAll(async () => {
  lab = await createLab()
  site = await openTaskSite(lab)
  a = await startAgent(lab, site, 'a')
  await trustAgent(site, a)
  await a.socket.call(attestNow, { body: {} })
}, 120_000)
afterAll(async () => {
  await a?.[Symbol.asyncDispose]()
  await site?.[Symbol.asyncDispose]()
  await lab?.[Symbol.asyncDispose]()
})

const run = (...args: readonly string[]): Promise<Outcome> =>
  sigillo(...args, '--site', site.folder)
const json = async <T>(...args: readonly string[]): Promise<T> => {
  const { status, out, err } = await run(...args, '--json')
  expect({ status, err }).toEqual({ status: 0, err: '' })
  return JSON.parse(out) as T
}

describe('the command line', () => {
  test('has VMs made, shown, started, stopped and deleted by their host', async () => {
    const made = await run(
      ...['vm', 'create', 'web1', '--host', 'a', '--provider', 'gold'],
      ...['--disk', 'root=1M', '--no-vtpm'],
    )
    expect(made).toMatchObject({ status: 0 })
    expect(made.out).toMatch(/^vm\.create on a is done, VM web1 \(.*\) is stopped: task /)
    // no terminal: lines, and none that overwrite themselves
    expect(made.err).toMatch(/100 %|waits for a|keys|format/)
    expect(made.err).not.toContain('\r')
    const { out: shown } = await run('vm', 'show', 'web1')
    expect(shown).toMatch(/host: +a in lab/)
    expect(shown).toMatch(/home +- +gold version 1 +encrypted \(as it is\) +compliant/)
    expect(shown).toMatch(/disk root +1 MiB +gold version 1 +encrypted \(as it is\) +compliant/)
    const started = await json<VmTaskView>('vm', 'start', 'web1')
    expect(started).toMatchObject({ kind: 'vm.start', state: 'done' })
    expect((await run('vm', 'delete', 'web1')).err).toContain('--yes')
    const detached = await json<VmTaskView>('vm', 'stop', 'web1', '--grace', '0', '--detach')
    expect(detached).toMatchObject({ kind: 'vm.stop', state: 'queued' })
    const followed = await json<VmTaskView>('task', 'follow', detached.taskId)
    expect(followed).toMatchObject({ state: 'done', result: { state: 'stopped' } })
    expect(await run('vm', 'delete', 'web1', '--yes')).toMatchObject({ status: 0 })
    const { tasks } = await json<{ tasks: VmTaskView[] }>('task', 'list', '--host', 'a')
    expect(tasks.map(({ kind }) => kind)).toEqual([
      ...['vm.delete', 'vm.stop', 'vm.start', 'vm.create'],
    ])
    const { out: task } = await run('task', 'show', detached.taskId)
    expect(task).toMatch(/asked by: +operator:admin/)
  }, 120_000)

  test('has snapshots kept, disks taken out, and keys wrapped anew', async () => {
    const made = ['vm', 'create', 'web3', '--host', 'a', '--provider', 'gold', '--no-vtpm']
    expect(await run(...made, '--disk', 'root=1M')).toMatchObject({ status: 0 })
    expect(await run('vm', 'rewrap', 'web3')).toMatchObject({ status: 0 })
    expect(await run('vm', 'snapshot', 'create', 'web3', 'before')).toMatchObject({ status: 0 })
    expect(await run('vm', 'start', 'web3')).toMatchObject({ status: 0 })
    expect(await run('vm', 'snapshot', 'create', 'web3', 'live')).toMatchObject({ status: 0 })
    const disks = ['vm', 'snapshot', 'create', 'web3', 'disks', '--no-memory']
    expect(await run(...disks)).toMatchObject({ status: 0 })
    expect((await run('vm', 'snapshot', 'revert', 'web3', 'live', '--yes')).err).toContain(
      '(VM_RUNNING)',
    )
    const onHost = ['vm', 'snapshot', 'list', 'web3', '--socket', a.socketFile]
    const listed = await runProgram('agent-main', ...onHost)
    expect(listed.out).toMatch(/before +\S+ +stopped /)
    expect(listed.out).toMatch(/live +\S+ +running {2,}/)
    expect(listed.out).toMatch(/disks +\S+ +running, no memory /)
    const { out } = await runProgram('agent-main', ...onHost, '--json')
    expect(JSON.parse(out).snapshots).toMatchObject([
      { name: 'before', running: false, memory: false },
      { name: 'live', running: true, memory: true },
      { name: 'disks', running: true, memory: false },
    ])
    const stop = () => run('vm', 'stop', 'web3', '--grace', '0')
    expect(await stop()).toMatchObject({ status: 0 })
    expect(await run('vm', 'snapshot', 'revert', 'web3', 'live', '--yes')).toMatchObject({
      status: 0,
    })
    expect((await run('vm', 'show', 'web3')).out).toContain('running')
    expect(await stop()).toMatchObject({ status: 0 })
    const cold = ['vm', 'snapshot', 'revert', 'web3', 'live', '--no-memory', '--yes']
    expect(await run(...cold)).toMatchObject({ status: 0 })
    expect((await run('vm', 'show', 'web3')).out).toContain('stopped')
    for (const name of ['live', 'disks']) {
      await run('vm', 'snapshot', 'remove', 'web3', name, '--yes')
    }
    const kept = await run('vm', 'disk', 'detach', 'web3', 'root')
    expect([kept.status, kept.err]).toEqual([1, expect.stringContaining('(VM_SNAPSHOTS)')])
    expect((await run('vm', 'snapshot', 'revert', 'web3', 'before')).err).toContain('--yes')
    const back = await run('vm', 'snapshot', 'revert', 'web3', 'before', '--yes')
    expect(back).toMatchObject({ status: 0 })
    const removed = await run('vm', 'snapshot', 'remove', 'web3', 'before', '--yes')
    expect(removed).toMatchObject({ status: 0 })
    expect(await run('vm', 'disk', 'detach', 'web3', 'root')).toMatchObject({ status: 0 })
    expect(await run('vm', 'delete', 'web3', '--yes')).toMatchObject({ status: 0 })
  }, 120_000)

  test('ends with status 1 and the code of what failed, was refused or is not there', async () => {
    const failed = await run('vm', 'create', 'web1', '--host', 'a', '--provider', 'nobody')
    expect(failed).toMatchObject({ status: 1, out: '' })
    expect(failed.err).toContain('(NOT_FOUND)')
    expect((await run('vm', 'start', 'web9')).err).toContain('(VM_NOT_FOUND)')
    const elsewhere = ['--host', 'a', '--cluster', 'other', '--plain']
    expect((await run('vm', 'create', 'web9', ...elsewhere)).err).toContain('(TASK_HOST)')
    expect((await run('vm', 'create', 'web9')).status).toBe(1)
    expect((await run('task', 'cancel', '6f1c1d9e-5c52-4f0b-9a7e-0d6d1f0f7a11')).status).toBe(1)
  }, 120_000)

  test('says at Ctrl-C how to cancel, and leaves the task to itself at the second', async () => {
    const { vmId } = await done(site.admin, {
      ...{ kind: 'vm.create', hostId: 'a', request: smallVm('web2') },
    })
    await done(site.admin, { kind: 'vm.start', vmId: vmId ?? '', request: {} })
    const file = 'dist/src/cli/main.js'
    const args = [file, 'vm', 'stop', 'web2', '--grace', '110', '--site', site.folder]
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    let said = ''
    const heard = (words: string) =>
      new Promise<void>((resolve) => {
        const look = () => said.includes(words) && resolve()
        child.stderr.on('data', look)
        look()
      })
    child.stderr.on('data', (chunk: Buffer) => {
      said += String(chunk)
    })
    await heard('[')
    child.kill('SIGINT')
    await heard('sigillo task cancel')
    expect(child.exitCode).toBeNull()
    child.kill('SIGINT')
    const [status] = await once(child, 'exit')
    expect(status).toBe(1)
    const left = await json<{ tasks: VmTaskView[] }>('task', 'list', '--host', 'a')
    expect(left.tasks[0]).toMatchObject({ kind: 'vm.stop', vmId })
    expect(left.tasks[0]?.state).toMatch(/^(queued|sent|running)$/)

    const taskId = left.tasks[0]?.taskId ?? ''
    expect(await run('task', 'cancel', taskId)).toMatchObject({ status: 0 })
    const { status: followed, err } = await run('task', 'follow', taskId)
    expect([followed, err]).toEqual([1, expect.stringContaining('(TASK_CANCELLED)')])
    await done(site.admin, {
      ...{ kind: 'vm.stop', vmId: vmId ?? '', request: { graceSeconds: 0 } },
    })
  }, 120_000)
})
