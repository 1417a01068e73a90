import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createCluster, listClusters, listEvents, listVms } from '../../../src/api/control-plane.js'
import { createVm } from '../../../src/api/host-agent.js'
import {
  backupNativeProvider,
  confirmBackup,
  createNativeProvider,
  listHostKeyDeliveries,
} from '../../../src/api/host-keys.js'
import { revokeHost } from '../../../src/api/hosts.js'
import {
  changeVmTags,
  getInventoryHost,
  getVm,
  listInventoryHosts,
  setHostEncryption,
} from '../../../src/api/inventory.js'
import { createProvider } from '../../../src/api/key-provider.js'
import {
  changeStoragePolicy,
  createStoragePolicy,
  deleteStoragePolicy,
  getStoragePolicy,
  listStoragePolicies,
  planVmPolicies,
} from '../../../src/api/storage-policies.js'
import { createLab, type Lab } from '../../../swtpm/index.js'
import { CLUSTER } from '../../helpers/host.js'
import type { TestSite } from '../../helpers/site.js'
import {
  openKeySite,
  startAgent,
  type TestAgent,
  trustAgent,
  until,
  untilDelivery,
  untilEvent,
} from '../host-keys/fixture.js'

const MIB = 1024 * 1024
const NOWHERE = '00000000-0000-4000-8000-000000000000'

let lab: Lab
let site: TestSite
let agent: TestAgent
let other: TestAgent
let encrypted: string
let plain: string

beforeAll(async () => {
  lab = await createLab()
  site = await openKeySite(lab)
  agent = await startAgent(lab, site, 'host-a')
  other = await startAgent(lab, site, 'host-b')
  await trustAgent(site, agent)
  await trustAgent(site, other)
  const settings = {
    ...{ clusters: [CLUSTER], minimumAssurance: 'session' as const, maxTokenAgeSeconds: 300 },
  }
  await site.admin.call(createProvider, { body: { name: 'gold', kind: 'trusted', settings } })
})
afterAll(async () => {
  await agent[Symbol.asyncDispose]()
  await other[Symbol.asyncDispose]()
  await site[Symbol.asyncDispose]()
  await lab[Symbol.asyncDispose]()
})

const host = (hostId: string) => site.admin.call(getInventoryHost, { params: { hostId } })
const vm = (vmId: string) => site.admin.call(getVm, { params: { vmId } })
const plan = (vmId: string, body: object) =>
  site.admin.call(planVmPolicies, { params: { vmId }, body })

