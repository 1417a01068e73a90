import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type CryptoKey, exportJWK, generateKeyPair, type JWK, SignJWT, UnsecuredJWT } from 'jose'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import {
  createCluster,
  listClusters,
  listControlPlaneAudit,
} from '../../../src/api/control-plane.js'
import { listHosts } from '../../../src/api/hosts.js'
import { createRole, getMe, grantPermission, logout } from '../../../src/api/people.js'
import { createAuthority, issueServerCertificate } from '../../../src/pki/index.js'
import { openTestSite, type TestSite } from '../../helpers/site.js'
import { clientWith, SITE } from './support.js'

const AUDIENCE = 'sigillo'
const GROUP = 'kvm-readers'

/** An outside provider: a discovery document and a key set over TLS, and a private key. */
interface Issuer {
  readonly url: string
  readonly caFile: string
  jwks: { keys: JWK[] }
  /** What the discovery document says it is. */
  says: string
  /** Answers nothing but errors. */
  broken: boolean
  /** Requests for the key set. */
  fetched: number
  close(): Promise<void>
}

let issuer: Issuer
let site: TestSite
let key: CryptoKey
let stranger: CryptoKey

beforeAll(async () => {
  const pair = await generateKeyPair('ES256', { extractable: true })
  key = pair.privateKey
  stranger = (await generateKeyPair('ES256')).privateKey
  issuer = await startIssuer({ ...(await exportJWK(pair.publicKey)), kid: 'k1', alg: 'ES256' })
  site = await openTestSite({
    settings: {
      SIGILLO_OIDC_ISSUER: issuer.url,
      SIGILLO_OIDC_AUDIENCE: AUDIENCE,
      SIGILLO_OIDC_CA_FILE: issuer.caFile,
      SIGILLO_OIDC_NAME_CLAIM: 'preferred_username',
      SIGILLO_OIDC_REQUIRED_CLAIMS: 'email_verified=true',
    },
  })
  const principal = { kind: 'oidc-group' as const, name: GROUP }
  const body = { principal, role: 'read-only', scope: SITE }
  await site.admin.call(grantPermission, { body })
  await site.admin.call(createCluster, { body: { name: 'lab' } })
})
afterAll(async () => {
  await site?.[Symbol.asyncDispose]()
  await issuer?.close()
})
beforeEach(() => {
  issuer.broken = false
})

