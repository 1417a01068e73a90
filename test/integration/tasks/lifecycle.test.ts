import { afterAll, beforeAll, expect, test } from 'vitest'
import { listEvents, listVms, type VmView } from '../../../src/api/control-plane.js'
import { attestNow } from '../../../src/api/host-agent.js'
import { createLab, type Lab } from '../../../swtpm/index.js'
import type { TestSite } from '../../helpers/site.js'
import { startAgent, type TestAgent, trustAgent } from '../host-keys/fixture.js'
import { done, openTaskSite, smallVm } from './fixture.js'

const MIB = 1024 * 1024

let lab: Lab
let site: TestSite
let a: TestAgent

beforeAll(async () => {
  lab = await createLab()
  site = await openTaskSite(lab)
  a = await startAgent(lab, site, 'a')
  await trustAgent(site, a)
  await a.socket.call(attestNow, { body: {} })
})
afterAll(async () => {
  await a?.[Symbol.asyncDispose]()
  await site?.[Symbol.asyncDispose]()
  await lab?.[Symbol.asyncDispose]()
})

async function vmOf(vmId: string | undefined): Promise<VmView | undefined> {
  const { vms } = await site.admin.call(listVms, { query: {} })
  return vms.find((vm) => vm.vmId === vmId)
}

test('a VM goes through its whole life by tasks alone', async () => {
  const hostId = 'a'
  const make = (kind: 'vm.create', request: object) =>
    done(site.admin, { kind, hostId, request } as never)
  const made = await make('vm.create', smallVm('web1', { vtpm: true }))
  const { vmId = '' } = made
  expect(vmId).toBe(made.taskId)
  expect(made).toMatchObject({ state: 'done', percent: 100, hostId, askedBy: expect.anything() })
  expect(made.result).toEqual({ vmId, name: 'web1', state: 'stopped' })
  expect((await vmOf(vmId))?.report).toMatchObject({ name: 'web1', vtpm: true, state: 'stopped' })

  expect((await done(site.admin, { kind: 'vm.start', vmId, request: {} })).result?.state).toBe(
    'running',
  )
  const stop = { kind: 'vm.stop', vmId, request: { graceSeconds: 0 } } as const
  expect((await done(site.admin, stop)).result?.state).toBe('stopped')

  const disk = { name: 'data', sizeOctets: MIB }
  await done(site.admin, { kind: 'vm.add-disk', vmId, request: disk })
  await done(site.admin, {
    kind: 'vm.grow-disk',
    vmId,
    request: { disk: 'data', sizeOctets: 2 * MIB },
  })
  const recrypted = await done(site.admin, { kind: 'vm.recrypt', vmId, request: {} })
  expect(recrypted.octets).toEqual({ done: 3 * MIB, total: 3 * MIB })
  await done(site.admin, { kind: 'keys.rewrap', hostId, request: {} })
  await done(site.admin, { kind: 'vm.remove-disk', vmId, request: { disk: 'data' } })

  const clone = await done(site.admin, { kind: 'vm.clone', vmId, request: { name: 'web2' } })
  expect(clone.result).toMatchObject({ vmId: clone.taskId, name: 'web2' })
  expect(clone.vmId).toBe(vmId)

  await done(site.admin, { kind: 'vm.remove-vtpm', vmId, request: {} })
  await done(site.admin, { kind: 'vm.decrypt', vmId, request: {} })
  expect((await vmOf(vmId))?.report.provider).toBeUndefined()
  await done(site.admin, { kind: 'vm.encrypt', vmId, request: { provider: 'gold' } })
  expect((await vmOf(vmId))?.report).toMatchObject({
    provider: 'gold',
    disks: [{ name: 'root', encrypted: true }],
  })
  await done(site.admin, { kind: 'vm.add-vtpm', vmId, request: {} })
  await done(site.admin, { kind: 'vm.delete', vmId, request: {} })
  expect(await vmOf(vmId)).toBeUndefined()
  expect(await vmOf(clone.taskId)).toBeDefined()

  const { events } = await site.admin.call(listEvents, { query: { limit: 1000 } })
  const ofMaking = events.filter(({ detail }) => detail?.['task'] === made.taskId)
  expect(ofMaking.map(({ type }) => type)).toEqual([
    'task.queued',
    'task.sent',
    'task.running',
    'task.done',
  ])
}, 120_000)
