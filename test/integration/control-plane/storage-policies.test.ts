import { createHash, randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Client, createClient } from '../../../src/api/client.js'
import { listControlPlaneAudit, listEvents } from '../../../src/api/control-plane.js'
import { removeDefaultProvider, setDefaultProvider } from '../../../src/api/default-provider.js'
import { attestNow, readDisk } from '../../../src/api/host-agent.js'
import { getInventoryHost, getVm, setHostEncryption } from '../../../src/api/inventory.js'
import {
  changeStoragePolicy,
  createStoragePolicy,
  createVmByPolicy,
  deleteStoragePolicy,
  giveVmPolicies,
  type VmByPolicy,
} from '../../../src/api/storage-policies.js'
import { cancelVmTask, type VmTaskView } from '../../../src/api/tasks.js'
import { fromBase64url } from '../../../src/core/bytes.js'
import { createOperator, openStore } from '../../../src/store/index.js'
import { createLab, type Lab } from '../../../swtpm/index.js'
import type { TestSite } from '../../helpers/site.js'
import { sigillo } from '../cli/sigillo.js'
import { startAgent, type TestAgent, trustAgent } from '../host-keys/fixture.js'
import { done, follow, openTaskSite } from '../tasks/fixture.js'

const MIB = 1024 * 1024
const DISK_OCTETS = 2 * MIB
const GIVEN = { home: 'gold-disks', root: 'gold-disks', data: 'gold-disks', scratch: 'plain' }

let lab: Lab
let site: TestSite
let agent: TestAgent
let auditor: Client
const contents = new Map<string, Buffer>()

beforeAll(async () => {
  lab = await createLab()
  site = await openTaskSite(lab)
  agent = await startAgent(lab, site, 'host-a', {
    settings: { SIGILLO_AGENT_VM_IMPORT_DIRECTORIES: lab.directory },
  })
  await trustAgent(site, agent)
  await agent.socket.call(attestNow, { body: {} })
  for (const name of ['root', 'data', 'scratch']) {
    const content = randomBytes(DISK_OCTETS)
    contents.set(name, content)
    writeFileSync(join(lab.directory, `${name}.raw`), content)
  }
  const { folder, url, caPem, clock } = site
  await using store = await openStore({ file: join(folder, 'sigillo.db') })
  const { token } = await createOperator(store, {
    ...{ name: 'auditor', role: 'auditor', services: ['control-plane'], nowMs: clock.nowMs() },
  })
  auditor = createClient({ baseUrl: url, caPem, bearerToken: token })
  for (const [name, provider] of [
    ['gold-disks', 'gold'],
    ['silver-disks', 'silver'],
  ] as const) {
    await site.admin.call(createStoragePolicy, { body: { name, encrypted: true, provider } })
  }
}, 120_000)
afterAll(async () => {
  await agent?.[Symbol.asyncDispose]()
  await auditor?.[Symbol.asyncDispose]()
  await site?.[Symbol.asyncDispose]()
  await lab?.[Symbol.asyncDispose]()
})

/** An encrypted VM with two encrypted disks and a plain one, made by policy. */
async function makeVm(name: string, change: Partial<VmByPolicy> = {}): Promise<string> {
  const from = (disk: string) => join(lab.directory, `${disk}.raw`)
  const task = await site.admin.call(createVmByPolicy, {
    body: {
      ...{ name, hostId: 'host-a', policy: 'gold-disks', vtpm: false, memoryMib: 128 },
      disks: [
        { name: 'root', from: from('root') },
        { name: 'data', from: from('data') },
        { name: 'scratch', from: from('scratch'), policy: 'plain' },
      ],
      ...change,
    },
  })
  const ended = await follow(site.admin, task)
  if (ended.state !== 'done') throw new Error(JSON.stringify(ended.error))
  return task.taskId
}

const give = (vmId: string, body: object) =>
  site.admin.call(giveVmPolicies, { params: { vmId }, body })
const vmOf = (vmId: string) => site.admin.call(getVm, { params: { vmId } })
const all = (policy: string) => ({
  home: policy,
  disks: ['root', 'data', 'scratch'].map((name) => ({ name, policy })),
})

/** Follows the task of a change, and tells the parts that were changed in their order. */
async function partsOf(
  given: Awaited<ReturnType<typeof give>>,
  onChange: (task: VmTaskView) => void = () => undefined,
) {
  if (!given.task) throw new Error('there is no task')
  const parts: string[] = []
  const task = await follow(site.admin, given.task, undefined, (now) => {
    const [part = ''] = (now.step ?? '').split(':')
    if (part !== '' && part !== 'done' && parts.at(-1) !== part) parts.push(part)
    onChange(now)
  })
  return { parts, task }
}