async function startIssuer(jwk: JWK): Promise<Issuer> {
  const folder = mkdtempSync(join(tmpdir(), 'sgl-oidc-'))
  const now = Date.now()
  const authority = await createAuthority({
    ...{ commonName: 'Provider', keyType: 'p384', validityDays: 2, now },
  })
  const names = { dnsNames: ['localhost'], ipAddresses: ['127.0.0.1'] }
  const tls = await issueServerCertificate(authority, { ...names, validityDays: 1, now })
  const caFile = join(folder, 'ca.pem')
  writeFileSync(caFile, authority.certificatePem)
  const server: Server = createServer({ cert: tls.certificatePem, key: tls.privateKeyPem })
  server.on('request', (request, response) => {
    if (request.url === '/realm/keys') made.fetched += 1
    const documents: Readonly<Record<string, unknown>> = {
      '/realm/.well-known/openid-configuration': {
        ...{ issuer: made.says, jwks_uri: `${made.url}/keys`, scopes_supported: ['openid'] },
      },
      '/realm/keys': made.jwks,
    }
    const document = made.broken ? undefined : documents[request.url ?? '']
    response.writeHead(document ? 200 : 500, { 'content-type': 'application/json' })
    response.end(JSON.stringify(document ?? {}))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `https://localhost:${(server.address() as AddressInfo).port}/realm`
  const made: Issuer = {
    ...{ url, caFile, jwks: { keys: [jwk] }, says: url, broken: false, fetched: 0 },
    async close() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
      rmSync(folder, { recursive: true })
    },
  }
  return made
}

const seconds = () => Math.floor(site.clock.nowMs() / 1000)

function claims(changes: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  return {
    ...{ iss: issuer.url, aud: AUDIENCE, sub: '0b5e', preferred_username: 'ida', groups: [GROUP] },
    ...{ iat: seconds(), exp: seconds() + 300, email_verified: true },
    ...changes,
  }
}

function token(
  changes: Readonly<Record<string, unknown>> = {},
  header: Readonly<Record<string, unknown>> = {},
  by: CryptoKey | Uint8Array = key,
): Promise<string> {
  return new SignJWT(claims(changes))
    .setProtectedHeader({ alg: 'ES256', kid: 'k1', typ: 'JWT', ...header })
    .sign(by)
}

async function ask(text: string) {
  await using client = clientWith(site, text)
  return await client.call(getMe, {})
}

const UNKNOWN = { code: 'UNAUTHENTICATED', message: 'the caller is not known' }

describe('a person of an outside provider', () => {
  test('is known by its token, and may do what the groups were granted', async () => {
    await using ida = clientWith(site, await token())
    expect(await ida.call(getMe, {})).toMatchObject({
      ...{ kind: 'oidc', name: 'ida', groups: [GROUP] },
      permissions: [{ role: 'read-only', scope: SITE }],
    })
    expect((await ida.call(listClusters, {})).clusters).toHaveLength(1)
    for (const [operation, input] of [
      [createCluster, { body: { name: 'mine' } }],
      [listHosts, {}],
      [createRole, { body: { name: 'mine', privileges: ['System.Read' as const] } }],
    ] as const) {
      await expect(ida.call(operation, input as never)).rejects.toMatchObject({ code: 'FORBIDDEN' })
    }
    await expect(ida.call(logout, {})).rejects.toMatchObject({ code: 'CONFLICT' })
  })

  test('is one person in the audit, also where another has the same name', async () => {
    for (const [sub, name] of [
      ['0b5e', 'ida'],
      ['77aa', 'ida'],
      ['77aa', 'ida) (0b5e'],
    ]) {
      await using client = clientWith(site, await token({ sub, preferred_username: name }))
      await expect(client.call(createCluster, { body: { name: 'mine' } })).rejects.toMatchObject({
        code: 'FORBIDDEN',
      })
    }
    const { records } = await site.admin.call(listControlPlaneAudit, { query: { limit: 1000 } })
    const actors = records
      .filter(({ action }) => action === 'caller.authorize')
      .map(({ actor }) => actor)
    expect(actors.slice(-3)).toEqual([
      ...['oidc:0b5e (ida)', 'oidc:77aa (ida)', 'oidc:77aa (ida) (0b5e)'],
    ])
  })

  test('comes with an access token (RFC 9068) as well, with several audiences, with one group as text', async () => {
    const text = await token({ aud: ['other', AUDIENCE], groups: GROUP }, { typ: 'at+jwt' })
    expect(await ask(text)).toMatchObject({ groups: [GROUP] })
  })

  test('who is in no group that was granted anything may do nothing', async () => {
    for (const groups of [undefined, [], ['KVM-readers'], ['kvm-readers ']]) {
      await using client = clientWith(site, await token({ groups }))
      expect(await client.call(getMe, {})).toMatchObject({ permissions: [] })
      await expect(client.call(listClusters, {})).rejects.toMatchObject({ code: 'FORBIDDEN' })
    }
  })
})

describe('is refused, in one form for everything:', () => {
  const now = () => seconds()
  const cases: readonly (readonly [claim: string, make: () => Promise<string> | string])[] = [
    ['another audience', () => token({ aud: 'other' })],
    ['no audience', () => token({ aud: undefined })],
    ['another issuer', () => token({ iss: 'https://localhost/realm' })],
    ['an issuer with a slash more', () => token({ iss: `${issuer.url}/` })],
    ['a token without signature', () => new UnsecuredJWT(claims()).encode()],
    ['a token whose header says none', async () => withHeader(await token(), { alg: 'none' })],
    [
      'a token with a shared secret: the public key as such',
      () =>
        token({}, { alg: 'HS256' }, new TextEncoder().encode(JSON.stringify(issuer.jwks.keys[0]))),
    ],
    ['a signature by another key', () => token({}, {}, stranger)],
    ['a key that nobody published', () => token({}, { kid: 'k2' }, stranger)],
    ['no key at all', () => token({}, { kid: undefined })],
    [
      'its own key in the header',
      async () => token({}, { kid: undefined, jwk: issuer.jwks.keys[0] }),
    ],
    ['a token that has ended', () => token({ iat: now() - 400, exp: now() - 31 })],
    ['a token that is not valid yet', () => token({ nbf: now() + 60 })],
    ['a token of tomorrow', () => token({ iat: now() + 120, exp: now() + 300 })],
    ['a token that lives for days', () => token({ exp: now() + 13 * 3600 })],
    ['no end', () => token({ exp: undefined })],
    ['no beginning', () => token({ iat: undefined })],
    ['no subject', () => token({ sub: undefined })],
    ['an empty subject', () => token({ sub: '' })],
    ['a subject with a line feed', () => token({ sub: '0b5e\n' })],
    ['no name', () => token({ preferred_username: undefined })],
    ['a name with a line feed', () => token({ preferred_username: 'ida\nroot' })],
    ['groups that are no text', () => token({ groups: [{ name: GROUP }] })],
    ['more groups than anybody has', () => token({ groups: Array.from({ length: 501 }, String) })],
    ['a claim missing that must be there', () => token({ email_verified: undefined })],
    ['a claim that says something else', () => token({ email_verified: false })],
    ['a token of another type', () => token({}, { typ: 'logout+jwt' })],
    ['a critical header that nobody knows', () => withCritical()],
    ['text that is no token', () => 'a.b.c'],
    ['a changed payload', async () => changed(await token())],
  ]
  test.each(cases)('%s', async (_, make) => {
    await expect(ask(await make())).rejects.toMatchObject(UNKNOWN)
  })

  test('while the same token with nothing wrong is accepted', async () => {
    expect(await ask(await token())).toMatchObject({ name: 'ida' })
    expect(await ask(await token({ exp: now() - 20, iat: now() - 300 }))).toMatchObject({
      name: 'ida',
    })
  })
})

describe('the keys of the provider', () => {
  test('are asked for again for a key that is not there, but not for each that strangers invent', async () => {
    site.clock.advance(31_000)
    const before = issuer.fetched
    const flood = await Promise.allSettled(
      Array.from({ length: 40 }, async (_, at) =>
        ask(await token({}, { kid: `k${at}-new` }, stranger)),
      ),
    )
    expect(flood.every(({ status }) => status === 'rejected')).toBe(true)
    expect(issuer.fetched).toBe(before + 1)
  })

  test('are taken over when they change, and an old one is trusted no longer than ten minutes', async () => {
    const [old] = issuer.jwks.keys
    const pair = await generateKeyPair('RS256', { extractable: true })
    const next = { ...(await exportJWK(pair.publicKey)), kid: 'k2', alg: 'RS256', use: 'sig' }
    const oct = { kty: 'oct', k: 'c2VjcmV0', kid: 'k3' }
    issuer.jwks = { keys: [next, oct] }
    const byNew = () => token({}, { alg: 'RS256', kid: 'k2' }, pair.privateKey)
    site.clock.advance(31_000)
    expect(await ask(await byNew())).toMatchObject({ name: 'ida' })
    await expect(ask(await token())).rejects.toMatchObject(UNKNOWN)
    const wrong = token({}, { alg: 'RS256', kid: 'k1' }, pair.privateKey)
    await expect(ask(await wrong)).rejects.toMatchObject(UNKNOWN)

    issuer.jwks = { keys: old ? [old] : [] }
    expect(await ask(await byNew())).toMatchObject({ name: 'ida' })
    site.clock.advance(601_000)
    await expect(ask(await byNew())).rejects.toMatchObject(UNKNOWN)
    expect(await ask(await token())).toMatchObject({ name: 'ida' })
  })

  test('count for an hour while the provider is away, and then nobody is let in', async () => {
    issuer.broken = true
    site.clock.advance(50 * 60_000)
    expect(await ask(await token())).toMatchObject({ name: 'ida' })
    site.clock.advance(11 * 60_000)
    await expect(ask(await token())).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    issuer.broken = false
    site.clock.advance(31_000)
    expect(await ask(await token())).toMatchObject({ name: 'ida' })
  })

  test('are not taken from who says to be another provider', async () => {
    issuer.says = 'https://other.example'
    site.clock.advance(61 * 60_000)
    await expect(ask(await token())).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    issuer.says = issuer.url
  })
})

test('a provider whose certificate is by another authority is not believed', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'sgl-oidc-ca-'))
  const other = await createAuthority({
    ...{ commonName: 'Other', keyType: 'p384', validityDays: 2, now: Date.now() },
  })
  const caFile = join(folder, 'ca.pem')
  writeFileSync(caFile, other.certificatePem)
  await using elsewhere = await openTestSite({
    services: ['control-plane'],
    settings: {
      SIGILLO_OIDC_ISSUER: issuer.url,
      SIGILLO_OIDC_AUDIENCE: AUDIENCE,
      SIGILLO_OIDC_CA_FILE: caFile,
    },
  })
  await using client = clientWith(elsewhere, await token())
  await expect(client.call(getMe, {})).rejects.toMatchObject({ code: 'UNAVAILABLE' })
  rmSync(folder, { recursive: true })
})

