import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { TObject } from 'typebox'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import * as controlPlane from '../../../src/api/control-plane.js'
import { everyPage } from '../../../src/api/every-page.js'
import * as hostKeys from '../../../src/api/host-keys.js'
import * as inventory from '../../../src/api/inventory.js'
import * as keyProvider from '../../../src/api/key-provider.js'
import type { Operation } from '../../../src/api/operation.js'
import * as people from '../../../src/api/people.js'
import * as storagePolicies from '../../../src/api/storage-policies.js'
import * as tasks from '../../../src/api/tasks.js'
import * as vmMoves from '../../../src/api/vm-moves.js'
import * as vtpmStates from '../../../src/api/vtpm-states.js'
import { controlPlaneStore } from '../../../src/control-plane/adapters/store.js'
import {
  createOperator,
  type FoundationTables,
  openStore,
  writeHostStatus,
} from '../../../src/store/index.js'
import { openTestSite, type TestSite } from '../../helpers/site.js'
import { sigillo } from '../cli/sigillo.js'

const CLUSTER = 'lab'
const NUMBERS = [1, 2, 3] as const
const vmIdOf = (number: number) => `${String(number).repeat(8)}-0000-4000-8000-000000000000`
const params = { vmId: vmIdOf(1), provider: 'silver', kind: 'service-account', name: 'robot' }

/** Lists of key provider, control plane and people, with the member that has the items. */
const LISTS: readonly (readonly [Operation, string])[] = [
  [keyProvider.listProviders, 'providers'],
  [keyProvider.listKeyProviderAudit, 'records'],
  [hostKeys.listHostKeyProviders, 'providers'],
  [hostKeys.listHostKeys, 'keys'],
  [hostKeys.listHostKeyDeliveries, 'deliveries'],
  [controlPlane.listClusters, 'clusters'],
  [controlPlane.listVms, 'vms'],
  [controlPlane.listEvents, 'events'],
  [controlPlane.listControlPlaneAudit, 'records'],
  [inventory.listInventoryHosts, 'hosts'],
  [storagePolicies.listStoragePolicies, 'policies'],
  [tasks.listVmTasks, 'tasks'],
  [vmMoves.listHandOvers, 'handOvers'],
  [vtpmStates.listVtpmStates, 'states'],
  [vtpmStates.listVtpmCertificates, 'certificates'],
  [people.listAccounts, 'accounts'],
  [people.listAccountTokens, 'tokens'],
  [people.listOperators, 'operators'],
  [people.listRoles, 'roles'],
  [people.listPermissions, 'permissions'],
  [people.listPeopleAudit, 'records'],
]

const modules = await Promise.all(
  readdirSync('src/api').map(
    (file) => import(`../../../src/api/${file.replace('.ts', '')}.ts`) as Promise<object>,
  ),
)

let site: TestSite
beforeAll(async () => {
  site = await openTestSite()
  const { call } = site.admin
  await call(controlPlane.createCluster, { body: { name: CLUSTER } })
  await inStore()
  await call(people.createServiceAccount, { body: { name: 'robot' } })
  const principal = { kind: 'service-account', name: 'robot' } as const
  for (const number of NUMBERS) {
    await call(controlPlane.createCluster, { body: { name: `cluster-${number}` } })
    const settings = { clusters: [CLUSTER], maxTokenAgeSeconds: 300 }
    await call(keyProvider.createProvider, {
      body: {
        ...{ name: `gold-${number}`, kind: 'trusted' },
        settings: { ...settings, minimumAssurance: 'session' },
      },
    })
    await call(hostKeys.createNativeProvider, {
      body: {
        name: number === 1 ? 'silver' : `silver-${number}`,
        clusters: [],
        tpmRequired: false,
      },
    })
    await call(storagePolicies.createStoragePolicy, {
      body: { name: `policy-${number}`, encrypted: true },
    })
    await call(tasks.createVmTask, { body: { kind: 'vm.start', vmId: vmIdOf(1), request: {} } })
    await call(people.createRole, { body: { name: `role-${number}`, privileges: ['System.Read'] } })
    const scope = { kind: 'cluster', name: `cluster-${number}` } as const
    await call(people.grantPermission, { body: { principal, role: 'read-only', scope } })
    await call(people.createServiceAccount, { body: { name: `robot-${number}` } })
    await call(people.createAccountToken, {
      params: { name: 'robot' },
      body: { note: `note ${number}`, ttlSeconds: 3600 },
    })
  }
  for (const _ of NUMBERS.slice(1)) await rotate()
  await deliveries()
})
afterAll(() => site?.[Symbol.asyncDispose]())