describe('the encryption mode of a host', () => {
  test('is prepared once the host is attested, and told of by an event', async () => {
    const { encryption, attestation, lastSeenAt } = await until('host-a', async () => {
      const found = await host('host-a')
      return found.lastSeenAt !== undefined && found
    })
    expect(attestation).toBe('trusted')
    expect(encryption).toEqual({ mode: 'prepared', setting: 'on-demand' })
    expect(Date.parse(lastSeenAt ?? '')).toBeLessThanOrEqual(site.clock.nowMs())
    const event = await untilEvent(site, 'host.encryption-mode', { mode: 'prepared' })
    expect(event.subject).toMatch(/^host:host-[ab]$/)
  })

  test('stays prepared with a plain VM, and is safe with the first encrypted one', async () => {
    const disks = [{ name: 'root', sizeOctets: MIB }]
    const made = await agent.finish(
      await agent.socket.call(createVm, { body: { name: 'plain', plain: true, disks } }),
    )
    plain = made.vmId
    expect((await host('host-a')).encryption.mode).toBe('prepared')
    const body = {
      ...{ name: 'web', provider: 'gold', vtpm: false },
      disks: [...disks, { name: 'data', sizeOctets: MIB, plain: true }],
    }
    encrypted = (await agent.finish(await agent.socket.call(createVm, { body }))).vmId
    expect(await host('host-a')).toMatchObject({
      encryption: { mode: 'safe', setting: 'on', setBy: 'host:host-a' },
      vms: { total: 2, encrypted: 1, running: 0 },
    })
    await untilEvent(site, 'host.encryption-mode', { mode: 'safe', before: 'prepared' })
  })

  test('is not turned off while there are encrypted VMs', async () => {
    const params = { hostId: 'host-a' }
    await expect(
      site.admin.call(setHostEncryption, { params, body: { setting: 'off' } }),
    ).rejects.toMatchObject({ code: 'HOST_ENCRYPTION_IN_USE' })
    await expect(
      site.admin.call(setHostEncryption, {
        params: { hostId: 'nobody' },
        body: { setting: 'off' },
      }),
    ).rejects.toMatchObject({ code: 'NOT_FOUND' })
  })

  test('turned off, a host gets no keys, erases what it has, and encrypts nothing', async () => {
    await site.admin.call(createNativeProvider, {
      body: { name: 'silver', clusters: [CLUSTER], tpmRequired: false },
    })
    const params = { hostId: 'host-b' }
    await site.admin.call(setHostEncryption, { params, body: { setting: 'on' } })
    expect((await host('host-b')).encryption.mode).toBe('safe')
    await site.admin.call(setHostEncryption, { params, body: { setting: 'off' } })
    expect((await host('host-b')).encryption).toMatchObject({
      ...{ mode: 'pending-incapable', setting: 'off' },
    })
    await until('no provider on host-b', async () => (await other.held()).providers.length === 0)
    const body = {
      ...{ name: 'web', provider: 'gold', vtpm: false },
      disks: [{ name: 'root', sizeOctets: MIB }],
    }
    await expect(
      other.socket.call(createVm, { body }).then((task) => other.finish(task)),
    ).rejects.toMatchObject({ code: 'HOST_ENCRYPTION_OFF' })
    await expect(
      site.admin.call(setHostEncryption, { params, body: { setting: 'on' } }),
    ).rejects.toMatchObject({ code: 'HOST_ENCRYPTION_PENDING' })
    const provider = { provider: 'silver' }
    const backup = await site.admin.call(backupNativeProvider, {
      params: provider,
      body: { passphrase: 'correct horse battery' },
    })
    const { digest } = backup
    await site.admin.call(confirmBackup, { params: provider, body: { digest } })
    await untilDelivery(site, 'silver', { hostId: 'host-a', version: 1, state: 'confirmed' })
    const { deliveries } = await site.admin.call(listHostKeyDeliveries, { params: provider })
    expect(deliveries.map(({ hostId }) => hostId)).toEqual(['host-a'])
  })

  test('is incapable once the host was revoked', async () => {
    await site.admin.call(revokeHost, {
      params: { hostId: 'host-b' },
      body: { reason: 'test' },
    })
    await other.stop()
    const { hosts } = await site.admin.call(listInventoryHosts, {
      query: { attestation: 'revoked' },
    })
    expect(hosts.map(({ hostId }) => hostId)).toEqual(['host-b'])
    const safe = await site.admin.call(listInventoryHosts, { query: { mode: 'safe' } })
    expect(safe.hosts.map(({ hostId }) => hostId)).toEqual(['host-a'])
  })
})

