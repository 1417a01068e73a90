import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Agent, request } from 'undici'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { listControlPlaneAudit } from '../../../src/api/control-plane.js'
import { attestNow, probeKeys, recryptVm } from '../../../src/api/host-agent.js'
import {
  createStandardProvider,
  getHostKeyProvider,
  type HostKeyView,
  listHostKeys,
  testStandardProvider,
} from '../../../src/api/host-keys.js'
import { createProvider } from '../../../src/api/key-provider.js'
import type { KeyServersInput } from '../../../src/api/key-servers.js'
import { openKeyServerClient, parseKeyServers } from '../../../src/key-servers/index.js'
import {
  type KmipClient,
  ObjectStore,
  REVOCATION_REASON_CODE,
  type RunningKmipServer,
  startKmipServer,
} from '../../../src/kmip/index.js'
import { createLab, type Lab } from '../../../swtpm/index.js'
import { freePort } from '../../helpers/free-port.js'
import type { TestSite } from '../../helpers/site.js'
import { inputFor } from '../key-servers/support.js'
import { TestAuthority } from '../kmip/client-certificates.js'
import { hasPykmip, PykmipServer } from '../kmip/client-pykmip.js'
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

const WORDS = 'manifest of the night train'

let lab: Lab
let site: TestSite
let authority: TestAuthority
let port: number
let server: RunningKmipServer
let input: KeyServersInput
let a: TestAgent
let b: TestAgent
let c: TestAgent

const objects = new ObjectStore(1000)

async function startServer(): Promise<void> {
  const { certificate, key } = authority.server()
  const tls = { authorities: authority.authority.certificate, certificate, privateKey: key }
  server = await startKmipServer({ host: '127.0.0.1', port, tls, objects })
}

beforeAll(async () => {
  lab = await createLab()
  authority = new TestAuthority()
  port = await freePort()
  await startServer()
  input = inputFor(authority, [port])
  site = await openKeySite(lab)
  ;[a, b, c] = [
    await startAgent(lab, site, 'a'),
    await startAgent(lab, site, 'b'),
    await startAgent(lab, site, 'c'),
  ]
  await trustAgent(site, a)
  for (const other of [b, c]) await other.socket.call(attestNow, { body: {} })
})
afterAll(async () => {
  for (const agent of [a, b, c]) await agent?.[Symbol.asyncDispose]()
  await site?.[Symbol.asyncDispose]()
  await server?.[Symbol.asyncDispose]()
  authority?.[Symbol.dispose]()
  await lab?.[Symbol.asyncDispose]()
})

const create = (name: string, keyServers = input, change: object = {}) =>
  site.admin.call(createStandardProvider, {
    body: { name, clusters: [CLUSTER], tpmRequired: false, keyServers, ...change },
  })

const keysOf = async (provider: string): Promise<readonly HostKeyView[]> =>
  (await site.admin.call(listHostKeys, { params: { provider } })).keys

const keyOfVm = async (vm: string): Promise<HostKeyView> => {
  const key = (await keysOf('depot')).find(({ use }) => use?.id === vm)
  if (!key) throw new Error(`no key of ${vm}`)
  return key
}

async function withClient<R>(work: (client: KmipClient) => Promise<R>): Promise<R> {
  using servers = parseKeyServers(input)
  await using client = openKeyServerClient(servers)
  return await work(client)
}

const attributesOf = (keyId: string) =>
  withClient(async (client) =>
    Object.fromEntries(
      (await client.getAttributes(keyId)).flatMap((attribute) =>
        attribute.kind === 'vendor'
          ? [[`${attribute.vendor}-${attribute.name}`, attribute.value.value]]
          : [],
      ),
    ),
  )

const metrics = async (): Promise<string> => {
  const dispatcher = new Agent({ connect: { ca: site.caPem } })
  try {
    const token = readFileSync(join(site.folder, 'admin.token'), 'utf8').trim()
    const answer = await request(`${site.url}/control-plane/metrics`, {
      dispatcher,
      headers: { authorization: `Bearer ${token}` },
    })
    return await answer.body.text()
  } finally {
    await dispatcher.destroy()
  }
}

const errorsOf = async (kind: string): Promise<number> =>
  Number(
    new RegExp(`control_plane_host_key_errors_total{kind="${kind}"} (\\d+)`).exec(
      await metrics(),
    )?.[1],
  )

let vmId: string

