import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Client, createClient } from '../../../src/api/client.js'
import {
  createCluster,
  listControlPlaneAudit,
  listEvents,
  listVms,
} from '../../../src/api/control-plane.js'
import { attestNow, listAgentVms } from '../../../src/api/host-agent.js'
import { revokeHost } from '../../../src/api/hosts.js'
import { cancelVmTask, listVmTasks, reportTasks, takeTasks } from '../../../src/api/tasks.js'
import { newUuid } from '../../../src/core/random.js'
import { createAuthority } from '../../../src/host-agent/adapters/authority.js'
import { createOperator, openStore } from '../../../src/store/index.js'
import { createLab, type Lab } from '../../../swtpm/index.js'
import { bootHost, CLUSTER, ticketFor } from '../../helpers/host.js'
import type { TestSite } from '../../helpers/site.js'
import { startAgent, type TestAgent, trustAgent, until } from '../host-keys/fixture.js'
import { ask, codeOf, done, follow, openTaskSite, smallVm } from './fixture.js'

const MIB = 1024 * 1024
const BIG = 768 * MIB
const MOST = 6

let lab: Lab
let site: TestSite
let a: TestAgent
let auditor: Client
let vmId: string

beforeAll(async () => {
  lab = await createLab()
  site = await openTaskSite(lab, { SIGILLO_CONTROL_PLANE_TASKS_PER_HOST: String(MOST) })
  await site.admin.call(createCluster, { body: { name: 'other' } })
  auditor = await auditorOf(site)
  a = await startAgent(lab, site, 'a')
  await trustAgent(site, a)
  await a.socket.call(attestNow, { body: {} })
  ;({ taskId: vmId } = await done(site.admin, make('web1')))
}, 120_000)
afterAll(async () => {
  await a?.[Symbol.asyncDispose]()
  await auditor?.[Symbol.asyncDispose]()
  await site?.[Symbol.asyncDispose]()
  await lab?.[Symbol.asyncDispose]()
})

async function auditorOf({ folder, url, caPem, clock }: TestSite): Promise<Client> {
  await using store = await openStore({ file: join(folder, 'sigillo.db') })
  const { token } = await createOperator(store, {
    ...{ name: 'auditor', role: 'auditor', services: ['control-plane'], nowMs: clock.nowMs() },
  })
  return createClient({ baseUrl: url, caPem, bearerToken: token })
}

const make = (name: string, change: object = {}) =>
  ({ kind: 'vm.create', hostId: 'a', request: smallVm(name, change) }) as const
const start = () => ({ kind: 'vm.start', vmId, request: {} }) as const
const cancel = ({ taskId }: { readonly taskId: string }, client = site.admin) =>
  client.call(cancelVmTask, { params: { taskId }, body: {} })

describe('a task is refused when it is asked for', () => {
  test('on a VM that nobody reported', async () => {
    const unknown = { kind: 'vm.start', vmId: newUuid(), request: {} } as const
    await expect(ask(site.admin, unknown)).rejects.toMatchObject({ code: 'VM_NOT_FOUND' })
  })

  test('on a host that is not of the cluster, or that nobody knows', async () => {
    const elsewhere = { ...make('web9'), cluster: 'other' }
    await expect(ask(site.admin, elsewhere)).rejects.toMatchObject({ code: 'TASK_HOST' })
    const { hostId: _, ...inOther } = elsewhere
    await expect(ask(site.admin, inOther)).rejects.toMatchObject({ code: 'TASK_HOST' })
    const nobody = { ...make('web9'), hostId: 'nobody' }
    await expect(ask(site.admin, nobody)).rejects.toMatchObject({ code: 'NOT_FOUND' })
    const nowhere = { kind: 'vm.create', request: smallVm('web9') } as const
    await expect(ask(site.admin, nowhere)).rejects.toMatchObject({ code: 'REQUEST_INVALID' })
  })

  test('with a request that does not fit its kind', async () => {
    for (const body of [
      { kind: 'vm.frobnicate', vmId, request: {} },
      { kind: 'vm.start', vmId, request: { fast: true } },
      { kind: 'vm.start', vmId: 'web1', request: {} },
      { kind: 'vm.grow-disk', vmId, request: { disk: '../root', sizeOctets: MIB } },
    ]) {
      const asked = ask(site.admin, body as never)
      await expect(asked).rejects.toMatchObject({ code: 'REQUEST_INVALID' })
    }
  })

  test('without the privilege that its kind needs, and the refusal is in the audit', async () => {
    await expect(ask(auditor, start())).rejects.toMatchObject({ code: 'FORBIDDEN' })
    await expect(ask(auditor, make('web9'))).rejects.toMatchObject({ code: 'FORBIDDEN' })
    const { records } = await site.admin.call(listControlPlaneAudit, { query: { limit: 1000 } })
    const refused = records.filter(({ outcome }) => outcome === 'refused')
    expect(refused.map(({ actor }) => actor)).toContain('operator:auditor')
    const asked = await site.admin.call(listVmTasks, { query: { vmId } })
    expect(asked.tasks.map(({ kind }) => kind)).toEqual(['vm.create'])
  })
})

