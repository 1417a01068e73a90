import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Client } from '../../../src/api/client.js'
import { createCluster, listClusters, listEvents, listVms } from '../../../src/api/control-plane.js'
import { setDefaultProvider } from '../../../src/api/default-provider.js'
import { everyPage } from '../../../src/api/every-page.js'
import {
  changeVmTags,
  getInventoryHost,
  getVm,
  listInventoryHosts,
  setHostEncryption,
} from '../../../src/api/inventory.js'
import type { Operation } from '../../../src/api/operation.js'
import { grantPermission, revokePermission, type Scope, setRole } from '../../../src/api/people.js'
import { PRIVILEGES, type Privilege } from '../../../src/api/privileges.js'
import {
  createStoragePolicy,
  createVmByPolicy,
  giveVmPolicies,
  planVmPolicies,
} from '../../../src/api/storage-policies.js'
import {
  cancelVmTask,
  createVmTask,
  getVmTask,
  listVmTasks,
  type NewVmTask,
} from '../../../src/api/tasks.js'
import { listHandOvers } from '../../../src/api/vm-moves.js'
import { VM_TASKS, type VmTaskKind, type VmTaskRequest } from '../../../src/api/vm-tasks.js'
import { listVtpmCertificates, listVtpmStates } from '../../../src/api/vtpm-states.js'
import { controlPlaneStore } from '../../../src/control-plane/adapters/store.js'
import type { ControlPlaneTransaction } from '../../../src/control-plane/ports.js'
import { type FoundationTables, openStore, writeHostStatus } from '../../../src/store/index.js'
import { openTestSite, type TestSite } from '../../helpers/site.js'
import { newAccount, newRole } from './support.js'

const MIB = 1024 * 1024
const NOWHERE = '00000000-0000-4000-8000-000000000000'
/** VMs that nobody here has anything to do with, more than are looked at in one go. */
const MANY = 1_100

let site: TestSite
/** Of cluster `lab`, with the tag `prod/web`; of `lab` without; of `depot`. */
const [tagged, beside, elsewhere] = [1, 2, 3].map(vmIdOf) as [string, string, string]

beforeAll(async () => {
  site = await openTestSite({ services: ['control-plane'] })
  for (const name of ['lab', 'depot']) await site.admin.call(createCluster, { body: { name } })
  await placeHost('a', 'lab')
  await placeHost('d', 'depot')
  await inStore(async (tx) => {
    await tx.saveVm(newVm(tagged, 'a', 'lab'))
    await tx.saveVm(newVm(beside, 'a', 'lab'))
    await tx.saveVm(newVm(elsewhere, 'd', 'depot'))
    for (const hostId of ['a', 'd']) await tx.saveHostEncryption(hostId, { setting: 'on' })
  })
  await tag(tagged, { add: ['prod/web'] })
})
afterAll(() => site?.[Symbol.asyncDispose]())

function vmIdOf(number: number): string {
  return `${String(number).padStart(8, '0')}-0000-4000-8000-000000000000`
}

function newVm(vmId: string, hostId: string, cluster: string) {
  const disks = [{ name: 'root', sizeOctets: MIB, encrypted: true }]
  const report = { name: `vm-${vmId.slice(0, 8)}`, provider: 'gold', disks, vtpm: false }
  const reportedAtMs = site.clock.nowMs()
  return { vmId, hostId, cluster, report: { ...report, state: 'stopped' as const }, reportedAtMs }
}

/** What hosts would have told. */
async function inStore(work: (tx: ControlPlaneTransaction) => Promise<void>): Promise<void> {
  await using store = await openStore({ file: join(site.folder, 'sigillo.db') })
  await controlPlaneStore(store).transaction(work)
}

async function placeHost(hostId: string, cluster: string): Promise<void> {
  await using store = await openStore({ file: join(site.folder, 'sigillo.db') })
  const status = { issuer: site.url, hostId, cluster, state: 'trusted' as const }
  const epochs = { newEpoch: false, policyEpoch: 1, atMs: site.clock.nowMs() }
  await store.transaction<FoundationTables, void>((tx) =>
    writeHostStatus(tx, { ...status, ...epochs }),
  )
}

const tag = (vmId: string, body: { add?: string[]; remove?: string[] }) =>
  site.admin.call(changeVmTags, { params: { vmId }, body })

