import { randomBytes } from 'node:crypto'
import { copyFileSync, existsSync, mkdtempSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { openTpm } from '../../../native/index.js'
import {
  createProvider,
  generateKeys,
  getProvider,
  listKeyProviderAudit,
  rebindTpm,
  rewrapKeys,
  rotateProvider,
  scheduleDestruction,
  setKeyServers,
  setProvider,
  testProvider,
  unwrapKeys,
  wrapKeys,
} from '../../../src/api/key-provider.js'
import { parseUtf8, toBase64url, utf8 } from '../../../src/core/bytes.js'
import { randomOctets } from '../../../src/core/random.js'
import { Secret } from '../../../src/core/secret.js'
import { embeddedKeystore } from '../../../src/key-provider/adapters/keystore.js'
import { tpmKeys } from '../../../src/key-provider/adapters/tpm-keys.js'
import { configuredTpm } from '../../../src/server/index.js'
import { rootKeyOf } from '../../../src/store/index.js'
import { decryptSession } from '../../../src/tokens/index.js'
import { type BareTpm, startBareTpm } from '../../helpers/bare-swtpm.js'
import { sigillo } from '../cli/sigillo.js'
import { openSealSite } from '../seals/support.js'
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

const BASE = '/key-provider/v1/providers'
const SETTINGS = { clusters: ['lab'], minimumAssurance: 'session', maxTokenAgeSeconds: 300 }
const DISK = { purpose: 'vm-disk', context: { vm: 'a', object: 'disk-root' } } as const
const DAY_MS = 86_400_000
/** PCR 16 is one that anybody may extend; it is zero again after the TPM was powered off. */
const PCRS = [16, 7]

let tpm: BareTpm
let fixture: Fixture
let host: TestHost

beforeAll(async () => {
  tpm = await startBareTpm()
})
afterAll(() => tpm[Symbol.asyncDispose]())
beforeEach(async () => {
  await tpm.restart()
  fixture = await openFixture(NOW_MS, undefined, undefined, tpm.tcti)
  await greet()
  const made = await administrate(createProvider, '', {
    name: 'safe',
    kind: 'trusted',
    settings: SETTINGS,
    backend: { kind: 'tpm', pcrs: PCRS },
  })
  expect(made.status).toBe(201)
})
afterEach(() => fixture[Symbol.asyncDispose]())

async function greet(): Promise<void> {
  await fixture.trustHost('host')
  host = await attestedHost(fixture, 'host')
}
const administrate = (
  operation: Parameters<typeof callAsAdministrator>[1],
  path: string,
  body?: unknown,
) => callAsAdministrator(fixture, operation, BASE + path, body)
const rotate = () => administrate(rotateProvider, '/safe/rotation', {})
const rebind = (pcrs?: readonly number[]) =>
  administrate(rebindTpm, '/safe/tpm-binding', pcrs ? { pcrs } : {})
const examine = () => administrate(testProvider, '/safe/test', {})
const asHost = (operation: Parameters<typeof callAsHost>[2], path: string, body: unknown) =>
  callAsHost(fixture, host, operation, `${BASE}/safe/${path}`, body)
const wrap = (deks: readonly Uint8Array[]) =>
  asHost(wrapKeys, 'wrap', { items: deks.map((dek) => ({ ...DISK, dek: toBase64url(dek) })) })
const unwrap = (wrapped: readonly string[]) =>
  asHost(unwrapKeys, 'unwrap', {
    assurance: 'session',
    items: wrapped.map((one) => ({ ...DISK, wrapped: one })),
  })
const itemsOf = (answer: Answer) => answer.body['items'] as Record<string, string>[]
const wrappedOf = (answer: Answer) => itemsOf(answer).map(({ wrapped }) => String(wrapped))
async function keysIn(answer: Answer): Promise<readonly string[]> {
  const sealed = String(answer.body['sealed'])
  const plaintext = await decryptSession(sealed, host.keys.session.privateKey)
  return JSON.parse(parseUtf8(plaintext)).keys.map(({ dek }: { dek: string }) => dek)
}
const audit = async () => {
  const { body } = await callAsAdministrator(
    fixture,
    listKeyProviderAudit,
    '/key-provider/v1/audit?limit=1000&subject=provider:safe',
  )
  return body['records'] as Record<string, unknown>[]
}
const tables = () =>
  fixture.store.tables<{
    key_provider_versions: { sealed: Uint8Array; version: number }
    key_provider_providers: { name: string; tpm_pcrs: string | null }
  }>()
const sealedOctets = async (version: number) => {
  const rows = tables().selectFrom('key_provider_versions').select('sealed')
  const { sealed } = await rows.where('version', '=', version).executeTakeFirstOrThrow()
  return sealed.length
}
async function extend(): Promise<void> {
  await using opened = await openTpm(tpm)
  await opened.pcrExtend(16, [{ bank: 'sha256', digest: randomBytes(32) }])
}
/** Ends the service and starts it again from its files, with a TPM. */
async function restart(tcti = tpm.tcti): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'sigillo-kp-'))
  for (const name of ['kp.db', 'kp.db-wal', 'kp.db.tombstones']) {
    const file = join(fixture.folder, name)
    if (existsSync(file)) copyFileSync(file, join(folder, name))
  }
  const nowMs = fixture.clock.nowMs()
  await fixture[Symbol.asyncDispose]()
  fixture = await openFixture(nowMs, folder, undefined, tcti)
  await greet()
}
const refusal = async (answer: Promise<Answer>) => {
  const { status, body } = await answer
  return [status, body['code']]
}

