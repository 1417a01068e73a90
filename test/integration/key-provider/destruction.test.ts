import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sql } from 'kysely'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  cancelDestruction,
  createProvider,
  getProvider,
  listKeyProviderAudit,
  releaseKeys,
  rewrapKeys,
  rotateProvider,
  scheduleDestruction,
  unwrapKeys,
  wrapKeys,
} from '../../../src/api/key-provider.js'
import type { Operation } from '../../../src/api/operation.js'
import { toBase64url } from '../../../src/core/bytes.js'
import { randomOctets } from '../../../src/core/random.js'
import {
  type Answer,
  attestedHost,
  callAsAdministrator,
  callAsHost,
  type Fixture,
  NOW_MS,
  openFixture,
  type TestHost,
} from './fixture.js'

const PROVIDER = '/key-provider/v1/providers/gold'
const DAY_MS = 86_400_000
const DISK = { purpose: 'vm-disk', context: { vm: 'a', object: 'disk-root' } } as const

let fixture: Fixture
let host: TestHost

beforeEach(async () => {
  fixture = await openFixture()
  await administrate(createProvider, '/key-provider/v1/providers', {
    name: 'gold',
    kind: 'trusted',
    settings: { clusters: ['lab'], minimumAssurance: 'session', maxTokenAgeSeconds: 300 },
  })
  await fixture.trustHost('host')
  host = await attestedHost(fixture, 'host')
})
afterEach(() => fixture[Symbol.asyncDispose]())

const administrate = (operation: Operation, path: string, body?: unknown) =>
  callAsAdministrator(fixture, operation, path, body)
const asHost = async (operation: Operation, path: string, body: unknown) =>
  callAsHost(fixture, host, operation, `${PROVIDER}/${path}`, body)
const rotate = () => administrate(rotateProvider, `${PROVIDER}/rotation`, {})
const destroy = (version: number, more = {}) =>
  administrate(scheduleDestruction, `${PROVIDER}/versions/${version}/destruction`, {
    afterDays: 7,
    reason: 'a test',
    ...more,
  })
const keep = (version: number) =>
  administrate(cancelDestruction, `${PROVIDER}/versions/${version}/destruction`)
const itemsOf = (answer: Answer) => answer.body['items'] as Record<string, string>[]
const codesOf = (answer: Answer) => itemsOf(answer).map(({ ok, code }) => (ok ? 'ok' : code))
const wrappedItems = (answer: Answer) =>
  itemsOf(answer).map(({ wrapped }) => ({ ...DISK, wrapped: String(wrapped) }))

async function wrap(count: number) {
  const items = Array.from({ length: count }, () => ({
    ...DISK,
    dek: toBase64url(randomOctets(32)),
  }))
  return wrappedItems(await asHost(wrapKeys, 'wrap', { items }))
}
const unwrap = (items: unknown) => asHost(unwrapKeys, 'unwrap', { assurance: 'session', items })
const release = (items: unknown) => asHost(releaseKeys, 'release', { items })
const versions = async () =>
  (await administrate(getProvider, PROVIDER)).body['versions'] as Record<string, unknown>[]
const references = async () => (await versions()).map((version) => version['references'])
const states = async () => (await versions()).map(({ state }) => state)
async function wait(days: number) {
  fixture.clock.advance(days * DAY_MS)
  await fixture.tick()
  host = await attestedHost(fixture, 'host')
}
const sealedOctets = () =>
  fixture.store
    .tables<{ key_provider_versions: { sealed: Uint8Array; version: number } }>()
    .selectFrom('key_provider_versions')
    .select('sealed')
    .where('version', '=', 1)
    .executeTakeFirstOrThrow()
    .then(({ sealed }) => sealed.length)

describe('references to wrapped keys', () => {
  test('are noted when keys are wrapped, and taken back when they are released', async () => {
    const items = await wrap(3)
    expect(await references()).toEqual([3])
    await rotate()
    const anew = wrappedItems(await asHost(rewrapKeys, 'rewrap', { items }))
    expect(await references()).toEqual([3, 3])
    // Wrapped anew again, as after an interruption, they are the same.
    const again = wrappedItems(await asHost(rewrapKeys, 'rewrap', { items: anew }))
    expect(again).toEqual(anew)
    expect(await references()).toEqual([3, 3])
    expect(codesOf(await release(items))).toEqual(['ok', 'ok', 'ok'])
    expect(await references()).toEqual([0, 3])
    expect(codesOf(await release([...anew, ...items]))).toEqual(Array(6).fill('ok'))
    expect(await references()).toEqual([0, 0])
  })

  test('are noted again for a key that is opened, as after a restore', async () => {
    const items = await wrap(2)
    await release(items)
    expect(await references()).toEqual([0])
    expect(codesOf(await unwrap(items))).toEqual(['ok', 'ok'])
    await unwrap(items)
    expect(await references()).toEqual([2])
  })

  test('are not taken back by who has not the whole wrapped key with its purpose and context', async () => {
    const [item] = await wrap(1)
    const [prefix, header, body = ''] = (item?.wrapped ?? '').split('.')
    const forged = `${prefix}.${header}.${body.startsWith('A') ? 'B' : 'A'}${body.slice(1)}`
    const other = { ...DISK, context: { vm: 'b', object: 'disk-root' }, wrapped: item?.wrapped }
    const answer = await release([other, { ...DISK, wrapped: forged }])
    expect(codesOf(answer)).toEqual(['KEY_ENVELOPE_AUTHENTICATION', 'KEY_ENVELOPE_AUTHENTICATION'])
    expect(await references()).toEqual([1])
  })

  test('are taken back of a version that opens nothing any more', async () => {
    const items = await wrap(1)
    await rotate()
    await destroy(1, { abandon: true })
    expect(codesOf(await unwrap(items))).toEqual(['KEY_STATE'])
    expect(codesOf(await release(items))).toEqual(['ok'])
    expect(await references()).toEqual([0, 0])
  })
})