async function eventsOf(vmId: string): Promise<readonly string[]> {
  const { events } = await site.admin.call(listEvents, { query: { limit: 1000 } })
  return events
    .filter(({ subject, type }) => subject === `vm:${vmId}` && /crypted$/.test(type))
    .map(({ type, detail }) => [type, detail?.['disk']].filter(Boolean).join(' '))
}

async function compliance(vmId: string): Promise<Readonly<Record<string, string>>> {
  const { policies } = await vmOf(vmId)
  const ofDisks = policies.disks.map(({ name, compliance }) => [name, compliance])
  return Object.fromEntries([['home', policies.home.compliance], ...ofDisks])
}

/** Octets of a disk as a guest sees them: its first and last. */
async function isAsBefore(vm: string, disk: string): Promise<boolean> {
  const content = contents.get(disk) ?? Buffer.alloc(0)
  for (const offset of [0, MIB]) {
    const params = { vm, disk }
    const { data } = await agent.socket.call(readDisk, { params, body: { offset, length: MIB } })
    const found = Buffer.from(fromBase64url(data))
    if (!found.equals(content.subarray(offset, offset + MIB))) return false
  }
  return true
}

describe('a VM', () => {
  let vmId: string

  test('is made as the policies of its home and of each disk ask', async () => {
    vmId = await makeVm('web')
    const { report, policies } = await vmOf(vmId)
    expect(report.provider).toBe('gold')
    expect(report.disks.map(({ encrypted }) => encrypted)).toEqual([true, true, false])
    const named = policies.disks.map(({ name, policy }) => [name, policy])
    expect({ home: policies.home.policy, ...Object.fromEntries(named) }).toEqual(GIVEN)
    expect(new Set(Object.values(await compliance(vmId)))).toEqual(new Set(['compliant']))
    const hostId = 'host-a'
    const host = await site.admin.call(getInventoryHost, { params: { hostId } })
    expect(host.encryption.mode).toBe('safe')
  })

  test('is decrypted by a change of policy: its disks first, its home last, with what is on them', async () => {
    const given = await give(vmId, { ...all('plain'), compare: 'all' })
    expect(given.steps).toEqual(['decrypt disk root', 'decrypt disk data', 'decrypt the home'])
    expect(given.task?.kind).toBe('vm.apply-policy')
    const { task } = await partsOf(given)
    expect(task.state).toBe('done')
    expect(await eventsOf(vmId)).toEqual([
      ...['vm.disk-decrypted root', 'vm.disk-decrypted data', 'vm.home-decrypted'],
    ])
    const { report } = await vmOf(vmId)
    expect(report.provider).toBeUndefined()
    expect(report.keys).toEqual([])
    for (const [name, content] of contents) {
      const raw = readFileSync(join(agent.vmDirectory, vmId, `disk-${name}.raw`))
      const digests = [raw, content].map((one) => createHash('sha256').update(one).digest('hex'))
      expect(digests[0]).toBe(digests[1])
    }
    expect(new Set(Object.values(await compliance(vmId)))).toEqual(new Set(['compliant']))
  })

  test('is encrypted by a change of policy: its home first', async () => {
    const given = await give(vmId, {
      home: 'gold-disks',
      disks: [{ name: 'root', policy: 'gold-disks' }],
    })
    const { task } = await partsOf(given)
    expect(task.state).toBe('done')
    expect((await eventsOf(vmId)).slice(3)).toEqual([
      ...['vm.home-encrypted', 'vm.disk-encrypted root'],
    ])
    expect(await isAsBefore('web', 'root')).toBe(true)
  })

  test('that is as its policies ask gets them without a task', async () => {
    const given = await give(vmId, { home: 'encrypted' })
    expect(given).toEqual({ steps: [] })
    expect((await vmOf(vmId)).policies.home).toMatchObject({ policy: 'encrypted', given: true })
    await give(vmId, { home: 'gold-disks' })
  })

  test('is out of date when its policy is changed, until it is applied again', async () => {
    const params = { policy: 'gold-disks' }
    await site.admin.call(changeStoragePolicy, { params, body: { encrypted: false } })
    expect(await compliance(vmId)).toMatchObject({ home: 'out-of-date', root: 'out-of-date' })
    expect((await vmOf(vmId)).policies.home.reason).toMatch(/was changed: expected plain/)
    await site.admin.call(changeStoragePolicy, {
      params,
      body: { encrypted: true, provider: 'gold' },
    })
    expect(await compliance(vmId)).toMatchObject({ home: 'compliant', root: 'compliant' })
  })

  test('is not compliant where it was decrypted without its policy', async () => {
    await done(site.admin, { kind: 'vm.decrypt', vmId, request: { disks: ['root'] } })
    expect(await compliance(vmId)).toMatchObject({ home: 'compliant', root: 'not-compliant' })
    const { task } = await partsOf(
      await give(vmId, { disks: [{ name: 'root', policy: 'gold-disks' }] }),
    )
    expect(task.state).toBe('done')
    expect(await compliance(vmId)).toMatchObject({ root: 'compliant' })
  })

  test('forgets the policy of a disk that it has no longer', async () => {
    await done(site.admin, { kind: 'vm.remove-disk', vmId, request: { disk: 'scratch' } })
    const request = { name: 'scratch', sizeOctets: MIB }
    await done(site.admin, { kind: 'vm.add-disk', vmId, request })
    const { policies } = await vmOf(vmId)
    expect(policies.disks.find(({ name }) => name === 'scratch')).toMatchObject({ given: false })
  })

  test('keeps its policy from being deleted', async () => {
    await expect(
      site.admin.call(deleteStoragePolicy, { params: { policy: 'gold-disks' } }),
    ).rejects.toMatchObject({ code: 'POLICY_IN_USE' })
  })
})

