import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { SentTask, TaskReport } from '../../../src/api/tasks.js'
import { systemClock } from '../../../src/core/clock.js'
import { newUuid } from '../../../src/core/random.js'
import { createTasks } from '../../../src/host-agent/domain/tasks.js'
import { TaskJournal } from '../../../src/host-agent/tasks/journal.js'
import { createTaskRunner, type TaskRunner } from '../../../src/host-agent/tasks/runner.js'
import { silent } from '../../helpers/site.js'
import { createTestHost, type TestHost } from '../host-agent-vm/support.js'

const MIB = 1024 * 1024

let host: TestHost
let folder: string
let runner: TaskRunner

beforeEach(async () => {
  host = await createTestHost()
  folder = mkdtempSync(join(tmpdir(), 'sgl-run-'))
  runner = startRunner()
})
afterEach(async () => {
  runner.close()
  await host[Symbol.asyncDispose]()
  rmSync(folder, { recursive: true, force: true })
})

/** A runner as that of an agent which begins with this journal. The test is the control plane. */
function startRunner(): TaskRunner {
  const started = createTaskRunner({
    ...{ vms: host.vms, clock: systemClock, logger: silent },
    keeper: { ready: async () => undefined, defaultProvider: undefined },
    journal: new TaskJournal(folder),
    tasks: createTasks(() => undefined),
    onChange: () => undefined,
  })
  started.recover()
  return started
}

function restart(): TaskRunner {
  runner.close()
  runner = startRunner()
  return runner
}

const send = (...tasks: SentTask[]) => runner.take({ tasks, cancel: [], goOn: [] })
const goOn = (...ids: string[]) => runner.take({ tasks: [], cancel: [], goOn: ids })
const cancel = (...ids: string[]) => runner.take({ tasks: [], cancel: ids, goOn: [] })

function newVm(name: string): SentTask {
  const disks = [{ name: 'root', sizeOctets: MIB }]
  return {
    taskId: newUuid(),
    kind: 'vm.create',
    request: { name, provider: 'kp', vtpm: false, disks },
  }
}

/** The end of a task, as it is reported; recorded by the control plane unless told otherwise. */
async function endOf({ taskId }: SentTask, isRecorded = true): Promise<TaskReport> {
  for (let turn = 0; turn < 400; turn += 1) {
    const { tasks, reported } = runner.reports()
    const report = tasks.find((one) => one.taskId === taskId)
    if (report && report.state !== 'waiting' && report.state !== 'running') {
      reported(isRecorded ? [taskId] : [])
      return report
    }
    reported([])
    await delay(50)
  }
  throw new Error('the task did not end')
}

const namesOfVms = async () => (await host.vms.list()).map(({ name }) => name)

describe('a task that comes more than once', () => {
  test('while it waits, while it runs, and when it was done, is done once', async () => {
    const task = newVm('web1')
    send(task, task)
    send(task)
    expect(await endOf(task, false)).toMatchObject({ state: 'done', result: { vmId: task.taskId } })
    send(task)
    expect(await endOf(task)).toMatchObject({ state: 'done' })
    expect(runner.holds).toEqual([])
    send(task)
    expect(await endOf(task)).toMatchObject({ state: 'done', result: { name: 'web1' } })
    expect(await namesOfVms()).toEqual(['web1'])
  })

  test('also to an agent after it, and when what it made is gone again', async () => {
    const task = newVm('web1')
    send(task)
    await endOf(task)
    await host.vms.delete('web1')
    restart()
    expect(runner.holds).toEqual([])
    send(task)
    expect(await endOf(task)).toMatchObject({ state: 'done' })
    expect(await namesOfVms()).toEqual([])
  })
})