/** How a call ends: `done`, or its code and what it names. */
async function outcome(work: Promise<unknown>): Promise<string> {
  try {
    await work
    return 'done'
  } catch (error) {
    const { code, message } = error as { readonly code: string; readonly message: string }
    return code === 'FORBIDDEN' ? message.replace(/, found it missing$/, '') : code
  }
}

const ask = (client: Client, body: NewVmTask) => outcome(client.call(createVmTask, { body }))
const refusal = (privilege: Privilege, object: string) =>
  `expected privilege ${privilege} on ${object}`

/** A request of each kind. */
const REQUESTS: { readonly [K in VmTaskKind]: VmTaskRequest<K> } = {
  'vm.create': { name: 'new', provider: 'gold', disks: [] },
  'vm.start': {},
  'vm.stop': {},
  'vm.unlock': {},
  'vm.delete': {},
  'vm.encrypt': { provider: 'gold' },
  'vm.decrypt': {},
  'vm.recrypt': { provider: 'silver' },
  'vm.rewrap': { provider: 'silver' },
  'vm.apply-policy': { home: { encrypted: false }, disks: [{ name: 'root', encrypted: false }] },
  'vm.clone': { name: 'copy' },
  'vm.add-disk': { name: 'data', sizeOctets: MIB },
  'vm.grow-disk': { disk: 'root', sizeOctets: 2 * MIB },
  'vm.remove-disk': { disk: 'root' },
  'vm.attach-disk': { name: 'data', from: '/srv/data' },
  'vm.detach-disk': { disk: 'root' },
  'vm.add-vtpm': {},
  'vm.remove-vtpm': {},
  'vm.export': { directory: '/srv/export', move: true },
  'vm.import': { directory: '/srv/export' },
  'vm.send': { to: '127.0.0.1:4000' },
  'vm.receive': { listen: '127.0.0.1:4000' },
  'vm.take-back': {},
  'vm.replace-vtpm-certificates': {},
  'vm.import-vtpm-certificate': { certificate: 'x', authorities: 'x' },
  'vm.accept-vtpm-state': {},
  'vm.restore-vtpm-state': {},
  'vm.create-snapshot': { name: 'one' },
  'vm.revert-snapshot': { snapshot: 'one' },
  'vm.remove-snapshot': { snapshot: 'one' },
  'keys.rewrap': {},
}

const EVERY_PRIVILEGE = Object.keys(PRIVILEGES) as readonly Privilege[]
const KINDS = Object.keys(REQUESTS) as readonly VmTaskKind[]
const onVm = KINDS.filter((kind) => VM_TASKS[kind].on === 'vm')
const onHost = KINDS.filter((kind) => VM_TASKS[kind].on === 'host')

function taskOf(kind: VmTaskKind, place: object): NewVmTask {
  return { kind, ...place, request: REQUESTS[kind] } as NewVmTask
}

/** What a kind needs, of the VMs here. */
function privilegesOf(kind: VmTaskKind): readonly Privilege[] {
  const vm = {
    provider: 'gold',
    vtpm: false,
    disks: [{ name: 'root', sizeOctets: MIB, encrypted: true }],
  }
  return VM_TASKS[kind].privileges(REQUESTS[kind] as never, vm)
}

