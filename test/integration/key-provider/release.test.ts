import { constants, generateKeyPairSync, privateDecrypt } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import {
  createProvider,
  generateKeys,
  listKeyProviderAudit,
  rotateProvider,
  setProvider,
  unwrapKeys,
  verifyKeyProviderAudit,
  wrapKeys,
} from '../../../src/api/key-provider.js'
import { parseUtf8, toBase64url, toHex } from '../../../src/core/bytes.js'
import { randomOctets } from '../../../src/core/random.js'
import {
  decryptSession,
  decryptWithContentKey,
  generateSigningKey,
  signAttestationResult,
} from '../../../src/tokens/index.js'
import {
  type Answer,
  attestedHost,
  callAsAdministrator,
  callAsHost,
  type Fixture,
  ISSUER,
  openFixture,
  type TestHost,
} from './fixture.js'

const BASE = '/key-provider/v1/providers'
const DISK = {
  purpose: 'vm-disk',
  context: { vm: '11111111-2222-4333-8444-555555555555', object: 'disk-root' },
} as const

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
    settings: { clusters: ['lab'], minimumAssurance: 'session', maxTokenAgeSeconds: 300 },
  })
  await fixture.trustHost(`host-${providers}`)
  host = await attestedHost(fixture, `host-${providers}`)
})

const wrap = (items: unknown, as = host, headers?: Record<string, string>) =>
  callAsHost(fixture, as, wrapKeys, `${BASE}/${provider}/wrap`, { items }, headers)
const unwrap = (
  items: unknown,
  assurance = 'session',
  as = host,
  headers?: Record<string, string>,
) =>
  callAsHost(fixture, as, unwrapKeys, `${BASE}/${provider}/unwrap`, { assurance, items }, headers)

async function wrapOne(dek = randomOctets(32)): Promise<{ dek: Uint8Array; wrapped: string }> {
  const { body } = await wrap([{ ...DISK, dek: toBase64url(dek) }])
  const [item] = body['items'] as { wrapped: string }[]
  return { dek, wrapped: item?.wrapped ?? '' }
}

async function keysIn(
  answer: Answer,
  as = host,
): Promise<readonly { item: number; dek: string }[]> {
  const plaintext = await decryptSession(String(answer.body['sealed']), as.keys.session.privateKey)
  return JSON.parse(parseUtf8(plaintext)).keys
}

const codesOf = (answer: Answer) =>
  (answer.body['items'] as { ok: boolean; code?: string }[]).map(({ ok, code }) =>
    ok ? 'ok' : code,
  )

