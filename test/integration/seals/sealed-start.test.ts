import { Validator } from '@seriousme/openapi-schema-validator'
import Database from 'better-sqlite3'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createProvider, listProviders } from '../../../src/api/key-provider.js'
import { openSealSite, operationsOf, type SealSite, trustedProvider } from './support.js'

const SERVICE = 'key-provider'
const { status, unseal, seal, rotateRoot, addSeal, removeSeal } = operationsOf(SERVICE)
const PROVIDER = trustedProvider('primary')

let site: SealSite
beforeAll(async () => {
  site = await openSealSite([SERVICE])
  await site.admin.call(createProvider, PROVIDER)
})
afterAll(() => site[Symbol.asyncDispose]())

const providers = async () =>
  (await site.admin.call(listProviders, {})).providers.map(({ name }) => name)
const SEALED = { code: 'SEALED', status: 503 }

describe('an authority whose passphrase is not on the machine', () => {
  beforeAll(async () => {
    await site.stop()
    site.hidePassphrase(true)
    await site.start()
  })

  test('starts sealed, and says so and why', async () => {
    expect(await site.health('/health')).toEqual([503, { status: 'sealed' }])
    expect(await site.health(`/${SERVICE}/health`)).toEqual([503, { status: 'sealed' }])
    expect(await site.admin.call(status, {})).toMatchObject({
      state: 'sealed',
      generation: 1,
      seals: [{ kind: 'passphrase' }],
      reason: { code: 'CONFIG_UNREADABLE' },
      nextTryAt: expect.any(String),
    })
  })

  test('answers nothing else, known caller or not, route or not', async () => {
    await expect(site.admin.call(listProviders, {})).rejects.toMatchObject(SEALED)
    await expect(site.admin.call(createProvider, PROVIDER)).rejects.toMatchObject(SEALED)
    expect(await site.get(`/${SERVICE}/v1/openapi.json`)).toMatchObject([503, { code: 'SEALED' }])
    expect(await site.get(`/${SERVICE}/metrics`)).toMatchObject([503, { code: 'SEALED' }])
    expect(await site.get(`/${SERVICE}/nothing`)).toMatchObject([503, { code: 'SEALED' }])
  })

  test('takes a passphrase from administrators of the service alone', async () => {
    const { auditor } = site
    const body = { passphrase: site.passphrase }
    await expect(auditor.call(unseal, { body })).rejects.toMatchObject({ code: 'FORBIDDEN' })
    expect(await site.audit(SERVICE)).toContainEqual(
      expect.objectContaining({
        actor: 'operator:auditor',
        action: 'caller.authorize',
        outcome: 'refused',
        detail: expect.objectContaining({ code: 'FORBIDDEN' }),
      }),
    )
    expect(await auditor.call(status, {})).toMatchObject({ state: 'sealed' })
    expect(await site.get(`/operator/v1/${SERVICE}/seal`)).toMatchObject([
      401,
      { code: 'UNAUTHENTICATED' },
    ])
    await expect(site.admin.call(operationsOf('attestation').status, {})).rejects.toMatchObject({
      code: 'NOT_FOUND',
    })
  })

  test('refuses a wrong passphrase, and makes who guesses wait longer each time', async () => {
    const guess = (passphrase: string) => site.admin.call(unseal, { body: { passphrase } })
    await expect(guess('a wrong passphrase')).rejects.toMatchObject({ code: 'ROOT_KEY_UNSEAL' })
    await expect(guess(site.passphrase)).rejects.toMatchObject({ code: 'ROOT_KEY_BACKOFF' })
    site.clock.advance(1_100)
    await expect(guess('a wrong passphrase')).rejects.toMatchObject({ code: 'ROOT_KEY_UNSEAL' })
    site.clock.advance(1_100)
    await expect(guess(site.passphrase)).rejects.toMatchObject({ code: 'ROOT_KEY_BACKOFF' })
    site.clock.advance(1_100)
  })

  test('opens by the right one, and has everything that it had', async () => {
    const body = { passphrase: site.passphrase }
    expect(await site.admin.call(unseal, { body })).toMatchObject({ state: 'ok' })
    expect(await providers()).toEqual(['primary'])
    expect(await site.health('/health')).toEqual([200, { status: 'ok' }])
  })

  test('recorded every attempt', async () => {
    const records = (await site.audit(SERVICE)).filter(({ action }) => action === 'root-key.unseal')
    expect(records.map(({ actor, outcome, detail }) => [actor, outcome, detail['code']])).toEqual([
      ['service', 'done', undefined],
      ['service', 'refused', 'CONFIG_UNREADABLE'],
      ['operator:admin', 'refused', 'ROOT_KEY_UNSEAL'],
      ['operator:admin', 'refused', 'ROOT_KEY_UNSEAL'],
      ['operator:admin', 'done', undefined],
    ])
  })
})