describe('a privilege on', () => {
  const scopes: Readonly<Record<'vm' | 'tag' | 'cluster', Scope>> = {
    vm: { kind: 'vm', name: tagged },
    tag: { kind: 'tag', name: 'prod/web' },
    cluster: { kind: 'cluster', name: 'lab' },
  }
  const names = Object.keys(scopes) as readonly (keyof typeof scopes)[]
  let people: ReadonlyMap<keyof typeof scopes, Client>
  const setPrivileges = (privileges: readonly Privilege[]) =>
    site.admin.call(setRole, {
      params: { role: 'exact' },
      body: { privileges: [...new Set<Privilege>(['System.Read', ...privileges])] },
    })

  beforeAll(async () => {
    const role = await newRole(site, 'exact', ['System.Read'])
    const all = names.map(async (name) => {
      const scope = scopes[name]
      return [name, await newAccount(site, `of-${name}`, { role, scope })] as const
    })
    people = new Map(await Promise.all(all))
  })
  afterAll(async () => {
    for (const client of people?.values() ?? []) await client[Symbol.asyncDispose]()
  })

  test.each(onVm.filter((kind) => kind !== 'vm.clone'))(
    'a VM, its tag or its cluster lets %s there, and nowhere else',
    async (kind) => {
      const needed = privilegesOf(kind)
      const [first = 'System.Read'] = needed
      await setPrivileges(needed)
      for (const [name, client] of people) {
        const answers = []
        for (const vmId of [tagged, beside, elsewhere]) {
          answers.push(await ask(client, taskOf(kind, { vmId })))
        }
        expect({ name, answers }).toEqual({
          name,
          answers: [
            'done',
            name === 'cluster' ? 'done' : refusal(first, `VM ${beside}`),
            refusal(first, `VM ${elsewhere}`),
          ],
        })
      }
      // and nothing of it is left out
      const client = people.get('cluster')
      for (const missing of needed) {
        await setPrivileges(needed.filter((one) => one !== missing))
        expect(await ask(client as Client, taskOf(kind, { vmId: tagged }))).toBe(
          refusal(missing, `VM ${tagged}`),
        )
      }
    },
  )

  test('a VM or a tag makes no VM in the cluster, also not by a clone', async () => {
    await setPrivileges(privilegesOf('vm.clone'))
    const create = 'VirtualMachine.Inventory.Create'
    for (const [name, client] of people) {
      expect({ name, answer: await ask(client, taskOf('vm.clone', { vmId: tagged })) }).toEqual({
        ...{
          name,
          answer: name === 'cluster' ? 'done' : refusal(create, 'a new VM in cluster lab'),
        },
      })
    }
  })

  test.each(onHost)('a cluster lets %s on hosts of it, and on no others', async (kind) => {
    const needed = privilegesOf(kind)
    const [first = 'System.Read'] = needed
    await setPrivileges(needed)
    for (const [name, client] of people) {
      const isAllowed = name === 'cluster'
      const ofHost = (hostId: string) => refusal(first, `the cluster of host ${hostId}`)
      const answers = [
        await ask(client, taskOf(kind, { hostId: 'a' })),
        await ask(client, taskOf(kind, { cluster: 'lab' })),
        await ask(client, taskOf(kind, { hostId: 'd' })),
        await ask(client, taskOf(kind, { hostId: 'nobody' })),
        await ask(client, taskOf(kind, { hostId: 'd', cluster: 'lab' })),
      ]
      expect({ name, answers }).toEqual({
        name,
        answers: [
          isAllowed ? 'done' : ofHost('a'),
          isAllowed ? 'done' : expect.stringContaining(`${first} on `),
          ...[ofHost('d'), ofHost('nobody'), ofHost('d')],
        ],
      })
    }
  })

  test('a VM or its tag gives it policies, by what they change; on its cluster, also to a new VM', async () => {
    await setPrivileges([
      'StorageProfile.Apply',
      'Cryptographer.Decrypt',
      'VirtualMachine.Inventory.Create',
    ])
    const body = { home: 'plain', disks: [{ name: 'root', policy: 'plain' }] }
    for (const [name, client] of people) {
      const answers = []
      for (const vmId of [tagged, elsewhere]) {
        answers.push(await outcome(client.call(planVmPolicies, { params: { vmId }, body })))
        answers.push(await outcome(client.call(giveVmPolicies, { params: { vmId }, body })))
      }
      const made = { name: `made-${name}`, hostId: 'a', policy: 'plain', disks: [] }
      answers.push(await outcome(client.call(createVmByPolicy, { body: made })))
      answers.push(await outcome(client.call(createVmByPolicy, { body: { ...made, hostId: 'd' } })))
      const no = refusal('StorageProfile.Apply', `VM ${elsewhere}`)
      const onHost = (hostId: string) =>
        refusal('StorageProfile.Apply', `the cluster of host ${hostId}`)
      expect({ name, answers }).toEqual({
        name,
        answers: ['done', 'done', no, no, name === 'cluster' ? 'done' : onHost('a'), onHost('d')],
      })
    }
    await setPrivileges(['StorageProfile.Apply'])
    for (const [, client] of people) {
      expect(await outcome(client.call(giveVmPolicies, { params: { vmId: tagged }, body }))).toBe(
        refusal('Cryptographer.Decrypt', `VM ${tagged}`),
      )
    }
  })

  test('the cluster of a host turns its encryption on and off, and tags the VMs of it', async () => {
    await setPrivileges(['Cryptographer.RegisterHost', 'Host.Inventory.EditCluster'])
    for (const [name, client] of people) {
      const answers = []
      for (const hostId of ['a', 'd']) {
        const call = client.call(setHostEncryption, { params: { hostId }, body: { setting: 'on' } })
        answers.push(await outcome(call))
      }
      for (const vmId of [tagged, elsewhere]) {
        const body = { add: ['new'], remove: ['new'] }
        answers.push(await outcome(client.call(changeVmTags, { params: { vmId }, body })))
      }
      const no = (privilege: Privilege, of: string) => refusal(privilege, `the cluster of ${of}`)
      const isCluster = name === 'cluster'
      expect({ name, answers }).toEqual({
        name,
        answers: [
          // it is on
          isCluster ? 'CONFLICT' : no('Cryptographer.RegisterHost', 'host a'),
          no('Cryptographer.RegisterHost', 'host d'),
          isCluster ? 'done' : no('Host.Inventory.EditCluster', `VM ${tagged}`),
          no('Host.Inventory.EditCluster', `VM ${elsewhere}`),
        ],
      })
    }
    await tag(tagged, { remove: ['new'] })
  })
})