describe('the inventory', () => {
  test('says of each key of a VM what it is wrapped with', async () => {
    const { report } = await vm(encrypted)
    expect(report.keys?.map(({ object, version }) => `${object} ${version}`).sort()).toEqual([
      ...['disk-root 1', 'home 1'],
    ])
    expect(report.keys?.every(({ providerId }) => providerId === report.key?.providerId)).toBe(true)
    expect(report.disks.map(({ encrypted }) => encrypted)).toEqual([true, false])
    await expect(vm(NOWHERE)).rejects.toMatchObject({ code: 'VM_NOT_FOUND' })
  })

  test.each<[string, object, readonly string[]]>([
    ['key provider', { provider: 'gold' }, ['web']],
    ['encryption', { encrypted: false }, ['plain']],
    ['version of a key', { keyVersion: 1 }, ['web']],
    ['another version', { keyVersion: 2 }, []],
    ['host', { hostId: 'host-a' }, ['plain', 'web']],
    ['state', { state: 'running' }, []],
    ['cluster', { cluster: 'elsewhere' }, []],
  ])('finds VMs by %s', async (_, query, names) => {
    const { vms } = await site.admin.call(listVms, { query })
    expect(vms.map(({ report }) => report.name).sort()).toEqual(names)
  })

  test('gives every list in pages', async () => {
    await site.admin.call(createCluster, { body: { name: 'another' } })
    const first = await site.admin.call(listClusters, { query: { limit: 1 } })
    expect(first).toMatchObject({ clusters: [{ name: 'another' }], next: 'another' })
    const second = await site.admin.call(listClusters, { query: { limit: 1, after: 'another' } })
    expect(second.clusters).toMatchObject([{ name: CLUSTER }])
    expect(second.next).toBeUndefined()
    const one = await site.admin.call(listVms, { query: { limit: 1 } })
    const rest = await site.admin.call(listVms, { query: { after: one.next ?? '' } })
    expect([...one.vms, ...rest.vms].map(({ vmId }) => vmId).sort()).toEqual(
      [encrypted, plain].sort(),
    )
    const hosts = await site.admin.call(listInventoryHosts, { query: { limit: 1 } })
    expect(hosts).toMatchObject({ hosts: [{ hostId: 'host-a' }], next: 'host-a' })
    const events = await site.admin.call(listEvents, { query: { limit: 2 } })
    const after = await site.admin.call(listEvents, {
      query: { limit: 1, after: events.next ?? '' },
    })
    expect(after.events[0]?.seq).toBe((events.events[1]?.seq ?? 0) + 1)
  })

  test('finds VMs by their tags, which are folders', async () => {
    const params = { vmId: encrypted }
    const tagged = await site.admin.call(changeVmTags, {
      params,
      body: { add: ['prod/web', 'pci'] },
    })
    expect(tagged.tags).toEqual(['pci', 'prod/web'])
    const byTag = async (tag: string) =>
      (await site.admin.call(listVms, { query: { tag } })).vms.map(({ report }) => report.name)
    expect(await byTag('prod')).toEqual(['web'])
    expect(await byTag('prod/web')).toEqual(['web'])
    expect(await byTag('prod/w')).toEqual([])
    const fewer = await site.admin.call(changeVmTags, { params, body: { remove: ['pci'] } })
    expect(fewer.tags).toEqual(['prod/web'])
    await untilEvent(site, 'vm.tags-changed')
    for (const tag of ['Prod', '/prod', 'prod//web', 'prod/', '../etc']) {
      await expect(
        site.admin.call(changeVmTags, { params, body: { add: [tag] } }),
      ).rejects.toMatchObject({ code: 'REQUEST_INVALID' })
    }
    await expect(site.admin.call(changeVmTags, { params, body: {} })).rejects.toMatchObject({
      code: 'REQUEST_INVALID',
    })
  })
})

