import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import {
  createProvider,
  getProvider,
  listKeyProviderAudit,
  rewrapKeys,
  rotateProvider,
  scheduleDestruction,
  setKeyState,
  setProvider,
  unwrapKeys,
  wrapKeys,
} from '../../../src/api/key-provider.js'
import { parseUtf8, toBase64url } from '../../../src/core/bytes.js'
import { randomOctets } from '../../../src/core/random.js'
import { KEY_STATES, type KeyState } from '../../../src/key-provider/domain/key-state.js'
import { decryptSession } from '../../../src/tokens/index.js'
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
const DAY_MS = 86_400_000
const SETTINGS = { clusters: ['lab'], minimumAssurance: 'session', maxTokenAgeSeconds: 300 }
const DISK = { purpose: 'vm-disk', context: { vm: 'a', object: 'disk-root' } } as const

let fixture: Fixture
let host: TestHost
let provider: string
let providers = 0

beforeAll(async () => {
  fixture = await openFixture()
})
afterAll(() => fixture[Symbol.asyncDispose]())
beforeEach(async () => {
  providers += 1
  provider = `gold-${providers}`
  await callAsAdministrator(fixture, createProvider, BASE, {
    name: provider,
    kind: 'trusted',
    settings: SETTINGS,
  })
  await fixture.trustHost('host')
  host = await attestedHost(fixture, 'host')
})

const rotate = (body = {}) =>
  callAsAdministrator(fixture, rotateProvider, `${BASE}/${provider}/rotation`, body)
const set = (version: number, state: KeyState) =>
  callAsAdministrator(fixture, setKeyState, `${BASE}/${provider}/versions/${version}/state`, {
    state,
    reason: 'a test',
  })
const setSettings = (change: object) =>
  callAsAdministrator(fixture, setProvider, `${BASE}/${provider}`, { ...SETTINGS, ...change })
const states = async () =>
  (
    (await callAsAdministrator(fixture, getProvider, `${BASE}/${provider}`)).body['versions'] as {
      readonly state: KeyState
    }[]
  ).map(({ state }) => state)

async function wrapOne(): Promise<{ readonly dek: Uint8Array; readonly answer: Answer }> {
  const dek = randomOctets(32)
  const answer = await callAsHost(fixture, host, wrapKeys, `${BASE}/${provider}/wrap`, {
    items: [{ ...DISK, dek: toBase64url(dek) }],
  })
  return { dek, answer }
}
const itemOf = (answer: Answer) => (answer.body['items'] as Record<string, unknown>[])[0] ?? {}
const wrappedOf = (answer: Answer) => String(itemOf(answer)['wrapped'])
const versionOf = (wrapped: string): number =>
  JSON.parse(Buffer.from(wrapped.split('.')[1] ?? '', 'base64url').toString()).version

async function opened(wrapped: string): Promise<string> {
  const answer = await callAsHost(fixture, host, unwrapKeys, `${BASE}/${provider}/unwrap`, {
    assurance: 'session',
    items: [{ ...DISK, wrapped }],
  })
  const item = itemOf(answer)
  if (item['ok'] !== true) return String(item['code'])
  const text = parseUtf8(
    await decryptSession(String(answer.body['sealed']), host.keys.session.privateKey),
  )
  return JSON.parse(text).keys[0].dek
}

const rewrap = (wrapped: string) =>
  callAsHost(fixture, host, rewrapKeys, `${BASE}/${provider}/rewrap`, {
    items: [{ ...DISK, wrapped }],
  })

describe('the states of a primary key', () => {
  const allowed: Readonly<Record<KeyState, readonly KeyState[]>> = {
    'pre-active': ['active', 'compromised'],
    active: ['deactivated', 'compromised'],
    deactivated: ['compromised'],
    compromised: [],
    // Nothing leads to it at once, and nothing away from it.
    destroyed: [],
  }
  const reach: Readonly<Record<KeyState, () => Promise<unknown>>> = {
    'pre-active': () => rotate({ preActive: true }),
    active: () => rotate(),
    deactivated: async () => {
      await rotate()
      await set(2, 'deactivated')
    },
    compromised: async () => {
      await rotate()
      await set(2, 'compromised')
    },
    destroyed: async () => {
      await rotate({ preActive: true })
      const path = `${BASE}/${provider}/versions/2/destruction`
      const body = { afterDays: 1, reason: 'a test' }
      await callAsAdministrator(fixture, scheduleDestruction, path, body)
      fixture.clock.advance(DAY_MS)
      await fixture.tick()
    },
  }

  test.each(KEY_STATES.flatMap((from) => KEY_STATES.map((to) => [from, to] as const)))(
    'lead from %s to %s only where SP 800-57 has it',
    async (from, to) => {
      await reach[from]()
      expect((await states())[1]).toBe(from)
      const answer = await set(2, to)
      const isAllowed = allowed[from].includes(to)
      expect(answer.status).toBe(isAllowed ? 200 : 409)
      if (!isAllowed) expect(answer.body['code']).toBe('KEY_STATE')
      expect((await states())[1]).toBe(isAllowed ? to : from)
    },
  )

  test('are set with a reason that the audit has', async () => {
    await set(1, 'compromised')
    const { body } = await callAsAdministrator(
      fixture,
      listKeyProviderAudit,
      `/key-provider/v1/audit?limit=1000&subject=provider:${provider}`,
    )
    expect((body['records'] as object[]).at(-1)).toMatchObject({
      action: 'provider.key-state',
      detail: { version: 1, before: 'active', state: 'compromised', reason: 'a test' },
    })
  })

  test('are of a version that there is', async () => {
    expect((await set(9, 'compromised')).body['code']).toBe('KEY_VERSION_UNKNOWN')
  })
})

