import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  createCluster,
  listControlPlaneAudit,
  listVms,
  verifyControlPlaneAudit,
} from '../../../src/api/control-plane.js'
import { attestNow, deleteVm, probeKeys } from '../../../src/api/host-agent.js'
import {
  backupNativeProvider,
  confirmBackup,
  createNativeProvider,
  deleteHostKeyProvider,
  getHostKeyProvider,
  listHostKeyDeliveries,
  listHostKeyProviders,
  listHostKeys,
  restoreNativeProvider,
  rotateNativeProvider,
  setHostKeyProvider,
} from '../../../src/api/host-keys.js'
import { revokeHost } from '../../../src/api/hosts.js'
import { fromBase64url, toBase64url } from '../../../src/core/bytes.js'
import { createLab, type Lab } from '../../../swtpm/index.js'
import type { TestSite } from '../../helpers/site.js'
import {
  CLUSTER,
  openKeySite,
  startAgent,
  type TestAgent,
  trustAgent,
  until,
  untilDelivery,
  untilEvent,
} from './fixture.js'

const PASSPHRASE = 'nine old locks and a key'
const WORDS = 'ledger of the harbour'

let lab: Lab
let site: TestSite
let a: TestAgent
let b: TestAgent
let c: TestAgent

beforeAll(async () => {
  lab = await createLab()
  site = await openKeySite(lab)
  ;[a, b, c] = [
    await startAgent(lab, site, 'a'),
    await startAgent(lab, site, 'b'),
    await startAgent(lab, site, 'c', { bindingKey: false }),
  ]
  await trustAgent(site, a)
  for (const other of [b, c]) await other.socket.call(attestNow, { body: {} })
})
afterAll(async () => {
  for (const agent of [a, b, c]) await agent?.[Symbol.asyncDispose]()
  await site?.[Symbol.asyncDispose]()
  await lab?.[Symbol.asyncDispose]()
})

const create = (name: string, change: object = {}) =>
  site.admin.call(createNativeProvider, {
    body: { name, clusters: [CLUSTER], tpmRequired: false, ...change },
  })

async function backUp(provider: string, at = site): Promise<Uint8Array> {
  const params = { provider }
  const body = { passphrase: PASSPHRASE }
  const { file, digest } = await at.admin.call(backupNativeProvider, { params, body })
  await at.admin.call(confirmBackup, { params, body: { digest } })
  return fromBase64url(file)
}

const probe = (agent: TestAgent, provider: string, assurance: 'session' | 'tpm' = 'session') =>
  agent.socket.call(probeKeys, { body: { provider, assurance } })

const confirmed = (provider: string, hostId: string, version = 1) =>
  untilDelivery(site, provider, { hostId, version, state: 'confirmed' })

