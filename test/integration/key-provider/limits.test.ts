import { afterEach, beforeEach, expect, test } from 'vitest'
import { createProvider, generateKeys, unwrapKeys } from '../../../src/api/key-provider.js'
import type { FoundationTables } from '../../../src/store/index.js'
import { createDpopProof } from '../../../src/tokens/index.js'
import {
  attestedHost,
  callAsAdministrator,
  callAsHost,
  type Fixture,
  NOW_MS,
  openFixture,
  type TestHost,
  URL_OF_AUTHORITY,
} from './fixture.js'

const PER_MINUTE = 3
const BASE = '/key-provider/v1/providers'
const GENERATE = `${BASE}/gold/generate`
const DISK = { purpose: 'vm-disk', context: { vm: 'a', object: 'disk-root' } } as const
const ONE_KEY = { assurance: 'session', items: [DISK] }

let fixture: Fixture
let host: TestHost

beforeEach(async () => {
  fixture = await openFixture(NOW_MS, undefined, PER_MINUTE)
  await callAsAdministrator(fixture, createProvider, BASE, {
    name: 'gold',
    kind: 'trusted',
    settings: { clusters: ['lab'], minimumAssurance: 'session', maxTokenAgeSeconds: 300 },
  })
  host = await hostNamed('host-of-metrics')
})
afterEach(() => fixture[Symbol.asyncDispose]())

async function hostNamed(hostId: string): Promise<TestHost> {
  await fixture.trustHost(hostId)
  return attestedHost(fixture, hostId)
}
const generate = (as = host, headers = {}) =>
  callAsHost(fixture, as, generateKeys, GENERATE, ONE_KEY, headers)

test('a host that asks too often is told when to come back, and other hosts are served', async () => {
  for (let count = 0; count < PER_MINUTE; count += 1) expect((await generate()).status).toBe(200)
  expect(await generate()).toMatchObject({ status: 429, body: { code: 'RATE_LIMITED' } })
  expect((await generate(await hostNamed('another'))).status).toBe(200)

  const proof = await createDpopProof({
    ...{ key: host.keys.dpop, method: 'POST', url: URL_OF_AUTHORITY + GENERATE },
    accessToken: host.token,
    nowSeconds: Math.floor(fixture.clock.nowMs() / 1000),
  })
  const refused = await fixture.app.inject({
    ...{ method: 'POST', url: GENERATE, payload: ONE_KEY },
    headers: { authorization: `DPoP ${host.token}`, dpop: proof },
  })
  const seconds = Number(refused.headers['retry-after'])
  expect(seconds).toBe(60 / PER_MINUTE)
  fixture.clock.advance(seconds * 1000)
  expect((await generate()).status).toBe(200)
  expect((await generate()).status).toBe(429)
})

test('no answer with keys is kept for a host that sends an idempotency key', async () => {
  const headers = { 'idempotency-key': 'generate-once' }
  const [one, other] = [await generate(host, headers), await generate(host, headers)]
  expect(one.body['items']).not.toEqual(other.body['items'])
  const kept = await fixture.store
    .tables<FoundationTables>()
    .selectFrom('idempotent_answers')
    .selectAll()
    .execute()
  expect(kept).toEqual([])
})

test('figures tell operations, items, codes and times, and name nobody', async () => {
  await generate()
  const wrapped = 'sgl1.AA.AA'
  await callAsHost(fixture, host, unwrapKeys, `${BASE}/gold/unwrap`, {
    assurance: 'session',
    items: [{ ...DISK, wrapped }],
  })
  await callAsHost(fixture, host, generateKeys, `${BASE}/none/generate`, ONE_KEY)
  const text = await fixture.registry.metrics()
  expect(text).toContain('key_provider_requests_total{operation="generate",code="ok"} 1')
  expect(text).toContain('key_provider_requests_total{operation="generate",code="NOT_FOUND"} 1')
  expect(text).toContain('key_provider_items_total{operation="generate",code="ok"} 1')
  expect(text).toContain(
    'key_provider_items_total{operation="unwrap",code="KEY_ENVELOPE_MALFORMED"} 1',
  )
  expect(text).toContain('key_provider_operation_seconds_count{operation="unwrap"} 1')
  for (const name of ['gold', 'host-of-metrics', 'disk-root']) expect(text).not.toContain(name)
})