describe('a version', () => {
  test('that is pre-active is not used before it is activated, and takes the place of the one before', async () => {
    await rotate({ preActive: true })
    expect(await states()).toEqual(['active', 'pre-active'])
    expect(versionOf(wrappedOf((await wrapOne()).answer))).toBe(1)
    await set(2, 'active')
    expect(await states()).toEqual(['deactivated', 'active'])
    expect(versionOf(wrappedOf((await wrapOne()).answer))).toBe(2)
  })

  test('that is compromised neither wraps nor unwraps', async () => {
    const { answer } = await wrapOne()
    await set(1, 'compromised')
    expect(itemOf((await wrapOne()).answer)).toMatchObject({ ok: false, code: 'KEY_STATE' })
    expect(await opened(wrappedOf(answer))).toBe('KEY_STATE')
  })

  test('that is compromised unwraps where the provider says so, for its keys to be wrapped anew', async () => {
    const { dek, answer } = await wrapOne()
    await rotate()
    await set(1, 'compromised')
    expect(itemOf(await rewrap(wrappedOf(answer)))).toMatchObject({ code: 'KEY_STATE' })
    await setSettings({ unwrapCompromised: true })
    const wrapped = wrappedOf(await rewrap(wrappedOf(answer)))
    expect(versionOf(wrapped)).toBe(2)
    await setSettings({})
    expect(await opened(wrapped)).toBe(toBase64url(dek))
    expect(await opened(wrappedOf(answer))).toBe('KEY_STATE')
  })
})

describe('keys that are wrapped anew', () => {
  test('are the same keys under the active version, and are not in the answer', async () => {
    const { dek, answer } = await wrapOne()
    await rotate()
    const again = await rewrap(wrappedOf(answer))
    expect(again.body).toEqual({ items: [{ ok: true, wrapped: expect.any(String) }] })
    expect(versionOf(wrappedOf(again))).toBe(2)
    expect(await opened(wrappedOf(again))).toBe(toBase64url(dek))
    expect(JSON.stringify(again.body)).not.toContain(toBase64url(dek))
  })

  test('each have a result of their own', async () => {
    const { answer } = await wrapOne()
    const wrapped = wrappedOf(answer)
    const spoiled = `${wrapped.slice(0, -2)}${wrapped.endsWith('AA') ? 'BB' : 'AA'}`
    const answers = await callAsHost(fixture, host, rewrapKeys, `${BASE}/${provider}/rewrap`, {
      items: [
        { ...DISK, wrapped: spoiled },
        { ...DISK, wrapped },
        { ...DISK, context: { vm: 'b' }, wrapped },
      ],
    })
    const items = answers.body['items'] as { readonly ok: boolean }[]
    expect(items.map(({ ok }) => ok)).toEqual([false, true, false])
  })

  test('are refused to a host that is not trusted any more', async () => {
    const { answer } = await wrapOne()
    await fixture.trustHost('host', { state: 'revoked', newEpoch: true })
    expect((await rewrap(wrappedOf(answer))).body['code']).toBe('KEY_HOST_STATUS')
    await fixture.trustHost('host')
  })
})

describe('rotation on schedule', () => {
  test('makes a new version when the active one is old enough, and not before', async () => {
    await setSettings({ rotateEveryDays: 30 })
    fixture.clock.advance(29 * DAY_MS)
    await fixture.tick()
    expect(await states()).toEqual(['active'])
    fixture.clock.advance(DAY_MS)
    await fixture.tick()
    expect(await states()).toEqual(['deactivated', 'active'])
    await fixture.tick()
    expect(await states()).toHaveLength(2)
  })

  test('is not done where nobody wants it, nor for a provider without an active version', async () => {
    fixture.clock.advance(4000 * DAY_MS)
    await fixture.tick()
    expect(await states()).toEqual(['active'])
    await setSettings({ rotateEveryDays: 1 })
    await set(1, 'compromised')
    fixture.clock.advance(5 * DAY_MS)
    await fixture.tick()
    expect(await states()).toEqual(['compromised'])
  })
})

test('a state that there is not is refused with those that there are', async () => {
  const answer = await set(1, 'trusted' as KeyState)
  expect(answer.status).toBe(400)
  expect(String(answer.body['detail'])).toContain(
    'must be pre-active or active or deactivated or compromised',
  )
})