describe('a task fails with what its host says', () => {
  test('of a VM in another state, of one that is there, of a disk that is not', async () => {
    expect(await codeOf(site.admin, { kind: 'vm.stop', vmId, request: {} })).toBe('VM_STOPPED')
    expect(await codeOf(site.admin, make('web1'))).toBe('VM_EXISTS')
    const missing = { kind: 'vm.remove-disk', vmId, request: { disk: 'data' } } as const
    expect(await codeOf(site.admin, missing)).toBe('VM_DISK_NOT_FOUND')
  })

  test('and tasks on one VM are done in their order', async () => {
    const kinds = ['vm.add-disk', 'vm.grow-disk', 'vm.remove-disk'] as const
    const requests = [
      { name: 'data', sizeOctets: MIB },
      { disk: 'data', sizeOctets: 2 * MIB },
      { disk: 'data' },
    ]
    const asked = []
    for (const [index, kind] of kinds.entries()) {
      asked.push(await ask(site.admin, { kind, vmId, request: requests[index] } as never))
    }
    for (const task of asked)
      expect(await follow(site.admin, task)).toMatchObject({ state: 'done' })
  })
})

describe('a task is cancelled', () => {
  test('while it runs, and the VM is as it was; others of the VM wait and are cancelled too', async () => {
    const disks = [{ name: 'root', sizeOctets: BIG }]
    const { taskId: big } = await done(site.admin, make('big', { disks }))
    const request = { disks: ['root'], compare: 'all' as const }
    const running = await ask(site.admin, { kind: 'vm.recrypt', vmId: big, request })
    const waiting = await ask(site.admin, { kind: 'vm.start', vmId: big, request: {} })
    const at = await follow(site.admin, running, ({ octets }) => (octets?.done ?? 0) > 0)
    expect(at).toMatchObject({ state: 'running', octets: { total: BIG } })
    await follow(site.admin, waiting, ({ waitingFor }) => waitingFor === 'turn')
    const { tasks } = await site.admin.call(listVmTasks, { query: { vmId: big, state: 'sent' } })
    expect(tasks).toMatchObject([{ taskId: waiting.taskId, waitingFor: 'turn' }])

    expect(await cancel(waiting)).toMatchObject({ state: 'cancelling' })
    expect(await follow(site.admin, waiting)).toMatchObject({ state: 'cancelled' })
    expect(await cancel(running)).toMatchObject({ state: 'cancelling' })
    expect(await follow(site.admin, running)).toMatchObject({
      state: 'cancelled',
      error: { code: 'TASK_CANCELLED' },
    })
    await expect(cancel(running)).rejects.toMatchObject({ code: 'TASK_UNCANCELLABLE' })
    await done(site.admin, { kind: 'vm.delete', vmId: big, request: {} })
  }, 120_000)

  test('a stop while it waits for the guest, and the VM runs on; but not by others without the privilege', async () => {
    await done(site.admin, start())
    const stopping = await ask(site.admin, {
      kind: 'vm.stop',
      vmId,
      request: { graceSeconds: 3600 },
    })
    await follow(site.admin, stopping, ({ state }) => state === 'running')
    await expect(cancel(stopping, auditor)).rejects.toMatchObject({ code: 'FORBIDDEN' })
    await cancel(stopping)
    expect(await follow(site.admin, stopping)).toMatchObject({
      ...{ state: 'cancelled', error: { code: 'TASK_CANCELLED' } },
    })
    expect((await a.socket.call(listAgentVms, {})).vms).toContainEqual(
      expect.objectContaining({ vmId, state: 'running' }),
    )
    await done(site.admin, { kind: 'vm.stop', vmId, request: { graceSeconds: 0 } })
  }, 60_000)
})