describe('a version of a primary key', () => {
  test('is destroyed after its waiting time, and nothing of it is left', async () => {
    await rotate()
    expect((await destroy(1)).status).toBe(200)
    await wait(6.9)
    expect(await states()).toEqual(['deactivated', 'active'])
    expect(await sealedOctets()).toBeGreaterThan(32)
    await wait(0.1)
    expect(await states()).toEqual(['destroyed', 'active'])
    expect(await sealedOctets()).toBe(0)
    expect((await destroy(1)).body['code']).toBe('KEY_STATE')
    expect((await keep(1)).body['code']).toBe('KEY_STATE')
  })

  test('is not destroyed while it opens wrapped keys, but for who gives them up with a reason', async () => {
    const items = await wrap(2)
    await rotate()
    expect(await destroy(1)).toMatchObject({ status: 409, body: { code: 'KEY_REFERENCED' } })
    expect((await destroy(1, { abandon: true })).status).toBe(200)
    const audit = await administrate(listKeyProviderAudit, '/key-provider/v1/audit?limit=1000')
    expect((audit.body['records'] as object[]).at(-1)).toMatchObject({
      action: 'provider.destroy-scheduled',
      detail: { version: 1, abandon: true, references: 2, reason: 'a test' },
    })
    await wait(7)
    expect(codesOf(await unwrap(items))).toEqual(['KEY_STATE', 'KEY_STATE'])
  })

  test('does nothing while it waits, and all when it is kept after all', async () => {
    const items = await wrap(1)
    await rotate()
    await destroy(1, { abandon: true })
    expect(codesOf(await unwrap(items))).toEqual(['KEY_STATE'])
    expect((await keep(1)).status).toBe(200)
    await wait(30)
    expect(codesOf(await unwrap(items))).toEqual(['ok'])
  })

  test('is not destroyed while it is active, nor one that there is not', async () => {
    expect((await destroy(1)).body['code']).toBe('KEY_STATE')
    expect((await destroy(9)).body['code']).toBe('KEY_VERSION_UNKNOWN')
    expect((await keep(1)).body['code']).toBe('KEY_STATE')
    expect((await destroy(1, { afterDays: 0 })).status).toBe(400)
  })
})

describe('what was destroyed', () => {
  /** A copy of the database, and what it is restored to. */
  async function restoredWith(tombstones: (text: string) => string | undefined) {
    const items = await wrap(1)
    await rotate()
    const folder = mkdtempSync(join(tmpdir(), 'sigillo-kp-'))
    await sql.raw(`vacuum into '${join(folder, 'kp.db')}'`).execute(fixture.store.tables())
    await destroy(1, { abandon: true })
    await wait(7)
    expect(await states()).toEqual(['destroyed', 'active'])
    const text = tombstones(readFileSync(join(fixture.folder, 'kp.db.tombstones'), 'utf8'))
    if (text !== undefined) writeFileSync(join(folder, 'kp.db.tombstones'), text)
    return { folder, items }
  }

  test('stays destroyed when a copy of the database from before is restored', async () => {
    const { folder, items } = await restoredWith((text) => text)
    await fixture[Symbol.asyncDispose]()
    fixture = await openFixture(NOW_MS + 7 * DAY_MS, folder)
    await fixture.tick()
    expect(await states()).toEqual(['destroyed', 'active'])
    expect(await sealedOctets()).toBe(0)
    await fixture.trustHost('host')
    host = await attestedHost(fixture, 'host')
    expect(codesOf(await unwrap(items))).toEqual(['KEY_STATE'])
    const audit = await administrate(listKeyProviderAudit, '/key-provider/v1/audit?limit=1000')
    expect(audit.body['records']).toContainEqual(
      expect.objectContaining({
        action: 'provider.destroy',
        detail: { version: 1, reason: 'tombstone' },
      }),
    )
  })

  test('has no start of the service where its list was changed', async () => {
    const { folder } = await restoredWith((text) => text.replace('"version":1', '"version":2'))
    await expect(openFixture(NOW_MS, folder)).rejects.toMatchObject({ code: 'KEY_TOMBSTONES' })
    rmSync(folder, { recursive: true, force: true })
  })

  test('is listed again where the list was lost and the database was not', async () => {
    await rotate()
    await destroy(1)
    await wait(7)
    const file = join(fixture.folder, 'kp.db.tombstones')
    const text = readFileSync(file, 'utf8')
    rmSync(file)
    const folder = mkdtempSync(join(tmpdir(), 'sigillo-kp-'))
    for (const name of ['kp.db', 'kp.db-wal'])
      copyFileSync(join(fixture.folder, name), join(folder, name))
    await fixture[Symbol.asyncDispose]()
    fixture = await openFixture(NOW_MS + 7 * DAY_MS, folder)
    await fixture.tick()
    expect(readFileSync(join(folder, 'kp.db.tombstones'), 'utf8')).toBe(text)
  })
})
