import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import {
  createProvider,
  generateKeys,
  getProvider,
  listKeyProviderAudit,
  rewrapKeys,
  rotateProvider,
  scheduleDestruction,
  setKeyServers,
  setKeyState,
  testProvider,
  unwrapKeys,
  wrapKeys,
} from '../../../src/api/key-provider.js'
import type { KeyServersInput } from '../../../src/api/key-servers.js'
import { parseUtf8, toBase64url } from '../../../src/core/bytes.js'
import { randomOctets } from '../../../src/core/random.js'
import {
  type KeyPlace,
  openKeyServerClient,
  parseKeyServers,
} from '../../../src/key-servers/index.js'
import { type KmipClient, REVOCATION_REASON_CODE } from '../../../src/kmip/index.js'
import { decryptSession } from '../../../src/tokens/index.js'
import { freePort } from '../../helpers/free-port.js'
import { inputFor } from '../key-servers/support.js'
import { TestAuthority } from '../kmip/client-certificates.js'
import { hasPykmip, PykmipServer } from '../kmip/client-pykmip.js'
import {
  type Answer,
  attestedHost,
  callAsAdministrator,
  callAsHost,
  type Fixture,
  openFixture,
  type TestHost,
} from './fixture.js'

const BASE = '/key-provider/v1/providers'
const SETTINGS = { clusters: ['lab'], minimumAssurance: 'session', maxTokenAgeSeconds: 300 }
const DISK = { purpose: 'vm-disk', context: { vm: 'a', object: 'disk-root' } } as const