describe('an attested host', () => {
  test('gets back the key that it had wrapped', async () => {
    const { dek, wrapped } = await wrapOne()
    const answer = await unwrap([{ ...DISK, wrapped }])
    expect(answer.status).toBe(200)
    expect(await keysIn(answer)).toEqual([{ item: 0, dek: toBase64url(dek) }])
  })

  test('has keys made for it, and unwraps them later', async () => {
    const path = `${BASE}/${provider}/generate`
    const made = await callAsHost(fixture, host, generateKeys, path, {
      assurance: 'session',
      items: [DISK, DISK],
    })
    const keys = await keysIn(made)
    const items = (made.body['items'] as { wrapped: string }[]).map(({ wrapped }) => ({
      ...DISK,
      wrapped,
    }))
    expect(await keysIn(await unwrap(items))).toEqual(keys)
    expect(keys[0]?.dek).not.toBe(keys[1]?.dek)
  })

  test('gets answers that open in its TPM alone, where it asks for that', async () => {
    const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
    const spki = toBase64url(new Uint8Array(publicKey.export({ type: 'spki', format: 'der' })))
    const bound = await attestedHost(fixture, host.hostId, (claims) => ({
      ...claims,
      sigillo: {
        ...claims.sigillo,
        binding_key: { name: 'AAs', public: 'AAE', spki, pcr_bank: 'sha256', pcrs: [7] },
      },
    }))
    const { dek, wrapped } = await wrapOne()
    const answer = await unwrap([{ ...DISK, wrapped }], 'tpm', bound)
    const plaintext = await decryptWithContentKey(String(answer.body['sealed']), async (key) =>
      privateDecrypt(
        { key: privateKey, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' },
        key,
      ),
    )
    expect(parseUtf8(plaintext)).toContain(toBase64url(dek))
  })

  test('has a batch of 1000 served in order', async () => {
    const deks = Array.from({ length: 1000 }, () => toBase64url(randomOctets(32)))
    const wrapped = await wrap(deks.map((dek) => ({ ...DISK, dek })))
    const items = (wrapped.body['items'] as { wrapped: string }[]).map((item) => ({
      ...DISK,
      ...{ wrapped: item.wrapped },
    }))
    const keys = await keysIn(await unwrap(items))
    expect(keys.map(({ dek }) => dek)).toEqual(deks)
  })

  test('is refused a batch of 1001', async () => {
    const items = Array.from({ length: 1001 }, () => ({
      ...DISK,
      dek: toBase64url(new Uint8Array(32)),
    }))
    expect((await wrap(items)).status).toBe(400)
  })

  test('gets the good items of a batch with a bad one, and nothing for the bad one', async () => {
    const [a, b] = [await wrapOne(), await wrapOne()]
    const spoiled = `${b.wrapped.slice(0, -2)}${b.wrapped.endsWith('AA') ? 'BB' : 'AA'}`
    const answer = await unwrap([
      { ...DISK, wrapped: spoiled },
      { ...DISK, wrapped: a.wrapped },
    ])
    expect(codesOf(answer)[0]).toMatch(/^KEY_ENVELOPE_/)
    expect(codesOf(answer)[1]).toBe('ok')
    expect(await keysIn(answer)).toEqual([{ item: 1, dek: toBase64url(a.dek) }])
  })

  test('unwraps keys of an older version of the primary key', async () => {
    const { dek, wrapped } = await wrapOne()
    const rotated = await callAsAdministrator(
      fixture,
      rotateProvider,
      `${BASE}/${provider}/rotation`,
      {},
    )
    expect(rotated.body['versions']).toMatchObject([
      { version: 1, state: 'deactivated' },
      { version: 2, state: 'active' },
    ])
    expect(await keysIn(await unwrap([{ ...DISK, wrapped }]))).toEqual([
      { item: 0, dek: toBase64url(dek) },
    ])
    const header = Buffer.from(
      (await wrapOne()).wrapped.split('.')[1] ?? '',
      'base64url',
    ).toString()
    expect(JSON.parse(header).version).toBe(2)
  })
})

describe('a wrapped key', () => {
  test.each([
    [
      'under the context of another VM',
      { ...DISK, context: { ...DISK.context, vm: '99999999-2222-4333-8444-555555555555' } },
    ],
    ['with less context', { ...DISK, context: { vm: DISK.context.vm } }],
    ['for another purpose', { ...DISK, purpose: 'vtpm-state' as const }],
  ])('does not open %s', async (_, use) => {
    const { wrapped } = await wrapOne()
    const answer = await unwrap([{ ...use, wrapped }])
    expect(codesOf(answer)).toEqual(['KEY_ENVELOPE_AUTHENTICATION'])
    expect(answer.body['sealed']).toBe('')
  })

  test('does not open at another provider', async () => {
    const { wrapped } = await wrapOne()
    const other = `${provider}-b`
    await callAsAdministrator(fixture, createProvider, BASE, {
      name: other,
      kind: 'trusted',
      settings: { clusters: ['lab'], minimumAssurance: 'session', maxTokenAgeSeconds: 300 },
    })
    const answer = await callAsHost(fixture, host, unwrapKeys, `${BASE}/${other}/unwrap`, {
      assurance: 'session',
      items: [{ ...DISK, wrapped }],
    })
    expect(codesOf(answer)).toEqual(['KEY_PROVIDER_OTHER'])
  })
})

describe('refuses', () => {
  test('a proof that was used before', async () => {
    const { wrapped } = await wrapOne()
    const { createDpopProof } = await import('../../../src/tokens/index.js')
    const dpop = await createDpopProof({
      key: host.keys.dpop,
      method: 'POST',
      url: `https://authority.test${BASE}/${provider}/unwrap`,
      accessToken: host.token,
      nowSeconds: Math.floor(fixture.clock.nowMs() / 1000),
    })
    expect((await unwrap([{ ...DISK, wrapped }], 'session', host, { dpop })).status).toBe(200)
    const again = await unwrap([{ ...DISK, wrapped }], 'session', host, { dpop })
    expect(again.status).toBe(401)
    expect(again.body['items']).toBeUndefined()
  })

  test('a stolen token under the key of the thief', async () => {
    const thief = await attestedHost(fixture, 'thief')
    const stolen = { ...thief, token: host.token }
    expect((await wrap([{ ...DISK, dek: toBase64url(randomOctets(32)) }], stolen)).status).toBe(401)
  })

  test('a token without a proof', async () => {
    const answer = await fixture.app.inject({
      method: 'POST',
      url: `${BASE}/${provider}/wrap`,
      headers: { authorization: `DPoP ${host.token}`, 'content-type': 'application/json' },
      payload: '{}',
    })
    expect(answer.statusCode).toBe(401)
  })

  test('a token that another key signed', async () => {
    const token = await signAttestationResult(host.claims, await generateSigningKey())
    expect(
      (await wrap([{ ...DISK, dek: toBase64url(randomOctets(32)) }], { ...host, token })).status,
    ).toBe(401)
  })

  test.each([
    ['of another issuer', { iss: `${ISSUER}2` }],
    ['for another audience', { aud: ['https://other.test'] }],
  ])('a token %s', async (_, change) => {
    const other = await attestedHost(fixture, host.hostId, (claims) => ({ ...claims, ...change }))
    expect((await wrap([{ ...DISK, dek: toBase64url(randomOctets(32)) }], other)).status).toBe(401)
  })

  test('an expired token', async () => {
    const old = await attestedHost(fixture, host.hostId, (claims) => ({
      ...claims,
      iat: claims.iat - 400,
      nbf: claims.iat - 400,
      exp: claims.iat - 100,
    }))
    expect((await wrap([{ ...DISK, dek: toBase64url(randomOctets(32)) }], old)).status).toBe(401)
  })

  test('a host that was revoked between two calls', async () => {
    const { wrapped } = await wrapOne()
    await fixture.trustHost(host.hostId, { state: 'revoked', newEpoch: true })
    const answer = await unwrap([{ ...DISK, wrapped }])
    expect(answer).toMatchObject({ status: 403, body: { code: 'KEY_HOST_STATUS' } })
  })

  test('a token from before the host was enrolled anew', async () => {
    await fixture.trustHost(host.hostId, { newEpoch: true })
    const answer = await wrap([{ ...DISK, dek: toBase64url(randomOctets(32)) }])
    expect(answer.body['code']).toBe('KEY_HOST_STATUS')
  })

  test('a token from before the policy changed', async () => {
    await fixture.trustHost(host.hostId, { policyEpoch: 1 })
    const answer = await wrap([{ ...DISK, dek: toBase64url(randomOctets(32)) }])
    expect(answer).toMatchObject({ status: 403, body: { code: 'KEY_STALE_POLICY' } })
  })

  test('a host of a cluster that the provider does not serve', async () => {
    const other = await attestedHost(fixture, host.hostId, (claims) => ({
      ...claims,
      sigillo: { ...claims.sigillo, cluster: 'elsewhere' },
    }))
    const answer = await wrap([{ ...DISK, dek: toBase64url(randomOctets(32)) }], other)
    expect(answer).toMatchObject({ status: 403, body: { code: 'KEY_CLUSTER' } })
  })

  test('a result that is not affirming', async () => {
    const other = await attestedHost(fixture, host.hostId, (claims) => ({
      ...claims,
      submods: { host: { ...claims.submods.host, ear_status: 'warning' } },
    }))
    const answer = await wrap([{ ...DISK, dek: toBase64url(randomOctets(32)) }], other)
    expect(answer.body['code']).toBe('KEY_VERDICT')
  })

  test('a token older than the provider accepts, and less assurance than it demands', async () => {
    const { wrapped } = await wrapOne()
    const settings = { clusters: ['lab'], minimumAssurance: 'tpm', maxTokenAgeSeconds: 300 }
    await callAsAdministrator(fixture, setProvider, `${BASE}/${provider}`, settings)
    expect((await unwrap([{ ...DISK, wrapped }])).body['code']).toBe('KEY_ASSURANCE')
    expect((await unwrap([{ ...DISK, wrapped }], 'tpm')).body['code']).toBe('KEY_ASSURANCE')
    const strict = { ...settings, minimumAssurance: 'session', maxTokenAgeSeconds: 5 }
    await callAsAdministrator(fixture, setProvider, `${BASE}/${provider}`, strict)
    fixture.clock.advance(6_000)
    expect((await unwrap([{ ...DISK, wrapped }])).body['code']).toBe('KEY_TOKEN_AGE')
  })

  test('a provider that does not exist', async () => {
    const answer = await callAsHost(fixture, host, wrapKeys, `${BASE}/none/wrap`, {
      items: [{ ...DISK, dek: toBase64url(randomOctets(32)) }],
    })
    expect(answer).toMatchObject({ status: 404, body: { code: 'NOT_FOUND' } })
  })

  test('an administrator without a token', async () => {
    const answer = await fixture.app.inject({ method: 'GET', url: BASE })
    expect(answer.statusCode).toBe(401)
  })
})

test('every release and every refusal is in the audit chain, and the chain holds', async () => {
  const { wrapped } = await wrapOne()
  await unwrap([{ ...DISK, wrapped }])
  await fixture.trustHost(host.hostId, { state: 'refused' })
  await unwrap([{ ...DISK, wrapped }])
  const path = '/key-provider/v1/audit'
  const { body } = await callAsAdministrator(
    fixture,
    listKeyProviderAudit,
    `${path}?subject=provider:${provider}&limit=1000`,
  )
  const records = body['records'] as { action: string; outcome: string }[]
  expect(records.map(({ action, outcome }) => `${action} ${outcome}`)).toEqual([
    'provider.create done',
    'keys.wrap allowed',
    'keys.unwrap allowed',
    'keys.unwrap refused',
  ])
  const verdict = await callAsAdministrator(fixture, verifyKeyProviderAudit, `${path}/verification`)
  expect(verdict.body['intact']).toBe(true)
})

test('releases nothing when the audit cannot be written', async () => {
  const { wrapped } = await wrapOne()
  const db = fixture.store.tables<Record<string, never>>()
  const { sql } = await import('kysely')
  await sql`create trigger no_audit before insert on audit_records begin select raise(abort, 'disk'); end`.execute(
    db,
  )
  try {
    const answer = await unwrap([{ ...DISK, wrapped }])
    expect(answer.status).toBeGreaterThanOrEqual(500)
    expect(JSON.stringify(answer.body)).not.toContain('sealed')
  } finally {
    await sql`drop trigger no_audit`.execute(db)
  }
  expect((await unwrap([{ ...DISK, wrapped }])).status).toBe(200)
})

test('no key that was wrapped stands in the database', async () => {
  const dek = randomOctets(32)
  const { wrapped } = await wrapOne(dek)
  await unwrap([{ ...DISK, wrapped }])
  for (const file of ['kp.db', 'kp.db-wal']) {
    const octets = readFileSync(join(fixture.folder, file))
    expect(octets.includes(Buffer.from(dek))).toBe(false)
    expect(octets.includes(toHex(dek))).toBe(false)
    expect(octets.includes(toBase64url(dek))).toBe(false)
  }
})