describe('at once, and in the middle of what is asked,', () => {
  let powerOn: string
  const start = (client: Client) => ask(client, taskOf('vm.start', { vmId: tagged }))
  const no = () => refusal('VirtualMachine.Interact.PowerOn', `VM ${tagged}`)
  beforeAll(async () => {
    powerOn = await newRole(site, 'power-on', ['System.Read', 'VirtualMachine.Interact.PowerOn'])
  })

  test('a tag that is taken off gives nothing any more, and one beside it gives nothing', async () => {
    const scope = { kind: 'tag' as const, name: 'prod' }
    await using client = await newAccount(site, 'by-tag', { role: powerOn, scope })
    expect(await start(client)).toBe('done')
    for (const other of ['production', 'pro', 'test/prod']) {
      await tag(tagged, { remove: ['prod/web'], add: [other] })
      expect(await start(client)).toBe(no())
      await tag(tagged, { remove: [other], add: ['prod/web'] })
    }
    expect(await start(client)).toBe('done')
  })

  test('a permission that is revoked gives nothing any more', async () => {
    await using client = await newAccount(site, 'by-grant')
    const principal = { kind: 'service-account' as const, name: 'by-grant' }
    const scope = { kind: 'vm' as const, name: tagged }
    const grant = { principal, role: powerOn, scope }
    const { permissionId } = await site.admin.call(grantPermission, { body: grant })
    expect(await start(client)).toBe('done')
    await site.admin.call(revokePermission, { params: { permissionId } })
    expect(await start(client)).toMatch(/^expected privilege System.Read on some object/)
  })

  test('a VM that goes to another cluster is of those who have that', async () => {
    const inCluster = (name: string) => ({ kind: 'cluster' as const, name })
    await using lab = await newAccount(site, 'of-lab', { role: powerOn, scope: inCluster('lab') })
    await using depot = await newAccount(site, 'of-depot', {
      ...{ role: powerOn, scope: inCluster('depot') },
    })
    expect([await start(lab), await start(depot)]).toEqual(['done', no()])
    await inStore((tx) => tx.saveVm(newVm(tagged, 'd', 'depot')))
    expect([await start(lab), await start(depot)]).toEqual([no(), 'done'])
    await inStore((tx) => tx.saveVm(newVm(tagged, 'a', 'lab')))
  })
})