describe('a storage policy', () => {
  test('is made, changed and deleted; plain and encrypted are built in', async () => {
    const made = await site.admin.call(createStoragePolicy, {
      body: { name: 'gold-disks', encrypted: true, provider: 'gold' },
    })
    expect(made).toMatchObject({ encrypted: true, provider: 'gold', builtIn: false })
    expect(made.note).toMatch(/not checked/)
    const { policies } = await site.admin.call(listStoragePolicies, { query: {} })
    expect(policies.map(({ name, builtIn }) => `${name} ${builtIn}`)).toEqual([
      ...['encrypted true', 'gold-disks false', 'plain true'],
    ])
    const params = { policy: 'gold-disks' }
    const changed = await site.admin.call(changeStoragePolicy, {
      params,
      body: { encrypted: true, provider: 'silver' },
    })
    expect(changed).toMatchObject({ provider: 'silver' })
    expect(changed.note).toBeUndefined()
    await site.admin.call(deleteStoragePolicy, { params })
    await expect(site.admin.call(getStoragePolicy, { params })).rejects.toMatchObject({
      code: 'NOT_FOUND',
    })
    await untilEvent(site, 'storage-policy.deleted')
  })

  test.each<[string, object, string]>([
    ['with the name of a built-in one', { name: 'plain', encrypted: true }, 'POLICY_BUILT_IN'],
    [
      'that does not encrypt, with a key provider',
      { name: 'odd', encrypted: false, provider: 'gold' },
      'REQUEST_INVALID',
    ],
    ['twice', { name: 'twice', encrypted: true }, 'CONFLICT'],
  ])('is not made %s', async (_, body, code) => {
    const make = () => site.admin.call(createStoragePolicy, { body: body as never })
    if (code === 'CONFLICT') await make()
    await expect(make()).rejects.toMatchObject({ code })
  })

  test('that is built in is not changed or deleted', async () => {
    const params = { policy: 'encrypted' }
    await expect(site.admin.call(deleteStoragePolicy, { params })).rejects.toMatchObject({
      code: 'POLICY_BUILT_IN',
    })
    await expect(
      site.admin.call(changeStoragePolicy, { params, body: { encrypted: false } }),
    ).rejects.toMatchObject({ code: 'POLICY_BUILT_IN' })
  })

  test('that nobody gave is that of what is', async () => {
    const { policies } = await vm(encrypted)
    expect(policies).toEqual({
      home: { policy: 'encrypted', given: false, compliance: 'compliant' },
      disks: [
        { name: 'root', policy: 'encrypted', given: false, compliance: 'compliant' },
        { name: 'data', policy: 'plain', given: false, compliance: 'compliant' },
      ],
    })
  })
})

describe('the plan of a change of policies', () => {
  test('decrypts disks first and the home last, and encrypts the home first', async () => {
    const disks = [
      { name: 'root', policy: 'plain' },
      { name: 'data', policy: 'plain' },
    ]
    const { steps } = await plan(encrypted, { home: 'plain', disks })
    expect(steps).toEqual(['decrypt disk root', 'decrypt the home'])
    await site.admin.call(createStoragePolicy, {
      body: { name: 'silver-only', encrypted: true, provider: 'silver' },
    })
    const other = await plan(plain, {
      home: 'silver-only',
      disks: [{ name: 'root', policy: 'encrypted' }],
    })
    expect(other.steps).toEqual([
      ...['encrypt the home with silver', 'encrypt disk root with silver'],
    ])
    expect((await plan(encrypted, { home: 'encrypted' })).steps).toEqual([])
  })

  test.each<[string, () => string, object, string]>([
    ['a plain home beside an encrypted disk', () => encrypted, { home: 'plain' }, 'VM_HOME_NEEDED'],
    [
      'an encrypted disk of a plain home',
      () => plain,
      { disks: [{ name: 'root', policy: 'encrypted' }] },
      'VM_HOME_PLAIN',
    ],
    ['a policy that is not there', () => plain, { home: 'missing' }, 'NOT_FOUND'],
    [
      'a disk that is not there',
      () => plain,
      { disks: [{ name: 'missing', policy: 'plain' }] },
      'VM_DISK_NOT_FOUND',
    ],
    ['a VM that is not there', () => NOWHERE, { home: 'plain' }, 'VM_NOT_FOUND'],
    ['no key provider', () => plain, { home: 'encrypted' }, 'POLICY_NO_PROVIDER'],
  ])('is refused for %s', async (_, vmId, body, code) => {
    await expect(plan(vmId(), body)).rejects.toMatchObject({ code })
  })
})
