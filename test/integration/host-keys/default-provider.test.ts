import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Client, createClient } from '../../../src/api/client.js'
import {
  createCluster,
  listControlPlaneAudit,
  listEvents,
  verifyControlPlaneAudit,
} from '../../../src/api/control-plane.js'
import {
  getDefaultProviders,
  removeDefaultProvider,
  setDefaultProvider,
} from '../../../src/api/default-provider.js'
import { createVm, encryptVm, getStatus } from '../../../src/api/host-agent.js'
import {
  backupNativeProvider,
  confirmBackup,
  createNativeProvider,
  deleteHostKeyProvider,
  setHostKeyProvider,
} from '../../../src/api/host-keys.js'
import { createProvider } from '../../../src/api/key-provider.js'
import { createOperator, openStore } from '../../../src/store/index.js'
import { createLab, type Lab } from '../../../swtpm/index.js'
import type { TestSite } from '../../helpers/site.js'
import { run, sigillo } from '../cli/sigillo.js'
import { CLUSTER, openKeySite, startAgent, type TestAgent, trustAgent, until } from './fixture.js'

const OTHER = 'other'
const DISKS = [{ name: 'root', sizeOctets: 1024 * 1024 }]

let lab: Lab
let site: TestSite
let host: TestAgent
let auditor: Client