test('a host speaks of its own tasks alone, gets none of others, and of some kinds none is cancelled once begun', async () => {
  const asked = await done(site.admin, make('mine'))
  await using host = await bootHost(lab, 'b')
  await host.enrol(site.anybody, await ticketFor(site))
  const session = await host.attest(site.anybody)
  const b = createAuthority(site.anybody, async () => session, site.clock)
  const report = { taskId: asked.taskId, state: 'failed', percent: 0 } as const
  await b.call(reportTasks, { body: { tasks: [report] } })
  expect(await follow(site.admin, asked)).toMatchObject({ state: 'done' })
  const take = { waitSeconds: 0, room: 10, holds: [asked.taskId], cancelling: [] }
  expect(await b.call(takeTasks, { body: take })).toEqual({
    ...{ tasks: [], goOn: [] },
    cancel: [asked.taskId],
  })

  const rewrap = await ask(site.admin, { kind: 'keys.rewrap', hostId: 'b', request: {} })
  expect(await b.call(takeTasks, { body: { ...take, holds: [] } })).toMatchObject({
    tasks: [{ taskId: rewrap.taskId }],
  })
  const begun = { taskId: rewrap.taskId, state: 'running', percent: 0 } as const
  await b.call(reportTasks, { body: { tasks: [begun] } })
  await expect(cancel(rewrap)).rejects.toMatchObject({ code: 'TASK_UNCANCELLABLE' })
  await b.call(reportTasks, { body: { tasks: [{ ...begun, state: 'done', percent: 100 }] } })
})

describe('while its agent is away', () => {
  test('a task waits, expires, or is cancelled; a queue is bounded; what is left is done later', async () => {
    await a.stop()
    const late = await ask(site.admin, { ...start(), expiresInSeconds: 1 })
    const dropped = await ask(site.admin, make('dropped'))
    const kept = await ask(site.admin, make('kept'))
    expect(kept).toMatchObject({ state: 'queued', waitingFor: 'host' })
    expect(await cancel(dropped)).toMatchObject({ state: 'cancelled' })
    expect(await follow(site.admin, late)).toMatchObject({
      state: 'failed',
      error: { code: 'TASK_EXPIRED' },
    })
    for (let count = 1; count < MOST; count += 1) {
      await cancel(await ask(site.admin, make('filler')))
    }
    const open = []
    while (open.length < MOST - 1) open.push(await ask(site.admin, make('filler')))
    await expect(ask(site.admin, make('filler'))).rejects.toMatchObject({ code: 'TASK_QUEUE_FULL' })
    for (const task of open) await cancel(task)
    await a.start()
    expect(await follow(site.admin, kept)).toMatchObject({ state: 'done' })
    const { vms } = await a.socket.call(listAgentVms, {})
    expect(vms.map(({ name }) => name).sort()).toEqual(['kept', 'mine', 'web1'])
  }, 120_000)

  test('and a host that was revoked gets none', async () => {
    await site.admin.call(revokeHost, { params: { hostId: 'a' }, body: { reason: 'lost' } })
    const task = await ask(site.admin, start())
    expect(task).toMatchObject({ state: 'queued', waitingFor: 'trust' })
    await a.socket.call(attestNow, { body: {} }).catch(() => undefined)
    await delay(1_500)
    const { tasks } = await site.admin.call(listVmTasks, { query: { state: 'queued' } })
    expect(tasks.map(({ taskId }) => taskId)).toEqual([task.taskId])
    const nowhere = { kind: 'vm.create', cluster: CLUSTER, request: smallVm('web9') } as const
    const chosen = await ask(site.admin, nowhere)
    expect(chosen.hostId).toBe('b')
    const { vms } = await site.admin.call(listVms, { query: { hostId: 'a' } })
    expect(vms.find((vm) => vm.vmId === vmId)?.report.state).toBe('stopped')
    await until('the event of it', async () => {
      const { events } = await site.admin.call(listEvents, { query: { limit: 1000 } })
      return events.some(({ detail }) => detail?.['task'] === task.taskId)
    })
  }, 60_000)
})