describe('an operator', () => {
  test('seals a service, which then answers nothing until it is unsealed', async () => {
    expect(await site.admin.call(seal, { body: {} })).toMatchObject({ state: 'sealed' })
    await expect(site.admin.call(listProviders, {})).rejects.toMatchObject(SEALED)
    const refused = { code: 'SEALED' }
    await expect(site.admin.call(rotateRoot, { body: {} })).rejects.toMatchObject(refused)
    await expect(site.admin.call(addSeal, { body: { kind: 'shares' } })).rejects.toMatchObject(
      refused,
    )
    site.hidePassphrase(false)
    expect(await site.admin.call(unseal, { body: {} })).toMatchObject({ state: 'ok' })
    expect(await providers()).toEqual(['primary'])
  })

  test('replaces the root key: all that was sealed opens after a restart, the old seals are gone', async () => {
    const before = await site.admin.call(status, {})
    const rotated = await site.admin.call(rotateRoot, { body: {} })
    expect(rotated).toMatchObject({ status: { state: 'ok', generation: 2 } })
    expect(rotated.resealed).toBeGreaterThanOrEqual(1)
    expect(rotated.status.seals.map(({ sealId }) => sealId)).not.toContain(before.seals[0]?.sealId)
    await site.stop()
    await site.start()
    expect(await providers()).toEqual(['primary'])
    await site.admin.call(createProvider, trustedProvider('second'))
    expect(await providers()).toEqual(['primary', 'second'])
  })

  test('is waited for where the settings leave unsealing to people', async () => {
    await site.stop()
    await site.start({ SIGILLO_SEAL_AUTOMATIC: '' })
    expect(await site.admin.call(status, {})).toMatchObject({
      state: 'sealed',
      reason: { code: 'SEALED' },
    })
    await expect(site.admin.call(unseal, { body: {} })).rejects.toMatchObject({ code: 'SEALED' })
    const body = { passphrase: site.passphrase }
    expect(await site.admin.call(unseal, { body })).toMatchObject({ state: 'ok' })
  })

  test('cannot take away the last seal', async () => {
    const [only] = (await site.admin.call(status, {})).seals
    const params = { sealId: only?.sealId ?? '' }
    await expect(site.admin.call(removeSeal, { params })).rejects.toMatchObject({
      code: 'SEAL_LAST',
    })
    await expect(
      site.admin.call(removeSeal, { params: { sealId: 'nothing' } }),
    ).rejects.toMatchObject({ code: 'NOT_FOUND' })
  })

  test('gives the key another passphrase beside the first, and either opens', async () => {
    const passphrase = 'quite another passphrase'
    const body = { kind: 'passphrase' as const, passphrase, keepOthers: true }
    expect((await site.admin.call(addSeal, { body })).status.seals).toHaveLength(2)
    await site.admin.call(seal, { body: {} })
    expect(await site.admin.call(unseal, { body: { passphrase } })).toMatchObject({ state: 'ok' })
    await expect(
      site.admin.call(addSeal, { body: { kind: 'passphrase', passphrase: 'too short' } }),
    ).rejects.toMatchObject({ code: 'ROOT_KEY_PASSPHRASE' })
  })
})

test('the operations of operators are described by a valid OpenAPI document', async () => {
  const [code, document] = await site.get('/operator/v1/openapi.json')
  expect(code).toBe(200)
  expect((await new Validator().validate({ ...document })).errors).toBeUndefined()
  const { paths } = document as unknown as { readonly paths: Readonly<Record<string, unknown>> }
  expect(Object.keys(paths)).toContain(`/operator/v1/${SERVICE}/unseal`)
})

test('a service seals itself once another process has replaced its root key', async () => {
  await site.stop()
  await site.start()
  const db = new Database(site.file)
  db.prepare('update root_keys set generation = generation + 1').run()
  db.close()
  await expect
    .poll(() => site.admin.call(status, {}), { timeout: 30_000, interval: 500 })
    .toMatchObject({ state: 'sealed', reason: { code: 'SEAL_FOREIGN' } })
})