describe('a standard key provider', () => {
  test('is saved once its key servers passed a test, step by step', async () => {
    const nobody = inputFor(authority, [await freePort()])
    await expect(create('depot', nobody)).rejects.toMatchObject({ code: 'KEY_SERVERS_TEST' })
    const made = await create('depot')
    expect(made).toMatchObject({ kind: 'standard', keys: 0, keyServers: { hasPassword: false } })
    expect(JSON.stringify(made)).not.toContain('PRIVATE KEY')
    const params = { provider: 'depot' }
    const { verdict } = await site.admin.call(testStandardProvider, { params, body: {} })
    expect(verdict).toBe('passed')
  })

  test('has a key made for a VM, which reaches every host of the cluster', async () => {
    const vm = await a.makeVm('web1', 'depot', WORDS)
    vmId = vm.vmId
    const key = await keyOfVm(vmId)
    expect(key).toMatchObject({ version: 1, cluster: CLUSTER, keyId: expect.any(String) })
    for (const hostId of ['a', 'b', 'c']) {
      await untilDelivery(site, 'depot', { hostId, version: 1, state: 'confirmed' })
    }
    a.shareVm(vm, b)
    expect(await b.readVm('web1', WORDS.length)).toBe(WORDS)
    await a.makeVm('web2', 'depot', WORDS)
    expect((await keysOf('depot')).length).toBe(2)
  })

  test('tells the console of the key server what a key is for', async () => {
    const { keyId = '' } = await keyOfVm(vmId)
    const attributes = await until('attributes of use', async () => {
      const found = await attributesOf(keyId)
      return found['x-Name'] === undefined ? undefined : found
    })
    expect(attributes).toEqual({
      'x-Vendor': 'Sigillo',
      'x-Product': expect.any(String),
      'x-Product_Version': 'test',
      'x-Component': 'Virtual Machine',
      'x-Name': 'web1',
      'x-Identifier': vmId,
    })
    await c.socket.call(probeKeys, { body: { provider: 'depot', assurance: 'session' } })
    const host = (await keysOf('depot')).find(({ use }) => use?.kind === 'host')
    expect(await attributesOf(host?.keyId ?? '')).toMatchObject({
      'x-Component': 'KVM Host',
      'x-Name': 'c',
      'x-Identifier': host?.use?.id,
    })
  })

  test('keeps no key where the control plane is: not in its database, its audit, its answers', async () => {
    const { keyId = '' } = await keyOfVm(vmId)
    const octets = await withClient(async (client) => {
      using key = (await client.get(keyId)).material
      return key.use((bytes) => Buffer.from(bytes))
    })
    for (const file of ['sigillo.db', 'sigillo.db-wal']) {
      const database = readFileSync(join(site.folder, file))
      for (const form of ['latin1', 'hex', 'base64', 'base64url'] as const) {
        expect(database.includes(Buffer.from(octets.toString(form), 'latin1'))).toBe(false)
      }
    }
    const { records } = await site.admin.call(listControlPlaneAudit, {
      query: { subject: 'provider:depot', limit: 100 },
    })
    expect(records.map(({ action }) => action)).toContain('host-key.release')
    expect(JSON.stringify(records)).not.toContain(octets.toString('base64url'))
  })

  test('gives keys again to a host that was restarted, and to one that joins', async () => {
    await b.stop()
    await b.start()
    expect(await b.readVm('web1', WORDS.length)).toBe(WORDS)
    await using d = await startAgent(lab, site, 'd')
    await untilDelivery(site, 'depot', { hostId: 'd', version: 1, state: 'confirmed' })
    expect((await d.held()).providers).toMatchObject([{ name: 'depot', versions: [1, 2, 3] }])
  })
})

test('new data keys of a VM are under new keys of the key server; the old one stays there', async () => {
  const vm = await a.makeVm('books', 'depot', WORDS)
  const before = (await keysOf('depot')).length
  await a.finish(await a.socket.call(recryptVm, { params: { vm: 'books' }, body: {} }))
  const after = await keysOf('depot')
  const made = after.slice(before).map(({ use }) => use?.id)
  expect(new Set(made)).toEqual(new Set([vm.vmId]))
  expect(await a.readVm('books', WORDS.length)).toBe(WORDS)
})