/** What hosts would have told. */
async function inStore(): Promise<void> {
  await using store = await openStore({ file: join(site.folder, 'sigillo.db') })
  const nowMs = site.clock.nowMs()
  for (const number of NUMBERS) {
    const status = { issuer: site.url, hostId: `host-${number}`, cluster: CLUSTER, atMs: nowMs }
    await store.transaction<FoundationTables, void>((tx) =>
      writeHostStatus(tx, { ...status, state: 'trusted', newEpoch: false, policyEpoch: 1 }),
    )
    await createOperator(store, {
      ...{ name: `operator-${number}`, role: 'auditor', services: ['control-plane'], nowMs },
    })
    await controlPlaneStore(store).transaction(async (tx) => {
      const vmId = vmIdOf(number)
      const of = { vmId, hostId: 'host-1', cluster: CLUSTER }
      const report = { name: `vm-${number}`, state: 'stopped' as const, disks: [], vtpm: true }
      await tx.saveVm({ ...of, report, reportedAtMs: nowMs })
      const offered = { exportId: vmId, ticketDigest: new Uint8Array(32), offeredAtMs: nowMs }
      await tx.saveHandOver({ ...of, ...offered })
      const state = { digest: String(number).repeat(64), cause: 'recorded' as const }
      await tx.addVtpmState({
        ...{ vmId: vmIdOf(1), generation: number, hostId: 'host-1', notedAtMs: nowMs, ...state },
      })
      await tx.saveCertificate({
        ...{
          fingerprint: String(number).repeat(64),
          vmId: vmIdOf(1),
          kind: 'ek',
          hostId: 'host-1',
        },
        ...{ keyDigest: String(number).repeat(64), issuedAtMs: nowMs },
        certificate: new Uint8Array([0x30, number]),
      })
    })
  }
}

/** A version of a native key, which is made once that before was backed up. */
async function rotate(): Promise<void> {
  const { call } = site.admin
  const of = { params: { provider: 'silver' } }
  const body = { passphrase: 'correct horse battery' }
  const { digest } = await call(hostKeys.backupNativeProvider, { ...of, body })
  await call(hostKeys.confirmBackup, { ...of, body: { digest } })
  await call(hostKeys.rotateNativeProvider, { ...of, body: {} })
}

async function deliveries(): Promise<void> {
  await using store = await openStore({ file: join(site.folder, 'sigillo.db') })
  await controlPlaneStore(store).transaction(async (tx) => {
    const { providerId = '' } = (await tx.findKeyProvider('silver')) ?? {}
    for (const [version, hostId] of [
      ...[
        [1, 'host-1'],
        [1, 'host-2'],
        [1, 'host-3'],
        [2, 'host-1'],
        [2, 'host-3'],
      ],
    ] as const) {
      const delivery = { providerId, version: Number(version), hostId: String(hostId), atMs: 1 }
      await tx.saveDelivery({ ...delivery, state: 'confirmed' })
    }
  })
}

test('every list of key provider, control plane and people is known here, and has pages', () => {
  const lists = modules
    .flatMap((module) => Object.values(module) as readonly Partial<Operation>[])
    .filter(({ id, method, path, answer }) => {
      const isService = /^\/(key-provider|control-plane|people)\//.test(path ?? '')
      const isList = id?.startsWith('list') || 'next' in ((answer as TObject)?.properties ?? {})
      return isService && method === 'GET' && isList
    })
  expect(lists.map(({ id }) => id).sort()).toEqual(LISTS.map(([{ id }]) => id).sort())
  for (const { id, query } of lists) {
    expect([id, Object.keys(query?.properties ?? {})]).toEqual([
      id,
      expect.arrayContaining(['after', 'limit']),
    ])
  }
})

describe('in pages comes', () => {
  test.each(LISTS.map(([operation, member]) => [operation.id, operation, member] as const))(
    '%s',
    async (_, operation, member) => {
      const names = Object.keys((operation.params as TObject | undefined)?.properties ?? {})
      const own = Object.fromEntries(
        Object.entries(params).filter(([name]) => names.includes(name)),
      )
      const page = async (query: Record<string, unknown>) =>
        (await site.admin.call(operation, { params: own, query })) as Record<string, unknown>
      const whole = await page({ limit: 1000 })
      const items = whole[member] as readonly unknown[]
      expect(items.length).toBeGreaterThanOrEqual(3)
      const seen: unknown[] = []
      for (let next: unknown; ; ) {
        const one = await page({ limit: 2, ...(next === undefined ? {} : { after: next }) })
        expect((one[member] as unknown[]).length).toBeLessThanOrEqual(2)
        seen.push(...(one[member] as unknown[]))
        next = one['next']
        if (next === undefined) break
      }
      expect(seen).toEqual(items)
      expect(await everyPage(site.admin, operation, { params: own }, member)).toEqual(whole)
      for (const query of [
        { limit: 0 },
        { limit: 1001 },
        { limit: -1 },
        { after: 'x'.repeat(300) },
      ]) {
        await expect(page(query)).rejects.toMatchObject({ code: 'REQUEST_INVALID' })
      }
    },
  )
})

test('the command line prints lists whole, as much of them as it is told, and of one kind alone', async () => {
  const run = async (...args: readonly string[]) => {
    const { out, err } = await sigillo(...args, '--site', site.folder)
    expect(err).toBe('')
    return out
  }
  const { providers } = JSON.parse(await run('standard', 'list', '--json'))
  expect(providers).toEqual([])
  const { accounts } = JSON.parse(await run('user', 'list', '--json'))
  expect(accounts).toEqual([])
  const { keys, next } = JSON.parse(await run('native', 'keys', 'silver', '--limit', '1', '--json'))
  expect([keys.length, next]).toEqual([1, '1'])
  const rest = JSON.parse(await run('native', 'hosts', 'silver', '--after', '1:host-2', '--json'))
  expect(rest.deliveries).toHaveLength(3)
  expect(await run('provider', 'list', '--limit', '2')).toContain('there are more: --after gold-2')
})