describe('a change of policies that was cancelled', () => {
  test('leaves what was done, and goes on where it was when it is given again', async () => {
    const vmId = await makeVm('half')
    const given = await give(vmId, all('plain'))
    let isCancelled = false
    const { task } = await partsOf(given, ({ taskId, step }) => {
      if (isCancelled || !step?.startsWith('data:')) return
      isCancelled = true
      site.admin.call(cancelVmTask, { params: { taskId }, body: {} }).catch(() => undefined)
    })
    if (task.state !== 'done') {
      expect(task.error?.code).toBe('TASK_CANCELLED')
      expect(await compliance(vmId)).toMatchObject({ home: 'not-compliant' })
      const again = await give(vmId, all('plain'))
      expect(again.steps.at(-1)).toBe('decrypt the home')
      expect(again.steps.length).toBeLessThan(given.steps.length + 1)
      expect((await partsOf(again)).task.state).toBe('done')
    }
    expect(await compliance(vmId)).toEqual({
      ...{ home: 'compliant', root: 'compliant', data: 'compliant', scratch: 'compliant' },
    })
    expect(await eventsOf(vmId)).toEqual([
      ...['vm.disk-decrypted root', 'vm.disk-decrypted data', 'vm.home-decrypted'],
    ])
  })
})

describe('refused at once, before there is a task, is', () => {
  let vmId: string
  beforeAll(async () => {
    vmId = await makeVm('refused')
  })

  test.each<[string, object, string]>([
    ['a plain home beside encrypted disks', { home: 'plain' }, 'VM_HOME_NEEDED'],
    [
      'a second key provider in a VM',
      { disks: [{ name: 'scratch', policy: 'silver-disks' }] },
      'POLICY_PROVIDERS',
    ],
    [
      'another provider for the home than a disk is to keep',
      { home: 'silver-disks' },
      'POLICY_PROVIDERS',
    ],
    ['a disk that is not there', { disks: [{ name: 'x', policy: 'plain' }] }, 'VM_DISK_NOT_FOUND'],
    ['a policy that is not there', { home: 'x' }, 'NOT_FOUND'],
    [
      'a disk named twice',
      { disks: ['plain', 'encrypted'].map((policy) => ({ name: 'root', policy })) },
      'REQUEST_INVALID',
    ],
    ['nothing', {}, 'REQUEST_INVALID'],
  ])('%s', async (_, body, code) => {
    const before = await vmOf(vmId)
    await expect(give(vmId, body)).rejects.toMatchObject({ code })
    expect((await vmOf(vmId)).policies).toEqual(before.policies)
  })

  test('a VM that runs', async () => {
    await done(site.admin, { kind: 'vm.start', vmId, request: {} })
    await expect(give(vmId, all('plain'))).rejects.toMatchObject({ code: 'VM_RUNNING' })
    await done(site.admin, { kind: 'vm.stop', vmId, request: { graceSeconds: 0 } })
  })

  test('a VM with snapshots', async () => {
    const request = { name: 'before' }
    await done(site.admin, { kind: 'vm.create-snapshot', vmId, request })
    await expect(give(vmId, all('plain'))).rejects.toMatchObject({ code: 'VM_SNAPSHOTS' })
  })

  test('somebody without the privilege, with an audit record', async () => {
    await expect(
      auditor.call(giveVmPolicies, { params: { vmId }, body: all('plain') }),
    ).rejects.toMatchObject({ code: 'FORBIDDEN' })
    const { records } = await site.admin.call(listControlPlaneAudit, { query: { limit: 1000 } })
    expect(
      records.some(({ actor, outcome }) => actor === 'operator:auditor' && outcome === 'refused'),
    ).toBe(true)
  })

  test.each<[string, Partial<VmByPolicy>, string]>([
    ['an encrypted disk of a VM with a plain home', { policy: 'plain' }, 'VM_HOME_PLAIN'],
    ['a virtual TPM in a plain VM', { policy: 'plain', vtpm: true, disks: [] }, 'VM_HOME_PLAIN'],
    ['a VM by a policy that is not there', { policy: 'x' }, 'NOT_FOUND'],
    ['a VM without a key provider', { policy: 'encrypted' }, 'POLICY_NO_PROVIDER'],
  ])('%s', async (_, change, code) => {
    const disks = [{ name: 'root', sizeOctets: MIB, policy: 'encrypted' }]
    const body = { name: 'never', hostId: 'host-a', policy: 'x', disks, ...change }
    await expect(site.admin.call(createVmByPolicy, { body })).rejects.toMatchObject({ code })
  })

  test('a VM on a host where encryption is turned off; a plain one is made', async () => {
    const other = await startAgent(lab, site, 'host-b')
    try {
      await other.socket.call(attestNow, { body: {} })
      const params = { hostId: 'host-b' }
      await site.admin.call(setHostEncryption, { params, body: { setting: 'off' } })
      await expect(makeVm('never', params)).rejects.toMatchObject({ code: 'HOST_ENCRYPTION_OFF' })
      const plain = { ...params, policy: 'plain', disks: [{ name: 'root', sizeOctets: MIB }] }
      await expect(makeVm('plain', plain)).resolves.toMatch(/-/)
    } finally {
      await other[Symbol.asyncDispose]()
    }
  })
})