describe('a provider whose primary key the TPM of the authority seals', () => {
  test('makes, wraps, unwraps and rewraps keys over versions, and after a restart', async () => {
    const deks = [randomOctets(32), randomOctets(32)]
    const first = wrappedOf(await wrap(deks))
    const generated = await asHost(generateKeys, 'generate', {
      assurance: 'session',
      items: [DISK],
    })
    const all = [...first, ...wrappedOf(generated)]
    const keys = [...deks.map(toBase64url), ...(await keysIn(generated))]
    expect(await keysIn(await unwrap(all))).toEqual(keys)

    expect((await rotate()).status).toBe(201)
    const items = all.map((wrapped) => ({ ...DISK, wrapped }))
    const anew = wrappedOf(await asHost(rewrapKeys, 'rewrap', { items }))
    await restart()
    expect(await keysIn(await unwrap([...all, ...anew]))).toEqual([...keys, ...keys])
    await tpm.restart()
    await restart()
    expect(await keysIn(await unwrap([...all, ...anew]))).toEqual([...keys, ...keys])
  })

  test('says where its key is, with the PCRs of root keys where none were given', async () => {
    expect((await administrate(getProvider, '/safe')).body['backend']).toEqual({
      kind: 'tpm',
      pcrs: [7, 16],
    })
    const made = await administrate(createProvider, '', {
      name: 'other',
      kind: 'trusted',
      settings: SETTINGS,
      backend: { kind: 'tpm' },
    })
    expect(made.body['backend']).toEqual({ kind: 'tpm', pcrs: [0, 7] })
    expect(await refusal(administrate(setKeyServers, '/safe/key-servers', {}))).toEqual([
      400,
      'REQUEST_INVALID',
    ])
  })

  test('is served from memory after a PCR changed, and refused once the service ended', async () => {
    const dek = randomOctets(32)
    const wrapped = wrappedOf(await wrap([dek]))
    await extend()
    expect(await keysIn(await unwrap(wrapped))).toEqual([toBase64url(dek)])

    await restart()
    const answer = await unwrap(wrapped)
    expect(answer).toMatchObject({ status: 503, body: { code: 'KEY_TPM_PCRS' } })
    expect(await refusal(wrap([dek]))).toEqual([503, 'KEY_TPM_PCRS'])
    expect((await audit()).at(-1)).toMatchObject({
      action: 'keys.wrap',
      outcome: 'refused',
      detail: { code: 'KEY_TPM_PCRS', message: expect.stringMatching(/others: 16$/) },
    })
    // nothing was lost: a boot as before opens it
    await tpm.restart()
    expect(await keysIn(await unwrap(wrapped))).toEqual([toBase64url(dek)])
  })

  test('is bound anew to changed PCRs from memory, all versions of it', async () => {
    const [dek1, dek2] = [randomOctets(32), randomOctets(32)]
    const first = wrappedOf(await wrap([dek1]))
    await rotate()
    const second = wrappedOf(await wrap([dek2]))
    await extend()
    expect((await examine()).body).toMatchObject({
      verdict: 'failed',
      findings: [1, 2].map((version) => ({
        step: 'unseal',
        code: 'KEY_TPM_PCRS',
        message: expect.stringMatching(new RegExp(`^version ${version}: .* others: 16$`)),
      })),
    })
    expect((await rebind()).status).toBe(200)
    expect((await audit()).at(-1)).toMatchObject({
      action: 'provider.rebind-tpm',
      outcome: 'done',
      detail: { before: [7, 16], after: [7, 16], versions: [1, 2] },
    })
    expect((await examine()).body).toMatchObject({ verdict: 'passed' })
    await restart()
    expect(await keysIn(await unwrap([...first, ...second]))).toEqual([dek1, dek2].map(toBase64url))
  })

  test('has all versions on the same PCRs where it is rotated and bound anew at once', async () => {
    await wrap([randomOctets(32)])
    const answers = await Promise.all([rebind([7]), rotate()])
    expect(answers.map(({ status }) => status)).toContain(409)
    const { pcrs } = (await administrate(getProvider, '/safe')).body['backend'] as {
      readonly pcrs: readonly number[]
    }
    await extend()
    const findings = (await examine()).body['findings'] as { readonly result: string }[]
    const expected = pcrs.includes(16) ? 'failed' : 'ok'
    expect(new Set(findings.map(({ result }) => result))).toEqual(new Set([expected]))
  })

  test('is bound to other PCRs before a change that is meant', async () => {
    const dek = randomOctets(32)
    const wrapped = wrappedOf(await wrap([dek]))
    expect((await rebind([7])).body['backend']).toEqual({ kind: 'tpm', pcrs: [7] })
    await extend()
    await restart()
    expect(await keysIn(await unwrap(wrapped))).toEqual([toBase64url(dek)])
    expect((await rebind(PCRS)).body['backend']).toEqual({ kind: 'tpm', pcrs: [7, 16] })
    await restart()
    expect(await keysIn(await unwrap(wrapped))).toEqual([toBase64url(dek)])
  })

  test('is not bound anew where a version cannot be unsealed, and nothing is changed', async () => {
    const dek = randomOctets(32)
    const wrapped = wrappedOf(await wrap([dek]))
    await extend()
    await restart()
    expect(await refusal(rebind([7]))).toEqual([503, 'KEY_TPM_PCRS'])
    expect((await audit()).at(-1)).toMatchObject({
      action: 'provider.rebind-tpm',
      outcome: 'refused',
      detail: { code: 'KEY_TPM_PCRS' },
    })
    await tpm.restart()
    expect(await keysIn(await unwrap(wrapped))).toEqual([toBase64url(dek)])
  })

  test('gives a copy of the database nothing, with the root key and another TPM', async () => {
    const wrapped = wrappedOf(await wrap([randomOctets(32)]))
    await using other = await startBareTpm()
    await restart(other.tcti)
    expect(await refusal(unwrap(wrapped))).toEqual([502, 'KEY_TPM_OTHER'])
    expect((await examine()).body).toMatchObject({
      verdict: 'failed',
      findings: [{ server: 'TPM', code: 'KEY_TPM_OTHER' }],
    })
  })

  test('waits for a TPM that does not answer, and goes on when it does', async () => {
    const dek = randomOctets(32)
    const wrapped = wrappedOf(await wrap([dek]))
    await restart('swtpm:path=/nonexistent/sock')
    expect(await refusal(unwrap(wrapped))).toEqual([503, 'TPM_UNREACHABLE'])
    expect(await refusal(rotate())).toEqual([503, 'TPM_UNREACHABLE'])
    expect((await examine()).body).toMatchObject({ verdict: 'unreachable' })
    await restart()
    expect(await keysIn(await unwrap(wrapped))).toEqual([toBase64url(dek)])
  })

  test('records a rotation on schedule that the TPM does not let happen, and makes it up', async () => {
    await administrate(setProvider, '/safe', { ...SETTINGS, rotateEveryDays: 1 })
    await restart('swtpm:path=/nonexistent/sock')
    fixture.clock.advance(DAY_MS)
    await fixture.tick()
    expect((await audit()).at(-1)).toMatchObject({
      action: 'provider.rotate',
      outcome: 'refused',
      detail: { code: 'TPM_UNREACHABLE' },
    })
    await restart()
    await fixture.tick()
    const { body } = await administrate(getProvider, '/safe')
    expect(body['versions']).toMatchObject([{ state: 'deactivated' }, { state: 'active' }])
  })

  test('leaves nothing of a version that is destroyed', async () => {
    await rotate()
    await administrate(scheduleDestruction, '/safe/versions/1/destruction', {
      ...{ reason: 'rotated', afterDays: 7 },
    })
    fixture.clock.advance(7 * DAY_MS)
    await fixture.tick()
    expect((await audit()).at(-1)).toMatchObject({ action: 'provider.erase', outcome: 'done' })
    expect(await sealedOctets(1)).toBe(0)
    expect((await examine()).body).toMatchObject({
      findings: [{ message: 'version 2 is unsealed' }],
    })
    expect((await rebind()).status).toBe(200)
  })

  test('wraps nothing without the TPM where the database says that it has none', async () => {
    const wrapped = wrappedOf(await wrap([randomOctets(32)]))
    await tables().updateTable('key_provider_providers').set({ tpm_pcrs: null }).execute()
    for (const answer of [await wrap([randomOctets(32)]), await unwrap(wrapped)]) {
      expect(itemsOf(answer)).toMatchObject([{ ok: false, code: 'ROOT_KEY_OPEN' }])
    }
  })

  test('has neither the key nor the object of the TPM readable in the database', () => {
    for (const name of ['kp.db', 'kp.db-wal']) {
      expect(readFileSync(join(fixture.folder, name), 'latin1')).not.toContain('privateBlob')
    }
  })
})