describe('who may see one VM, by its tag,', () => {
  const other = vmIdOf(MANY + 50)
  let client: Client
  beforeAll(async () => {
    await inStore(async (tx) => {
      for (let number = 10; number < MANY; number += 1) {
        await tx.saveVm(newVm(vmIdOf(number), 'd', 'depot'))
      }
      await tx.saveVm(newVm(other, 'd', 'depot'))
      for (const vmId of [tagged, elsewhere]) {
        const offer = { vmId, exportId: NOWHERE, hostId: 'a', cluster: 'lab', offeredAtMs: 1 }
        await tx.saveHandOver({ ...offer, ticketDigest: new Uint8Array(32) })
      }
    })
    for (const vmId of [tagged, other]) await tag(vmId, { add: ['mine'] })
    for (let count = 0; count < 3; count += 1) {
      for (const vmId of [tagged, elsewhere, other]) {
        await site.admin.call(createVmTask, { body: taskOf('vm.start', { vmId }) })
      }
    }
    const scope = { kind: 'tag' as const, name: 'mine' }
    client = await newAccount(site, 'seer', { role: 'read-only', scope })
  }, 120_000)
  afterAll(() => client?.[Symbol.asyncDispose]())

  test('sees in every list what is theirs, in pages that are full, and nothing else', async () => {
    const mine = new Set([tagged, other])
    const first = await client.call(listVms, { query: { limit: 1 } })
    expect(first).toMatchObject({ vms: [{ vmId: tagged }], next: tagged })
    const { vms } = await everyPage(client, listVms, { query: {} }, 'vms')
    expect(vms.map(({ vmId }) => vmId)).toEqual([tagged, other])

    expect((await client.call(listVmTasks, { query: { limit: 2 } })).tasks).toHaveLength(2)
    const { tasks } = await everyPage(client, listVmTasks, { query: {} }, 'tasks')
    const all = await site.admin.call(listVmTasks, { query: { limit: 1000 } })
    const visible = all.tasks.filter(({ vmId = '' }) => mine.has(vmId))
    const ids = (all: readonly { readonly taskId: string }[]) => all.map(({ taskId }) => taskId)
    expect(ids(tasks)).toEqual(ids(visible))

    const { events } = await everyPage(client, listEvents, { query: {} }, 'events')
    expect(events.length).toBeGreaterThan(6)
    for (const { subject } of events) expect(mine).toContain(subject.replace(/^vm:/, ''))
    const { handOvers } = await client.call(listHandOvers, {})
    expect(handOvers.map(({ vmId }) => vmId)).toEqual([tagged])
    expect(await client.call(listClusters, { query: {} })).toEqual({ clusters: [] })
    expect(await client.call(listInventoryHosts, { query: {} })).toEqual({ hosts: [] })
  })

  test('is told of other VMs, hosts and tasks the same whether they exist or not', async () => {
    const { tasks } = await site.admin.call(listVmTasks, { query: { vmId: elsewhere, limit: 1 } })
    const taskId = tasks[0]?.taskId ?? ''
    const ids: readonly (readonly [known: string, unknown: string])[] = [
      [elsewhere, NOWHERE],
      [taskId, NOWHERE],
      ['a', 'x'],
    ]
    const [vm, task, host] = ids
    const calls: readonly (readonly [typeof vm, Operation, (id: string) => object])[] = [
      [vm, getVm, (vmId) => ({ params: { vmId } })],
      [vm, changeVmTags, (vmId) => ({ params: { vmId }, body: { add: ['x'] } })],
      [vm, planVmPolicies, (vmId) => ({ params: { vmId }, body: { home: 'plain' } })],
      [vm, giveVmPolicies, (vmId) => ({ params: { vmId }, body: { home: 'plain' } })],
      [vm, listVtpmStates, (vmId) => ({ params: { vmId } })],
      [vm, listVtpmCertificates, (vmId) => ({ query: { vmId } })],
      ...KINDS.map((kind) => {
        const isOnVm = VM_TASKS[kind].on === 'vm'
        const body = (id: string) => taskOf(kind, isOnVm ? { vmId: id } : { hostId: id })
        return [isOnVm ? vm : host, createVmTask, (id: string) => ({ body: body(id) })] as const
      }),
      [
        host,
        createVmByPolicy,
        (hostId) => ({ body: { name: 'n', hostId, policy: 'encrypted', disks: [] } }),
      ],
      [host, getInventoryHost, (hostId) => ({ params: { hostId } })],
      [host, setHostEncryption, (hostId) => ({ params: { hostId }, body: { setting: 'off' } })],
      [task, getVmTask, (taskId) => ({ params: { taskId } })],
      [task, cancelVmTask, (taskId) => ({ params: { taskId }, body: {} })],
    ]
    await site.admin.call(setDefaultProvider, {
      query: { cluster: 'lab' },
      body: { provider: 'gold' },
    })
    await site.admin.call(createStoragePolicy, { body: { name: 'gilded', encrypted: true } })
    const role = await newRole(site, 'everything', [...EVERY_PRIVILEGE])
    const scope = { kind: 'tag' as const, name: 'mine' }
    await using busy = await newAccount(site, 'busy', { role, scope })
    for (const [ids, operation, input] of calls) {
      const [known = '', unknown = ''] = ids ?? []
      const [one, two] = await Promise.all(
        [known, unknown].map(async (id) =>
          (await outcome(busy.call(operation, input(id) as never))).replace(
            new RegExp(`${id}$`),
            'ID',
          ),
        ),
      )
      expect([operation.id, one]).toEqual([operation.id, two])
      expect([operation.id, one]).toEqual([
        operation.id,
        expect.stringMatching(/^expected privilege/),
      ])
    }
  })
})