test('groups of a provider are granted nothing where there is none, and of one before nothing holds', async () => {
  await using bare = await openTestSite({ services: ['control-plane'] })
  const principal = { kind: 'oidc-group' as const, name: GROUP }
  const body = { principal, role: 'read-only', scope: SITE }
  await expect(bare.admin.call(grantPermission, { body })).rejects.toMatchObject({
    code: 'CONFLICT',
  })
  await using client = clientWith(bare, await token())
  await expect(client.call(getMe, {})).rejects.toMatchObject(UNKNOWN)
})

function withHeader(text: string, header: object): string {
  const [, payload] = text.split('.')
  return `${Buffer.from(JSON.stringify({ kid: 'k1', ...header })).toString('base64url')}.${payload}.`
}

async function withCritical(): Promise<string> {
  return new SignJWT(claims())
    .setProtectedHeader({ alg: 'ES256', kid: 'k1', crit: ['b64'], b64: true })
    .sign(key)
    .then((text) => {
      const [header = '', ...rest] = text.split('.')
      const parsed = JSON.parse(Buffer.from(header, 'base64url').toString()) as object
      const odd = { ...parsed, crit: ['exotic'], exotic: 1 }
      return [Buffer.from(JSON.stringify(odd)).toString('base64url'), ...rest].join('.')
    })
}

function changed(text: string): string {
  const [header, payload = '', signature] = text.split('.')
  const parsed = JSON.parse(Buffer.from(payload, 'base64url').toString()) as object
  const more = { ...parsed, groups: ['administrators'] }
  return [header, Buffer.from(JSON.stringify(more)).toString('base64url'), signature].join('.')
}