describe('an agent that begins with tasks of one before it', () => {
  test('begins none before the control plane says that it is wanted still', async () => {
    const first = newVm('web1')
    const second = newVm('web2')
    // one at a time, so that nothing begins
    const entries = [first, second].map((task, order) => ({
      ...{ format: 1, order, task, state: 'waiting' },
    }))
    runner.close()
    mkdirSync(join(folder, 'tasks'), { recursive: true })
    for (const entry of entries) {
      writeFileSync(join(folder, 'tasks', `${entry.task.taskId}.json`), JSON.stringify(entry))
    }
    restart()
    expect(runner.holds).toEqual([first.taskId, second.taskId])
    await delay(100)
    expect(await namesOfVms()).toEqual([])
    goOn(second.taskId)
    expect(await endOf(second)).toMatchObject({ state: 'done' })
    cancel(first.taskId)
    expect(await endOf(first)).toMatchObject({ state: 'cancelled' })
    expect(await namesOfVms()).toEqual(['web2'])
  })

  test('finds out that one was done, also where it is to be cancelled', async () => {
    const made = newVm('web1')
    await host.vms.create(made.request as never, { vmId: made.taskId })
    const entry = { format: 1, order: 1, task: made, state: 'begun', before: null }
    mkdirSync(join(folder, 'tasks'), { recursive: true })
    writeFileSync(join(folder, 'tasks', `${made.taskId}.json`), JSON.stringify(entry))
    restart()
    cancel(made.taskId)
    expect(await endOf(made)).toMatchObject({ state: 'done', result: { vmId: made.taskId } })
    expect(await namesOfVms()).toEqual(['web1'])
  })

  test('finds out that one had brought a VM from another host, where nothing says which it was', async () => {
    const made = newVm('web1')
    send(made)
    await endOf(made)
    const directory = join(folder, 'web1')
    await host.vms.export('web1', { directory })
    await host.vms.delete('web1')
    const brought: SentTask = { taskId: newUuid(), kind: 'vm.import', request: { directory } }
    await host.vms.import({ directory, taskId: brought.taskId })
    const entry = { format: 1, order: 2, task: brought, state: 'begun', before: null }
    writeFileSync(join(folder, 'tasks', `${brought.taskId}.json`), JSON.stringify(entry))
    restart()
    goOn(brought.taskId)
    expect(await endOf(brought)).toMatchObject({ state: 'done', result: { vmId: made.taskId } })
    const again = { ...brought, taskId: newUuid() }
    send(again)
    expect(await endOf(again)).toMatchObject({
      state: 'failed',
      error: { code: 'VM_EXISTS', message: 'VM web1 is here: it was imported from this export' },
    })
  })

  test('takes nothing where the journal cannot be read', () => {
    mkdirSync(join(folder, 'tasks'), { recursive: true })
    writeFileSync(join(folder, 'tasks', `${newUuid()}.json`), '{"format":1,')
    expect(() => restart()).toThrow(expect.objectContaining({ code: 'TASK_JOURNAL' }))
    rmSync(join(folder, 'tasks'), { recursive: true })
    runner = startRunner()
  })
})

describe('a task is not begun', () => {
  test('when it cannot be written down, and comes again', async () => {
    const task = newVm('web1')
    rmSync(join(folder, 'tasks'), { recursive: true, force: true })
    writeFileSync(join(folder, 'tasks'), 'in the way')
    expect(() => send(task)).toThrow(expect.objectContaining({ code: 'TASK_JOURNAL' }))
    expect(runner.holds).toEqual([])
    rmSync(join(folder, 'tasks'))
    send(task)
    expect(await endOf(task)).toMatchObject({ state: 'done' })
  })

  test('of a kind that this agent does not know, or with a request that does not fit', async () => {
    const unknown = { ...newVm('web1'), kind: 'vm.teleport' }
    const bad = { ...newVm('web1'), request: { name: '../web1', disks: [] } }
    const noVm = { taskId: newUuid(), kind: 'vm.start', request: {} }
    const gone = { ...noVm, taskId: newUuid(), vmId: newUuid() }
    send(unknown, bad, noVm, gone)
    const codes = []
    for (const task of [unknown, bad, noVm, gone]) codes.push((await endOf(task)).error?.code)
    expect(codes).toEqual(['TASK_KIND', 'REQUEST_INVALID', 'REQUEST_INVALID', 'VM_NOT_FOUND'])
    expect(await namesOfVms()).toEqual([])
  })

  test('while the host is not trusted', async () => {
    const task = newVm('web1')
    const { taskId } = task
    runner.pause()
    send(task)
    await endOf(task)
    const next: SentTask = { taskId: newUuid(), kind: 'vm.delete', vmId: taskId, request: {} }
    const other: SentTask = { taskId: newUuid(), kind: 'vm.start', vmId: taskId, request: {} }
    send(other, next)
    runner.pause()
    await endOf(other)
    await delay(200)
    expect(await namesOfVms()).toEqual(['web1'])
    await host.vms.stop('web1', { graceSeconds: 0 })
    goOn(next.taskId)
    expect(await endOf(next)).toMatchObject({ state: 'done' })
  })
})

test('the journal is for its owner alone', async () => {
  const task = newVm('web1')
  send(task)
  await endOf(task)
  expect(statSync(join(folder, 'tasks')).mode & 0o777).toBe(0o700)
  for (const file of readdirSync(join(folder, 'tasks'))) {
    expect(statSync(join(folder, 'tasks', file)).mode & 0o777).toBe(0o600)
  }
})
