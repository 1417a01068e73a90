import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import {
  createProvider,
  explainRelease,
  setKeyState,
  setProvider,
  wrapKeys,
} from '../../../src/api/key-provider.js'
import { toBase64url } from '../../../src/core/bytes.js'
import { randomOctets } from '../../../src/core/random.js'
import {
  type Answer,
  attestedHost,
  callAsAdministrator,
  callAsHost,
  type Fixture,
  openFixture,
} from './fixture.js'

const BASE = '/key-provider/v1/providers'
const SETTINGS = { clusters: ['lab'], minimumAssurance: 'session', maxTokenAgeSeconds: 300 }

let fixture: Fixture
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
})

const settings = (change: object) =>
  callAsAdministrator(fixture, setProvider, `${BASE}/${provider}`, { ...SETTINGS, ...change })
const explain = (hostId = 'host') =>
  callAsAdministrator(fixture, explainRelease, `${BASE}/${provider}/explanation?hostId=${hostId}`)

async function wrap(purpose = 'vm-disk'): Promise<Answer> {
  const host = await attestedHost(fixture, 'host')
  return callAsHost(fixture, host, wrapKeys, `${BASE}/${provider}/wrap`, {
    items: [{ purpose, context: { vm: 'a' }, dek: toBase64url(randomOctets(32)) }],
  })
}
const codeOf = ({ status, body }: Answer): unknown => {
  if (status !== 200) return body['code']
  const [item] = body['items'] as { readonly ok: boolean; readonly code?: string }[]
  return item?.ok ? 'ok' : item?.code
}

/** Brings the clock to a moment of the week that begins on Monday 2027-01-18. */
function at(day: number, time: string): void {
  const [hour = 0, minute = 0] = time.split(':').map(Number)
  const wanted = Date.UTC(2027, 0, 17 + day, hour, minute)
  expect(new Date(wanted).getUTCDay()).toBe(day % 7)
  fixture.clock.advance(wanted - fixture.clock.nowMs())
}

describe('a provider serves', () => {
  test('the purposes that its settings have, item by item', async () => {
    await settings({ purposes: ['vtpm-state', 'vm-home'] })
    expect(codeOf(await wrap('vtpm-state'))).toBe('ok')
    expect(codeOf(await wrap('vm-disk'))).toBe('KEY_PURPOSE')
    await settings({})
    expect(codeOf(await wrap('vm-disk'))).toBe('ok')
  })

  test.each<[string, object, number, string, boolean]>([
    ['within its hours', { from: '06:00', to: '22:00' }, 1, '06:00', true],
    ['not at their end', { from: '06:00', to: '22:00' }, 1, '22:00', false],
    ['not before them', { from: '06:00', to: '22:00' }, 1, '05:59', false],
    ['over midnight, before it', { from: '22:00', to: '06:00' }, 1, '23:30', true],
    ['over midnight, after it', { from: '22:00', to: '06:00' }, 2, '05:59', true],
    ['not between', { from: '22:00', to: '06:00' }, 2, '06:00', false],
    ['on its days', { from: '06:00', to: '22:00', days: [1, 2] }, 2, '12:00', true],
    ['not on others', { from: '06:00', to: '22:00', days: [1, 2] }, 3, '12:00', false],
    ['on Sunday', { from: '06:00', to: '22:00', days: [7] }, 7, '12:00', true],
    ['on the morning after its day', { from: '22:00', to: '06:00', days: [7] }, 8, '05:00', true],
    ['not on the morning of it', { from: '22:00', to: '06:00', days: [7] }, 7, '05:00', false],
    ['the whole day', { from: '00:00', to: '00:00' }, 4, '17:17', true],
  ])('%s', async (_, hours, day, time, served) => {
    await settings({ hours })
    at(day, time)
    expect(codeOf(await wrap())).toBe(served ? 'ok' : 'KEY_HOURS')
    const { explanations } = (await explain()).body as {
      readonly explanations: readonly { readonly serves: boolean }[]
    }
    expect(explanations).toMatchObject([{ serves: served }])
  })

  test.each([
    ['an hour that there is not', { hours: { from: '24:00', to: '06:00' } }],
    ['a day that there is not', { hours: { from: '01:00', to: '06:00', days: [0] } }],
    ['no purpose at all', { purposes: [] }],
    ['a purpose that there is not', { purposes: ['everything'] }],
    ['a setting that nobody knows', { more: true }],
  ])('nobody with settings of %s', async (_, change) => {
    expect(await settings(change)).toMatchObject({
      status: 400,
      body: { code: 'REQUEST_INVALID' },
    })
  })
})

describe('an explanation', () => {
  test('has every rule with what was expected and found', async () => {
    await settings({ clusters: ['other'] })
    await fixture.trustHost('host', { state: 'refused' })
    await callAsAdministrator(fixture, setKeyState, `${BASE}/${provider}/versions/1/state`, {
      state: 'compromised',
      reason: 'a test',
    })
    const { body } = await explain()
    expect(body).toMatchObject({
      explanations: [
        {
          serves: false,
          findings: [
            { check: 'release.status', ok: false, code: 'KEY_HOST_STATUS' },
            { check: 'release.cluster', ok: false, code: 'KEY_CLUSTER' },
            { check: 'release.hours', ok: true },
            { check: 'release.key', ok: false, code: 'KEY_STATE' },
            { check: 'release.token-age', ok: true },
            { check: 'release.assurance', ok: true },
            { check: 'release.purpose', ok: true },
          ],
        },
      ],
    })
    await fixture.trustHost('host')
  })

  test('of a host that nobody knows is refused', async () => {
    expect(await explain('nobody')).toMatchObject({ status: 404, body: { code: 'NOT_FOUND' } })
  })
})