describe('a primary key under the TPM', () => {
  const id = { providerId: 'a', version: 1, createdAtMs: NOW_MS }
  const anew = () => {
    const keystore = embeddedKeystore(rootKeyOf(new Secret(new Uint8Array(32).fill(7))))
    return { keystore, keys: tpmKeys({ keystore, sealer: configuredTpm(tpm.tcti, openTpm) }) }
  }

  test('does not open as another version, also for who has the root key', async () => {
    const { keystore, keys } = anew()
    await using _ = keys
    const sealed = await keys.seal(id, [7], utf8('p'.repeat(32)))
    const other = { ...id, version: 2 }
    await expect(keys.open(other, sealed)).rejects.toMatchObject({ code: 'ROOT_KEY_OPEN' })
    using stored = keystore.open(id, sealed)
    const moved = stored.use((octets) => keystore.seal(other, octets))
    await expect(keys.open(other, moved)).rejects.toMatchObject({ code: 'ROOT_KEY_OPEN' })
  })

  test('is given up where the TPM says no word, by all who wait, and opens when it is on again', async () => {
    const { keystore, keys } = anew()
    await using _ = keys
    const sealed = await keys.seal(id, [7], utf8('p'.repeat(32)))
    await using impatient = tpmKeys({
      keystore,
      sealer: configuredTpm(tpm.tcti, ({ tcti, deadlineMs }) =>
        openTpm({ tcti, deadlineMs: deadlineMs / 50 }),
      ),
    })
    tpm.freeze()
    try {
      const waiting = [1, 2, 3].map(() => impatient.open(id, sealed))
      for (const result of await Promise.allSettled(waiting)) {
        expect(result).toMatchObject({ status: 'rejected', reason: { code: 'TPM_UNREACHABLE' } })
      }
    } finally {
      // without a resource manager, what was given up would go on beside what comes next
      await tpm.kill()
      await tpm.restart()
    }
    using opened = await keys.open(id, sealed)
    expect(opened.use(parseUtf8)).toBe('p'.repeat(32))
  })

  test('is asked of the TPM once for many requests, and again when it was forgotten', async () => {
    const { keystore, keys } = anew()
    await using _ = keys
    let asked = 0
    const counting = tpmKeys({
      keystore,
      sealer: (pcrs) => {
        asked += 1
        return configuredTpm(tpm.tcti, openTpm)(pcrs)
      },
    })
    const sealed = await keys.seal(id, [7], utf8('p'.repeat(32)))
    const opened = await Promise.all([1, 2, 3].map(() => counting.open(id, sealed)))
    expect(opened.map((secret) => secret.use(parseUtf8))).toEqual(Array(3).fill('p'.repeat(32)))
    expect(asked).toBe(1)
    await counting.forget(id)
    using again = await counting.open(id, sealed)
    expect(again.use(parseUtf8)).toBe('p'.repeat(32))
    expect(asked).toBe(2)
    await counting[Symbol.asyncDispose]()
    await expect(counting.open(id, sealed)).rejects.toMatchObject({ code: 'SEALED' })
  })
})