describe('a native key provider', () => {
  test('is of no use before it is backed up, and warns of it', async () => {
    const made = await create('silver')
    expect(made).toMatchObject({ kind: 'native', backup: { state: 'none' }, deliveries: {} })
    expect(made.current).toBeUndefined()
    await untilEvent(site, 'key-provider.backup-missing', { provider: 'silver' })
    await expect(probe(a, 'silver')).rejects.toMatchObject({ code: 'HOST_KEY_NOT_BACKED_UP' })
    expect((await a.held()).providers).toMatchObject([{ name: 'silver', versions: [] }])
  })

  test('reaches every host of its clusters at once when it is, and wraps there without a service', async () => {
    await backUp('silver')
    for (const host of ['a', 'b', 'c']) await confirmed('silver', host)
    const view = await site.admin.call(getHostKeyProvider, { params: { provider: 'silver' } })
    expect(view).toMatchObject({
      current: 1,
      backup: { state: 'done' },
      deliveries: { confirmed: 3 },
    })
    await expect(probe(a, 'silver')).resolves.toBeDefined()
    await expect(probe(a, 'silver', 'tpm')).rejects.toMatchObject({ code: 'KEY_ASSURANCE' })
  })

  test('opens what one host wrapped on every other host that has the files', async () => {
    const vm = await a.makeVm('web1', 'silver', WORDS)
    a.shareVm(vm, b)
    expect(await b.readVm('web1', WORDS.length)).toBe(WORDS)
    const { vms } = await site.admin.call(listVms, { query: { hostId: 'a' } })
    const { providerId } = await site.admin.call(getHostKeyProvider, {
      params: { provider: 'silver' },
    })
    expect(vms).toMatchObject([{ report: { key: { providerId, version: 1 } } }])
  })

  test('goes on without the control plane, and is asked for again after a restart of the agent', async () => {
    await site.stop()
    expect(await b.readVm('web1', WORDS.length)).toBe(WORDS)
    await expect(probe(b, 'silver')).resolves.toBeDefined()
    await site.start()
    await b.stop()
    await b.start()
    expect(await b.readVm('web1', WORDS.length)).toBe(WORDS)
  })

  test('is rotated: the new version wraps once it is backed up, older ones still open', async () => {
    const params = { provider: 'silver' }
    const rotated = await site.admin.call(rotateNativeProvider, { params, body: {} })
    expect(rotated).toMatchObject({ current: 1, keys: 2, backup: { state: 'newest-missing' } })
    await untilEvent(site, 'key-provider.backup-missing', { backup: 'newest-missing' })
    expect((await a.held()).providers).toMatchObject([{ current: 1, versions: [1] }])
    await backUp('silver')
    for (const host of ['a', 'b', 'c']) await confirmed('silver', host, 2)
    await a.makeVm('web2', 'silver', WORDS)
    const { vms } = await site.admin.call(listVms, { query: { hostId: 'a' } })
    expect(vms.map(({ report }) => report.key?.version).sort()).toEqual([1, 2])
    expect(await a.readVm('web1', WORDS.length)).toBe(WORDS)
    const { keys } = await site.admin.call(listHostKeys, { params })
    expect(keys.map(({ state }) => state)).toEqual(['usable', 'usable'])
  })

  test('leaves hosts whose cluster it no longer serves, and comes back with it', async () => {
    const params = { provider: 'silver' }
    await site.admin.call(setHostKeyProvider, { params, body: { clusters: [] } })
    for (const hostId of ['a', 'b', 'c']) {
      await untilDelivery(site, 'silver', { hostId, version: 2, state: 'erased' })
    }
    expect((await a.held()).providers).toEqual([])
    await expect(a.readVm('web1', 4)).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await site.admin.call(setHostKeyProvider, { params, body: { clusters: [CLUSTER] } })
    await confirmed('silver', 'a', 2)
    expect(await a.readVm('web1', WORDS.length)).toBe(WORDS)
  })

  test('is not deleted while VMs use it; deleted, it is erased on each host that says so', async () => {
    const params = { provider: 'silver' }
    const remove = (force = false) =>
      site.admin.call(deleteHostKeyProvider, { params, body: { reason: 'a test', force } })
    await expect(remove()).rejects.toMatchObject({
      code: 'HOST_KEY_IN_USE',
      message: expect.stringContaining('web1'),
    })
    await a.socket.call(deleteVm, { params: { vm: 'web2' } })
    await c.stop()
    expect(await remove(true)).toEqual({ deleted: false, awaits: ['a', 'b', 'c'] })
    for (const agent of [a, b]) {
      await until('erasure', async () => (await agent.held()).providers.length === 0)
    }
    await untilDelivery(site, 'silver', { hostId: 'b', version: 1, state: 'erased' })
    const view = await site.admin.call(getHostKeyProvider, { params })
    expect(view).toMatchObject({ state: 'deleting', deliveries: { erasing: 2, erased: 4 } })
    await c.start()
    const gone = await untilEvent(site, 'key-provider.deleted', { provider: 'silver' })
    expect(gone.detail).toMatchObject({ unconfirmed: [] })
    await expect(site.admin.call(getHostKeyProvider, { params })).rejects.toMatchObject({
      code: 'NOT_FOUND',
    })
  })
})

describe('a native key provider that demands the TPM', () => {
  test('is sealed to the TPM of each host, and not given to a host that has no key there', async () => {
    await create('tin', { tpmRequired: true })
    await backUp('tin')
    for (const host of ['a', 'b']) await confirmed('tin', host)
    await expect(probe(a, 'tin', 'tpm')).resolves.toBeDefined()
    const event = await untilEvent(site, 'host-key.not-added', { host: 'c' })
    expect(event).toMatchObject({
      severity: 'error',
      detail: { provider: 'tin', reason: 'support', code: 'KEY_ASSURANCE' },
    })
    await expect(probe(c, 'tin')).rejects.toMatchObject({ code: 'KEY_ASSURANCE' })
  })

  test('is not given to a host that was revoked', async () => {
    await site.admin.call(revokeHost, { params: { hostId: 'b' }, body: { reason: 'stolen' } })
    await create('lead')
    await backUp('lead')
    await confirmed('lead', 'a')
    const { deliveries } = await site.admin.call(listHostKeyDeliveries, {
      params: { provider: 'lead' },
    })
    expect(deliveries.map(({ hostId }) => hostId)).not.toContain('b')
    // its next attestation is refused, and it forgets what it had
    await b.socket.call(attestNow, { body: {} })
    expect((await b.held()).providers).toEqual([])
    const audit = await site.admin.call(listControlPlaneAudit, {
      query: { subject: 'provider:lead', limit: 100 },
    })
    const released = audit.records.filter(({ action }) => action === 'host-key.release')
    expect(released.map(({ actor }) => actor)).not.toContain('host:b')
    expect(await site.admin.call(verifyControlPlaneAudit, {})).toMatchObject({ intact: true })
  })
})