describe('from the command line', () => {
  const as = (...args: readonly string[]) => sigillo(...args, '--site', site.folder)

  test('a VM is made by policy, shown beside it, planned, decrypted when that is confirmed, and tagged', async () => {
    const disks = ['--disk', 'root=1M', '--disk', 'data=1M', '--disk-policy', 'data=plain']
    const place = ['--host', 'host-a', '--no-vtpm', '--memory', '128']
    const made = await as('vm', 'create', 'cli', ...place, '--policy', 'gold-disks', ...disks)
    expect(made).toMatchObject({ status: 0, out: expect.stringMatching(/vm\.create .* is done/) })
    const shown = await as('vm', 'policies', 'cli')
    expect(shown.out).toMatch(/home +gold-disks +yes +compliant/)
    expect(shown.out).toMatch(/disk data +plain +yes +compliant/)
    const change = ['--home', 'plain', '--disk', 'root=plain']
    const planned = await as('vm', 'policies', 'cli', ...change, '--plan')
    expect(planned.out).toBe('decrypt disk root\ndecrypt the home\n')
    const unsure = await as('vm', 'policies', 'cli', ...change)
    expect(unsure).toMatchObject({ status: 1, err: expect.stringMatching(/say --yes/) })
    const json = await as('vm', 'policies', 'cli', ...change, '--yes', '--json')
    expect(JSON.parse(json.out)).toMatchObject({ task: { state: 'done' } })
    const refused = await as('vm', 'policies', 'cli', '--disk', 'root=gold-disks')
    expect(refused).toMatchObject({ status: 1, err: expect.stringMatching(/VM_HOME_PLAIN|home/) })
    expect((await as('vm', 'tag', 'cli', '--add', 'prod/cli')).out).toMatch(/prod\/cli/)
    expect((await as('vm', 'list', '--tag', 'prod')).out).toMatch(/^cli /m)
    expect((await as('inventory', 'hosts')).out).toMatch(/host-a +lab +trusted +safe/)
    expect((await as('storage-policy', 'list')).out).toMatch(/gold-disks +yes +gold/)
  })

  test('what makes no sense is said before anything is asked for', async () => {
    const place = ['--host', 'host-a', '--disk', 'root=1M']
    for (const wrong of [
      ['--disk-policy', 'root=plain'],
      ['--policy', 'plain', '--provider', 'gold'],
      ['--policy', 'plain', '--disk-policy', 'other=plain'],
    ]) {
      const { status, err } = await as('vm', 'create', 'never', ...place, ...wrong)
      expect({ status, err }).toMatchObject({ err: expect.stringMatching(/expected/) })
      expect(status).not.toBe(0)
    }
  })
})

test('a policy without a key provider takes the default of the cluster', async () => {
  await site.admin.call(setDefaultProvider, { query: {}, body: { provider: 'gold' } })
  const vmId = await makeVm('default', {
    policy: 'encrypted',
    disks: [{ name: 'root', sizeOctets: MIB }],
  })
  expect((await vmOf(vmId)).report.provider).toBe('gold')
  await site.admin.call(removeDefaultProvider, { query: {} })
})