describe('sigillo provider with the TPM of the authority', () => {
  test('makes, shows, tests and binds anew, also under another root key', async () => {
    await using site = await openSealSite(['key-provider'], {
      SIGILLO_SEAL_TPM_TCTI: tpm.tcti,
      SIGILLO_SEAL_TPM_PCRS: '0,7',
    })
    const provider = (...args: readonly string[]) =>
      sigillo('provider', ...args, '--site', site.folder)
    const made = await provider('create', 'safe', '--cluster', 'lab', '--tpm', '--tpm-pcr', '16')
    expect(made).toMatchObject({ status: 0, err: '' })
    expect(made.out).toMatch(
      /primary key: +sealed by the TPM of the authority\nPCRs: +16 \(sha256\)/,
    )
    expect(await provider('test', 'safe')).toMatchObject({
      status: 0,
      out: 'ok   TPM unseal: version 1 is unsealed\ntest passed\n',
    })
    await extend()
    const broken = await provider('test', 'safe')
    expect(broken.status).toBe(3)
    expect(broken.out).toMatch(/FAIL TPM unseal: version 1: .* others: 16 \(KEY_TPM_PCRS\)\n/)
    expect(await provider('rebind-tpm', 'safe')).toMatchObject({
      status: 1,
      err: expect.stringContaining('(KEY_TPM_PCRS)'),
    })
    await tpm.restart()
    const bound = await provider('rebind-tpm', 'safe', '--tpm-pcr', '0', '--tpm-pcr', '7')
    expect(bound.out).toMatch(/PCRs: +0, 7 \(sha256\)/)
    const rotated = await sigillo('operator', 'rotate-root', '--yes', '--site', site.folder)
    expect(rotated.status).toBe(0)
    expect(await provider('test', 'safe')).toMatchObject({ status: 0 })
    expect(await provider('create', 'x', '--cluster', 'lab', '--tpm-pcr', '7')).toMatchObject({
      status: 1,
      err: expect.stringContaining('expected --tpm beside --tpm-pcr'),
    })
  })
})