beforeAll(async () => {
  lab = await createLab()
  site = await openKeySite(lab)
  await site.admin.call(createCluster, { body: { name: OTHER } })
  const settings = {
    ...{ clusters: [CLUSTER], minimumAssurance: 'session' as const, maxTokenAgeSeconds: 300 },
  }
  await site.admin.call(createProvider, { body: { name: 'gold', kind: 'trusted', settings } })
  await native('silver', [CLUSTER])
  await native('tin', [OTHER])
  await backUp('tin')
  auditor = await auditorOf(site)
  host = await startAgent(lab, site, 'a')
  await trustAgent(site, host)
})
afterAll(async () => {
  await auditor?.[Symbol.asyncDispose]()
  await host?.[Symbol.asyncDispose]()
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

const native = (name: string, clusters: string[]) =>
  site.admin.call(createNativeProvider, { body: { name, clusters, tpmRequired: false } })

async function backUp(provider: string): Promise<void> {
  const params = { provider }
  const body = { passphrase: 'nine old locks and a key' }
  const { digest } = await site.admin.call(backupNativeProvider, { params, body })
  await site.admin.call(confirmBackup, { params, body: { digest } })
}

const set = (provider: string, cluster?: string) =>
  site.admin.call(setDefaultProvider, { query: cluster ? { cluster } : {}, body: { provider } })

const remove = (cluster?: string) =>
  site.admin.call(removeDefaultProvider, { query: cluster ? { cluster } : {} })

const show = () => site.admin.call(getDefaultProviders, {})

/** Waits until the agent, which runs, says that this is its default. */
const untilTold = (provider: string | undefined, from?: string) =>
  until(`default ${provider}`, async () => {
    const { defaultProvider } = await host.socket.call(getStatus, {})
    return defaultProvider?.provider === provider && defaultProvider?.from === from
  })

const make = async (name: string, request: { provider?: string; plain?: boolean } = {}) => {
  const body = { name, vtpm: false, disks: DISKS, ...request }
  return host.finish(await host.socket.call(createVm, { body }))
}

const encrypt = async (vm: string) =>
  host.finish(await host.socket.call(encryptVm, { params: { vm }, body: {} }))

describe('without a default', () => {
  test('a VM needs a key provider by name, and none is plain because nothing was said', async () => {
    await expect(make('web1')).rejects.toMatchObject({ code: 'AGENT_NO_PROVIDER' })
    expect((await make('plain1', { plain: true })).provider).toBeUndefined()
    await expect(encrypt('plain1')).rejects.toMatchObject({ code: 'AGENT_NO_PROVIDER' })
    await expect(make('web1', { plain: true, provider: 'gold' })).rejects.toMatchObject({
      code: 'REQUEST_INVALID',
    })
  })

  test('one is taken that is of use on every host that it is for, and no other', async () => {
    const refused = [
      [() => set('silver', CLUSTER), 'HOST_KEY_NOT_BACKED_UP'],
      [() => set('tin', CLUSTER), 'DEFAULT_PROVIDER'],
      [() => set('tin'), 'DEFAULT_PROVIDER'],
      [() => set('gold', 'nowhere'), 'NOT_FOUND'],
      [() => remove('nowhere'), 'NOT_FOUND'],
      [() => remove(CLUSTER), 'NOT_FOUND'],
      [() => remove(), 'NOT_FOUND'],
    ] as const
    for (const [call, code] of refused) await expect(call()).rejects.toMatchObject({ code })
    expect(await show()).toEqual({ clusters: [{ cluster: CLUSTER }, { cluster: OTHER }] })
  })
})

describe('the default key provider', () => {
  test('of the site reaches a host that runs, which makes VMs with it', async () => {
    const view = await set('gold')
    expect(view).toMatchObject({
      site: { provider: 'gold', setBy: 'admin' },
      note: expect.stringContaining('not checked'),
    })
    for (const { inForce } of view.clusters) {
      expect(inForce).toEqual({ provider: 'gold', from: 'site', state: 'not-known-here' })
    }
    await untilTold('gold', 'site')
    expect(await make('web1')).toMatchObject({ provider: 'gold' })
  })

  test('of a cluster goes before that of the site, and a name in the request before both', async () => {
    await backUp('silver')
    const view = await set('silver', CLUSTER)
    expect(view.note).toBeUndefined()
    expect(view.clusters).toMatchObject([
      { cluster: CLUSTER, own: { provider: 'silver' }, inForce: { state: 'usable' } },
      { cluster: OTHER, inForce: { provider: 'gold' } },
    ])
    await untilTold('silver', 'cluster')
    expect(await make('web2', { provider: 'gold' })).toMatchObject({ provider: 'gold' })
    expect(await encrypt('plain1')).toMatchObject({ provider: 'silver' })
  })

  test('does not change VMs that have a provider', async () => {
    await expect(encrypt('web1')).rejects.toMatchObject({ code: 'VM_ENCRYPTED' })
  })

  test('is told again to an agent that was restarted', async () => {
    await host.stop()
    await host.start()
    expect(await make('web3')).toMatchObject({ provider: 'silver' })
  })

  test('goes on to serve the cluster, and is not deleted but with force: then it is none', async () => {
    await set('tin', OTHER)
    const params = { provider: 'tin' }
    await expect(
      site.admin.call(setHostKeyProvider, { params, body: { clusters: [] } }),
    ).rejects.toMatchObject({ code: 'HOST_KEY_IN_USE' })
    const wider = { clusters: [CLUSTER, OTHER] }
    await site.admin.call(setHostKeyProvider, { params, body: wider })
    const end = (force: boolean) =>
      site.admin.call(deleteHostKeyProvider, { params, body: { reason: 'a test', force } })
    await expect(end(false)).rejects.toMatchObject({
      code: 'HOST_KEY_IN_USE',
      message: expect.stringContaining(`cluster ${OTHER}`),
    })
    await end(true)
    const { clusters } = await show()
    expect(clusters[1]).toEqual({
      ...{ cluster: OTHER, inForce: { provider: 'gold', from: 'site', state: 'not-known-here' } },
    })
  })

  test('that does not serve a cluster which came later says so', async () => {
    await set('gold', OTHER)
    await set('silver')
    await site.admin.call(createCluster, { body: { name: 'later' } })
    const inForce = { provider: 'silver', from: 'site' }
    expect((await show()).clusters).toMatchObject([
      { cluster: CLUSTER, inForce: { provider: 'silver', from: 'cluster' } },
      { cluster: 'later', inForce: { ...inForce, state: 'not-serving' } },
      { cluster: OTHER, inForce: { provider: 'gold', from: 'cluster' } },
    ])
    await expect(set('silver')).rejects.toMatchObject({ code: 'DEFAULT_PROVIDER' })
    const { clusters } = await remove(OTHER)
    expect(clusters[2]).toMatchObject({ inForce: { ...inForce, state: 'not-serving' } })
    await set('gold')
  })

  test('is seen by auditors, and changed by administrators alone', async () => {
    expect(await auditor.call(getDefaultProviders, {})).toEqual(await show())
    const body = { provider: 'gold' }
    for (const call of [
      () => auditor.call(setDefaultProvider, { query: {}, body }),
      () => auditor.call(removeDefaultProvider, { query: {} }),
    ]) {
      await expect(call()).rejects.toMatchObject({ code: 'FORBIDDEN' })
    }
  })

  test('is removed: that of the site is in force again, and then none', async () => {
    await remove(CLUSTER)
    await untilTold('gold', 'site')
    await remove()
    await untilTold(undefined)
    await expect(make('web4')).rejects.toMatchObject({ code: 'AGENT_NO_PROVIDER' })
    expect(await make('web4', { provider: 'silver' })).toMatchObject({ provider: 'silver' })
  })

  test('is in an event and an audit record of each change', async () => {
    const told = [
      ['set', 'site', 'gold'],
      ['set', `cluster:${CLUSTER}`, 'silver'],
      ['set', `cluster:${OTHER}`, 'tin'],
      ['removed', `cluster:${OTHER}`, 'tin'],
      ['set', `cluster:${OTHER}`, 'gold'],
      ['set', 'site', 'silver'],
      ['removed', `cluster:${OTHER}`, 'gold'],
      ['set', 'site', 'gold'],
      ['removed', `cluster:${CLUSTER}`, 'silver'],
      ['removed', 'site', 'gold'],
    ]
    const { events } = await site.admin.call(listEvents, { query: { limit: 1000 } })
    const { records } = await site.admin.call(listControlPlaneAudit, { query: { limit: 1000 } })
    const ofEvents = events.map(({ type, subject, detail }) => [
      type,
      subject,
      detail?.['provider'],
    ])
    const ofAudit = records
      .filter(({ actor }) => actor === 'operator:admin')
      .map(({ action, subject, detail }) => [action, subject, detail['provider']])
    for (const list of [ofEvents, ofAudit]) {
      expect(list.filter(([type]) => String(type).startsWith('default-provider.'))).toEqual(
        told.map(([what, ...rest]) => [`default-provider.${what}`, ...rest]),
      )
    }
    expect(await site.admin.call(verifyControlPlaneAudit, {})).toMatchObject({ intact: true })
  })
})

test('administrators set it by commands, and those who make VMs need not name it', async () => {
  const onSite = (...args: readonly string[]) =>
    sigillo('default-provider', ...args, '--site', site.folder)
  const onHost = (...args: readonly string[]) =>
    run('agent-main', ...args, '--socket', host.socketFile)
  const create = ['vm', 'create', 'web5', '--no-vtpm', '--disk', 'root=1M']

  expect(await onHost(...create)).toMatchObject({
    ...{ status: 1, err: expect.stringContaining('hint: say --provider NAME') },
  })
  const done = await onSite('set', 'silver', '--cluster', CLUSTER, '--json')
  expect(JSON.parse(done.out)).toMatchObject({
    clusters: [{ own: { provider: 'silver' } }, {}, {}],
  })
  expect((await onSite('show')).out).toMatch(/silver +cluster +usable/)
  await untilTold('silver', 'cluster')
  expect((await onHost('status')).out).toMatch(/default provider: +silver, of cluster lab/)
  const made = await onHost(...create, '--json')
  expect(made.status).toBe(0)
  expect(JSON.parse(made.out)).toMatchObject({ name: 'web5', provider: 'silver' })

  expect((await onSite('set', 'brass')).out).toContain('note: brass is no native or standard')
  const removed = await onSite('remove', '--cluster', CLUSTER)
  expect(removed).toMatchObject({ status: 0, out: expect.stringContaining('trusted, not checked') })
  expect(await onSite('remove', '--cluster', CLUSTER)).toMatchObject({
    ...{ status: 1, err: expect.stringContaining('(NOT_FOUND)') },
  })
})