describe('a key that cannot be had is an event, on the stream, and counted:', () => {
  test('it could not be added to a host, which does not answer', async () => {
    const before = await errorsOf('not-added')
    await c.stop()
    await a.makeVm('web3', 'depot', WORDS)
    const event = await untilEvent(site, 'host-key.not-added', { host: 'c', reason: 'connection' })
    expect(event).toMatchObject({
      severity: 'error',
      detail: { provider: 'depot', code: 'HOST_KEY_NOT_FETCHED', keyId: expect.any(String) },
    })
    expect(event.detail?.['vm']).toMatch(/^[0-9a-f-]{36}$/)
    expect(await errorsOf('not-added')).toBeGreaterThan(before)
    await c.start()
    await untilEvent(site, 'host-key.added', { host: 'c' })
  })

  test('the key server does not answer: what hosts hold still opens', async () => {
    await server[Symbol.asyncDispose]()
    expect(await b.readVm('web1', WORDS.length)).toBe(WORDS)
    await b.stop()
    await b.start()
    const event = await untilEvent(site, 'host-key.server-unreachable', { host: 'b', vm: vmId })
    expect(event.detail).toMatchObject({ provider: 'depot', version: 1, keyId: expect.any(String) })
    await expect(b.readVm('web1', 4)).rejects.toMatchObject({
      code: expect.stringMatching(/^KMS_/),
    })
    await expect(a.makeVm('web4', 'depot', WORDS)).rejects.toMatchObject({
      code: expect.stringMatching(/^KMS_/),
    })
    expect(await errorsOf('server-unreachable')).toBeGreaterThan(0)
    await startServer()
    // the client waits a moment before it tries a server again that failed
    site.clock.advance(90_000)
    await until('the key', async () =>
      b.readVm('web1', WORDS.length).then(
        (words) => words === WORDS,
        () => false,
      ),
    )
  })

  test('the key is missing on the server', async () => {
    const { keyId = '' } = await keyOfVm(vmId)
    await withClient(async (client) => {
      await client.revoke(keyId, { reason: REVOCATION_REASON_CODE.CessationOfOperation })
      await client.destroy(keyId)
    })
    await b.stop()
    await b.start()
    const event = await untilEvent(site, 'host-key.missing', { host: 'b', keyId })
    expect(event).toMatchObject({ severity: 'error', detail: { vm: vmId, provider: 'depot' } })
    await expect(b.readVm('web1', 4)).rejects.toMatchObject({
      code: expect.stringMatching(/^KMS_KEY_(DESTROYED|NOT_FOUND)$/),
    })
    // the others were delivered all the same
    const [depot] = (await b.held()).providers
    expect(depot).toMatchObject({ lacking: [1] })
    expect(depot?.versions.length).toBeGreaterThan(2)
    expect(await errorsOf('missing')).toBeGreaterThan(0)
    expect(await stream('host-key.missing')).toContain(keyId)
  })
})

/** What the event stream says from its beginning until it has this type. */
async function stream(type: string): Promise<string> {
  const dispatcher = new Agent({ connect: { ca: site.caPem } })
  try {
    const token = readFileSync(join(site.folder, 'admin.token'), 'utf8').trim()
    const answer = await request(`${site.url}/control-plane/v1/events/stream?after=0`, {
      dispatcher,
      headers: { authorization: `Bearer ${token}` },
    })
    let text = ''
    for await (const chunk of answer.body) {
      text += String(chunk)
      const at = text.indexOf(`event: ${type}\n`)
      if (at >= 0 && text.indexOf('\n\n', at) > 0) break
    }
    return text
  } finally {
    await dispatcher.destroy()
  }
}

test('all kinds of key providers serve the same host, each its own keys', async () => {
  const settings = {
    clusters: [CLUSTER],
    minimumAssurance: 'session' as const,
    maxTokenAgeSeconds: 300,
  }
  await site.admin.call(createProvider, { body: { name: 'trusted', kind: 'trusted', settings } })
  await a.socket.call(attestNow, { body: {} })
  for (const provider of ['trusted', 'depot']) {
    const body = { provider, assurance: 'session' as const }
    await expect(a.socket.call(probeKeys, { body })).resolves.toBeDefined()
  }
})

test.skipIf(!hasPykmip())(
  'a key server without custom attributes makes keys all the same, and that is an event',
  async () => {
    await using pykmip = await PykmipServer.start(authority)
    await create('plain', inputFor(authority, [pykmip.port]))
    await a.makeVm('web9', 'plain', WORDS)
    expect(await a.readVm('web9', WORDS.length)).toBe(WORDS)
    const event = await untilEvent(site, 'host-key.attributes-refused', { provider: 'plain' })
    expect(event).toMatchObject({ severity: 'warning' })
    const view = await site.admin.call(getHostKeyProvider, { params: { provider: 'plain' } })
    expect(view).toMatchObject({ keys: 1, vms: 1 })
  },
)