describe.skipIf(!hasPykmip())('a provider with its primary key in a key server', () => {
  let authority: TestAuthority
  let server: PykmipServer
  let fixture: Fixture
  let host: TestHost
  let provider: string
  let input: KeyServersInput
  let providers = 0

  beforeAll(async () => {
    authority = new TestAuthority()
    server = await PykmipServer.start(authority)
    // Certificates of key servers are judged by the same clock.
    fixture = await openFixture(Date.now() + 60_000)
    input = inputFor(authority, [server.port])
  })
  afterAll(async () => {
    await fixture[Symbol.asyncDispose]()
    await server[Symbol.asyncDispose]()
    authority[Symbol.dispose]()
  })
  beforeEach(async () => {
    providers += 1
    provider = `vault-${providers}`
    await fixture.trustHost('host')
    host = await attestedHost(fixture, 'host')
  })

  const administrate = (
    operation: Parameters<typeof callAsAdministrator>[1],
    path: string,
    body?: unknown,
  ) => callAsAdministrator(fixture, operation, `${BASE}/${provider}${path}`, body)
  const create = (place: KeyPlace, keyServers = input) =>
    callAsAdministrator(fixture, createProvider, BASE, {
      name: provider,
      kind: 'trusted',
      settings: SETTINGS,
      backend: { kind: 'kmip', place, keyServers },
    })
  const asHost = (operation: Parameters<typeof callAsHost>[2], path: string, body: unknown) =>
    callAsHost(fixture, host, operation, `${BASE}/${provider}/${path}`, body)
  const wrap = (deks: readonly Uint8Array[]) =>
    asHost(wrapKeys, 'wrap', { items: deks.map((dek) => ({ ...DISK, dek: toBase64url(dek) })) })
  const unwrap = (wrapped: readonly string[]) =>
    asHost(unwrapKeys, 'unwrap', {
      assurance: 'session',
      items: wrapped.map((one) => ({ ...DISK, wrapped: one })),
    })
  const itemsOf = (answer: Answer) => answer.body['items'] as Record<string, string>[]
  const wrappedOf = (answer: Answer) => itemsOf(answer).map(({ wrapped }) => String(wrapped))
  const codesOf = (answer: Answer) => itemsOf(answer).map(({ ok, code }) => (ok ? 'ok' : code))
  async function keysIn(answer: Answer): Promise<readonly string[]> {
    const sealed = String(answer.body['sealed'])
    const plaintext = await decryptSession(sealed, host.keys.session.privateKey)
    return JSON.parse(parseUtf8(plaintext)).keys.map(({ dek }: { dek: string }) => dek)
  }
  const headerOf = (wrapped: string) =>
    JSON.parse(Buffer.from(wrapped.split('.')[1] ?? '', 'base64url').toString())
  async function withClient<R>(work: (client: KmipClient) => Promise<R>): Promise<R> {
    using servers = parseKeyServers(input)
    await using client = openKeyServerClient(servers)
    return await work(client)
  }
  /** Keys of all providers of this test file. */
  const keysThere = () => withClient((client) => client.locate({ attributes: [] }))
  const lastAudit = async () => {
    const { body } = await callAsAdministrator(
      fixture,
      listKeyProviderAudit,
      `/key-provider/v1/audit?limit=1000&subject=provider:${provider}`,
    )
    return (body['records'] as Record<string, unknown>[]).at(-1)
  }

  test.each(['fetched', 'kept'] as const)(
    'makes, wraps, unwraps and rewraps keys over versions: %s',
    async (place) => {
      const made = await create(place)
      expect(made.status).toBe(201)
      expect(made.body['backend']).toMatchObject({ kind: 'kmip', place })
      expect(JSON.stringify(made.body)).not.toContain('PRIVATE KEY')

      const deks = [randomOctets(32), randomOctets(32), randomOctets(32)]
      const first = wrappedOf(await wrap(deks))
      const generated = await asHost(generateKeys, 'generate', {
        assurance: 'session',
        items: [DISK],
      })
      const all = [...first, ...wrappedOf(generated)]
      const keys = [...deks.map(toBase64url), ...(await keysIn(generated))]
      expect(await keysIn(await unwrap(all))).toEqual(keys)

      expect((await administrate(rotateProvider, '/rotation', {})).status).toBe(201)
      const items = all.map((wrapped) => ({ ...DISK, wrapped }))
      const anew = await asHost(rewrapKeys, 'rewrap', { items })
      expect(wrappedOf(anew).map((one) => headerOf(one).version)).toEqual([2, 2, 2, 2])
      expect(await keysIn(await unwrap(wrappedOf(anew)))).toEqual(keys)
      expect(await keysIn(await unwrap(all))).toEqual(keys)
    },
  )

  test('a key that is kept never comes here: a batch has one key that the server encrypted', async () => {
    await create('kept')
    const wrapped = wrappedOf(await wrap([randomOctets(32), randomOctets(32)]))
    const [a, b] = wrapped.map(headerOf)
    expect(a.alg).toBe('KMIP-A256GCM+HKDF-SHA256+A256GCM')
    expect(a.kek).toBe(b.kek)
    const [other] = wrappedOf(await wrap([randomOctets(32)])).map(headerOf)
    expect(other.kek).not.toBe(a.kek)
  })

  test('a kept key that was changed on its way opens nothing, and the other items open', async () => {
    await create('kept')
    const [wrapped = ''] = wrappedOf(await wrap([randomOctets(32)]))
    const [prefix, header = '', body] = wrapped.split('.')
    const text = Buffer.from(header, 'base64url').toString()
    const { kek } = JSON.parse(text)
    const octets = Buffer.from(kek, 'base64url')
    octets[20] = (octets[20] ?? 0) ^ 1
    const changed = text.replace(kek, octets.toString('base64url'))
    const forged = `${prefix}.${Buffer.from(changed).toString('base64url')}.${body}`
    expect(codesOf(await unwrap([forged, wrapped]))).toEqual(['KEY_ENVELOPE_AUTHENTICATION', 'ok'])
    const plain = text.replace(`"kek":"${kek}",`, '').replace('KMIP-A256GCM+', '')
    const without = `${prefix}.${Buffer.from(plain).toString('base64url')}.${body}`
    expect(codesOf(await unwrap([without]))).toEqual(['KEY_ENVELOPE_AUTHENTICATION'])
  })

  test('the attributes that the server refuses are in the audit, and in our own record', async () => {
    const made = await create('fetched')
    expect(await lastAudit()).toMatchObject({
      action: 'provider.create',
      detail: {
        refusedAttributes: [
          'x-Vendor',
          'x-Product',
          'x-Product_Version',
          'x-Component',
          'x-Name',
          'x-Identifier',
        ],
      },
    })
    const [version] = made.body['versions'] as Record<string, unknown>[]
    expect(version?.['attributes']).toEqual({
      'x-Vendor': 'Sigillo',
      'x-Product': 'Sigillo Trust Authority',
      'x-Product_Version': '1.2.3',
      'x-Component': 'Key Provider',
      'x-Name': provider,
      'x-Identifier': made.body['providerId'],
    })
  })

  test('a version made ahead is named for its use when it comes into use', async () => {
    await create('fetched')
    const ahead = await administrate(rotateProvider, '/rotation', { preActive: true })
    const attributesOf = (answer: Answer) =>
      (answer.body['versions'] as Record<string, Record<string, string>>[])[1]?.['attributes']
    expect(attributesOf(ahead)?.['x-Component']).toBeUndefined()
    const active = await administrate(setKeyState, '/versions/2/state', {
      state: 'active',
      reason: 'planned',
    })
    expect(attributesOf(active)).toMatchObject({ 'x-Name': provider })
    expect(wrappedOf(await wrap([randomOctets(32)])).map((one) => headerOf(one).version)).toEqual([
      2,
    ])
  })

  test('key servers that fail their test make no provider and leave no key there', async () => {
    const before = await keysThere()
    const closed = { ...input, servers: [{ host: 'localhost', port: await freePort() }] }
    const refused = await create('fetched', closed)
    expect(refused).toMatchObject({ status: 409, body: { code: 'KEY_SERVERS_TEST' } })
    expect((await administrate(getProvider, '')).status).toBe(404)
    const { key } = authority.client()
    const foreign = await create('fetched', { ...input, privateKey: key })
    expect(foreign).toMatchObject({ status: 400, body: { code: 'KEY_SERVERS' } })
    expect(await keysThere()).toEqual(before)
  })

  test('a name that is taken leaves no key there', async () => {
    await create('fetched')
    const before = await keysThere()
    expect((await create('fetched')).body['code']).toBe('CONFLICT')
    expect(await keysThere()).toEqual(before)
  })

  test('a test on demand says what it found', async () => {
    await create('kept')
    const { status, body } = await administrate(testProvider, '/test', {})
    expect(status).toBe(200)
    expect(body['verdict']).toBe('passed')
    expect(await lastAudit()).toMatchObject({
      action: 'provider.test',
      detail: { verdict: 'passed' },
    })
  })

  test('key servers change only to ones that have every key; what is left out is kept', async () => {
    await create('fetched')
    const [wrapped = ''] = wrappedOf(await wrap([randomOctets(32)]))
    const { privateKey: _, ...withoutKey } = input
    const again = await administrate(setKeyServers, '/key-servers', {
      keyServers: { ...withoutKey, servers: [{ host: '127.0.0.1', port: server.port }] },
    })
    expect(again.status).toBe(200)
    expect(codesOf(await unwrap([wrapped]))).toEqual(['ok'])

    await using empty = await PykmipServer.start(authority)
    const elsewhere = { ...withoutKey, servers: [{ host: 'localhost', port: empty.port }] }
    const refused = await administrate(setKeyServers, '/key-servers', {
      keyServers: elsewhere,
      force: true,
    })
    expect(refused).toMatchObject({ status: 409, body: { code: 'KEY_SERVERS_TEST' } })
    expect(codesOf(await unwrap([wrapped]))).toEqual(['ok'])
  })

  test('a key that the server lost fails what needs it, with its own code, and nothing else', async () => {
    await create('kept')
    const before = await keysThere()
    await administrate(rotateProvider, '/rotation', {})
    const [second = ''] = (await keysThere()).filter((id) => !before.includes(id))
    const [wrapped = ''] = wrappedOf(await wrap([randomOctets(32)]))
    await administrate(rotateProvider, '/rotation', {})
    const [kept = ''] = wrappedOf(await wrap([randomOctets(32)]))
    await withClient(async (client) => {
      await client.revoke(second, { reason: REVOCATION_REASON_CODE.CessationOfOperation })
      await client.destroy(second)
    })
    expect(codesOf(await unwrap([wrapped, kept]))).toEqual(['KMS_KEY_NOT_FOUND', 'ok'])
    expect(await lastAudit()).toMatchObject({
      action: 'keys.unwrap',
      detail: { items: ['KMS_KEY_NOT_FOUND', 'ok'] },
    })
  })

  test('a key server that is down is a clear 503 with an audit record, and all is there when it is back', async () => {
    const port = await freePort()
    const first = await PykmipServer.start(authority, { port })
    const before = { ...input, servers: [{ host: 'localhost', port }] }
    await create('kept', before)
    const dek = randomOctets(32)
    const [wrapped = ''] = wrappedOf(await wrap([dek]))
    await first.stop()
    const down = await unwrap([wrapped])
    expect(down).toMatchObject({ status: 503, body: { code: 'KMS_UNREACHABLE' } })
    expect(await lastAudit()).toMatchObject({
      action: 'keys.unwrap',
      outcome: 'refused',
      detail: { code: 'KMS_UNREACHABLE' },
    })
    const forced = { keyServers: before, force: true }
    const unforced = { keyServers: before }
    expect((await administrate(setKeyServers, '/key-servers', unforced)).status).toBe(409)
    expect((await administrate(setKeyServers, '/key-servers', forced)).status).toBe(200)
    await first.restart()
    fixture.clock.advance(61_000)
    host = await attestedHost(fixture, 'host')
    expect(await keysIn(await unwrap([wrapped]))).toEqual([toBase64url(dek)])
    await first[Symbol.asyncDispose]()
  })

  test('a host that would not be served has no key server asked', async () => {
    await create('kept')
    const [wrapped = ''] = wrappedOf(await wrap([randomOctets(32)]))
    const other = await attestedHost(fixture, 'host', (claims) => ({
      ...claims,
      sigillo: { ...claims.sigillo, cluster: 'elsewhere' },
    }))
    const answer = await callAsHost(fixture, other, unwrapKeys, `${BASE}/${provider}/unwrap`, {
      assurance: 'session',
      items: [{ ...DISK, wrapped }],
    })
    expect(answer).toMatchObject({ status: 403, body: { code: 'KEY_CLUSTER' } })
  })

  test('a version that is destroyed is destroyed in the key server, as soon as that can be reached', async () => {
    const port = await freePort()
    await using own = await PykmipServer.start(authority, { port })
    const servers = { ...input, servers: [{ host: 'localhost', port }] }
    const there = async () => {
      using opened = parseKeyServers(servers)
      await using client = openKeyServerClient(opened)
      return (await client.locate({ attributes: [] })).length
    }
    await create('kept', servers)
    await administrate(rotateProvider, '/rotation', {})
    expect(await there()).toBe(2)
    const reason = { afterDays: 1, reason: 'a test' }
    await administrate(scheduleDestruction, '/versions/1/destruction', reason)
    await own.stop()
    fixture.clock.advance(86_400_000)
    await fixture.tick()
    expect(await lastAudit()).toMatchObject({
      action: 'provider.erase',
      outcome: 'refused',
      detail: { version: 1, code: 'KMS_UNREACHABLE' },
    })
    await own.restart()
    fixture.clock.advance(300_000)
    await fixture.tick()
    expect(await lastAudit()).toMatchObject({ action: 'provider.erase', outcome: 'done' })
    expect(await there()).toBe(1)
  })
})