describe('a backup', () => {
  let file: Uint8Array

  beforeAll(async () => {
    await create('gold')
    await site.admin.call(rotateNativeProvider, { params: { provider: 'gold' }, body: {} })
    file = await backUp('gold')
    await confirmed('gold', 'a', 2)
  })

  const restore = (at: TestSite, change: object = {}) =>
    at.admin.call(restoreNativeProvider, {
      body: {
        file: toBase64url(file),
        passphrase: PASSPHRASE,
        clusters: [CLUSTER],
        ...change,
      },
    })

  test('is PKCS#12 that openssl opens, and holds the keys in no other way', () => {
    const path = join(lab.directory, 'gold.p12')
    writeFileSync(path, file)
    const shown = execFileSync(
      'sh',
      ['-c', 'openssl pkcs12 -in "$1" -passin env:PASS -info -nodes 2>&1', 'sh', path],
      { encoding: 'utf8', env: { PATH: process.env['PATH'], PASS: PASSPHRASE } },
    )
    expect(shown.match(/friendlyName: .*/g)).toEqual([
      'friendlyName: sigillo native key provider',
      'friendlyName: version 1',
      'friendlyName: version 2',
    ])
    const database = readFileSync(join(site.folder, 'sigillo.db'))
    expect(database.includes(PASSPHRASE)).toBe(false)
  })

  test('counts once it is said to be written, and only the one that was made last', async () => {
    const params = { provider: 'gold' }
    const body = { digest: '0'.repeat(64) }
    await expect(site.admin.call(confirmBackup, { params, body })).rejects.toMatchObject({
      code: 'BACKUP_DIGEST',
    })
  })

  test('brings the provider back on an empty site: same identity, and old files open', async () => {
    const vm = await a.makeVm('db1', 'gold', WORDS)
    await using other = await openKeySite(lab)
    expect((await other.admin.call(listHostKeyProviders, {})).providers).toEqual([])
    await using host = await startAgent(lab, other, 'elsewhere')
    await trustAgent(other, host)
    const restored = await restore(other)
    const before = await site.admin.call(getHostKeyProvider, { params: { provider: 'gold' } })
    expect(restored).toMatchObject({
      name: 'gold',
      providerId: before.providerId,
      keys: 2,
      current: 2,
    })
    mkdirSync(host.vmDirectory, { recursive: true })
    a.shareVm(vm, host)
    expect(await host.readVm('db1', WORDS.length)).toBe(WORDS)
    await expect(restore(other)).rejects.toMatchObject({ code: 'CONFLICT' })
  })

  test('is refused with another passphrase, when it is not whole, when it was altered', async () => {
    const code = (change: object) => restore(site, change).catch((error) => error.code)
    expect(await code({ passphrase: 'another passphrase' })).toBe('PKCS12_PASSPHRASE')
    expect(await code({ file: toBase64url(file.subarray(0, 300)) })).toBe('PKCS12_UNREADABLE')
    const altered = Uint8Array.from(file)
    altered[altered.length - 8] = (altered.at(-8) ?? 0) ^ 1
    expect(await code({ file: toBase64url(altered) })).toBe('PKCS12_ALTERED')
    expect(await code({})).toBe('CONFLICT')
    expect(await code({ clusters: ['nowhere'] })).toBe('NOT_FOUND')
  })

  test('is warned of when it is old', async () => {
    site.clock.advance(91 * 86_400_000)
    const event = await untilEvent(site, 'key-provider.backup-old', { provider: 'gold' })
    expect(event.severity).toBe('warning')
    const view = await site.admin.call(getHostKeyProvider, { params: { provider: 'gold' } })
    expect(view.backup?.state).toBe('old')
  })
})

test('a key provider is for clusters that there are, and has a name of its own', async () => {
  await expect(create('gold')).rejects.toMatchObject({ code: 'CONFLICT' })
  await expect(create('x', { clusters: ['nowhere'] })).rejects.toMatchObject({ code: 'NOT_FOUND' })
  await site.admin.call(createCluster, { body: { name: 'other' } })
  expect(await create('x', { clusters: ['other'] })).toMatchObject({ clusters: ['other'] })
})
