import { readFileSync } from 'node:fs'
import { Agent, request } from 'undici'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { grantPermission } from '../../../src/api/people.js'
import { PRIVILEGES, type Privilege } from '../../../src/api/privileges.js'
import { openTestSite, type TestSite } from '../../helpers/site.js'
import { clientWith, newAccountToken, newRole, SITE } from './support.js'

const APPS = ['attestation', 'key-provider', 'control-plane', 'operator', 'people']
const EVERY_PRIVILEGE = Object.keys(PRIVILEGES) as readonly Privilege[]

interface Route {
  readonly id: string
  readonly method: string
  readonly path: string
  readonly kind: 'public' | 'host' | 'person'
  readonly privileges: readonly Privilege[]
}

let site: TestSite
let agent: Agent
let routes: readonly Route[]
let forPeople: readonly Route[]

beforeAll(async () => {
  site = await openTestSite()
  agent = new Agent({ connect: { ca: site.caPem }, connections: 8 })
  routes = (await Promise.all(APPS.map(routesOf))).flat()
  forPeople = routes.filter(({ kind }) => kind === 'person')
})
afterAll(async () => {
  await agent?.close()
  await site?.[Symbol.asyncDispose]()
})

/** The routes of an app, from the document that it describes itself by. */
async function routesOf(app: string): Promise<readonly Route[]> {
  const { paths } = (await get(`/${app}/v1/openapi.json`)) as {
    readonly paths: Readonly<Record<string, Readonly<Record<string, Described>>>>
  }
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, described]) => ({
      ...{ id: described.operationId, method: method.toUpperCase(), path },
      kind: kindOf(described),
      privileges: described['x-privileges'] ?? [],
    })),
  )
}

interface Described {
  readonly operationId: string
  readonly security: readonly Readonly<Record<string, unknown>>[]
  readonly 'x-privileges'?: readonly Privilege[]
}

function kindOf({ security }: Described): Route['kind'] {
  const [scheme] = security
  if (!scheme) return 'public'
  return 'host' in scheme ? 'host' : 'person'
}

async function get(path: string): Promise<unknown> {
  const answer = await request(`${site.url}${path}`, { dispatcher: agent })
  return answer.body.json()
}

/**
 * Whether a caller gets past the door of a route. The request fits no schema (a member of the query that no operation has,
 * a body that is no JSON), so that it is refused right behind the door and does nothing.
 */
async function ask({ method, path }: Route, token: string): Promise<'in' | string> {
  const answer = await request(`${site.url}${path.replace(/\{\w+\}/g, 'x')}?no-such-member=1`, {
    dispatcher: agent,
    method: method as 'GET',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'text/plain' },
    body: method === 'POST' || method === 'PUT' ? 'nothing' : null,
  })
  const { code, detail } = (await answer.body.json()) as { code: string; detail?: string }
  if (code === 'REQUEST_INVALID' || code === 'MEDIA_TYPE') return 'in'
  return `${answer.statusCode} ${code} ${detail ?? ''}`.trim()
}

const refused = (privilege: string | undefined) =>
  expect.stringMatching(
    new RegExp(
      `^403 FORBIDDEN expected privilege ${privilege} on (the site|some object), found it missing$`,
    ),
  )

async function answersOf(token: string): Promise<ReadonlyMap<string, string>> {
  const answers = await Promise.all(
    forPeople.map(async (route) => [route.id, await ask(route, token)] as const),
  )
  return new Map(answers)
}

test('every operation is for anybody, for hosts, or says which privileges people need', () => {
  expect(forPeople.length).toBeGreaterThan(100)
  expect(new Set(routes.map(({ id }) => id)).size).toBe(routes.length)
  const open = routes.filter(({ kind }) => kind === 'public').map(({ id }) => id)
  expect(open.filter((id) => !/^get-.*-(health|openapi-json)$/.test(id)).sort()).toEqual([
    ...['activateEnrolment', 'createAttestation', 'createEnrolment', 'createGuestAttestation'],
    ...['createGuestChallenge', 'createNonce'],
    ...['getDiscovery', 'getJwks', 'getVtpmAuthority', 'getVtpmRevocationList'],
    ...['getVtpmRevocationListFile', 'login'],
  ])
  const aboutSelf = forPeople.filter(({ privileges }) => privileges.length === 0)
  expect(aboutSelf.map(({ id }) => id).sort()).toEqual([
    ...['getMe', 'listRoles', 'logout', 'setOwnPassword'],
  ])
  const unknown = forPeople
    .flatMap(({ privileges }) => privileges)
    .filter((one) => !(one in PRIVILEGES))
  expect(unknown).toEqual([])
})

test('the page of privileges has every operation with what it needs', () => {
  const page = readFileSync('docs/privileges.md', 'utf8')
  const missing = forPeople.filter(({ id, privileges }) => {
    const row = page.split('\n').find((line) => line.startsWith(`| \`${id}\` |`))
    return !row || !privileges.every((privilege) => row.includes(`\`${privilege}\``))
  })
  expect(missing.map(({ id }) => id)).toEqual([])
})

test('who has exactly the privileges of an operation is let through, and refused what needs others', async () => {
  const sets = new Map(
    forPeople.map(({ privileges }) => [[...privileges].sort().join(' '), privileges]),
  )
  sets.delete('')
  for (const [at, privileges] of [...sets.values()].entries()) {
    const role = await newRole(site, `exact-${at}`, privileges)
    const answers = await answersOf(await newAccountToken(site, `exact-${at}`, { role }))
    const expected = forPeople.map((route) => {
      const missing = route.privileges.find((one) => !privileges.includes(one))
      return [route.id, missing === undefined ? 'in' : refused(missing)] as const
    })
    expect(answers).toEqual(new Map(expected))
  }
})

test('who has every privilege but one is refused what needs it, and nothing else', async () => {
  for (const privilege of EVERY_PRIVILEGE) {
    const name = `without-${privilege.toLowerCase()}`
    const role = await newRole(
      site,
      name,
      EVERY_PRIVILEGE.filter((one) => one !== privilege),
    )
    const answers = await answersOf(await newAccountToken(site, name, { role }))
    const expected = forPeople.map(({ id, privileges }) =>
      privileges.includes(privilege) ? ([id, refused(privilege)] as const) : ([id, 'in'] as const),
    )
    expect(answers).toEqual(new Map(expected))
  }
})

test('neither the administrator of workloads nor that of the trust authority can do an act of the other', async () => {
  const administrator = await answersOf(
    await newAccountToken(site, 'workloads', { role: 'administrator' }),
  )
  const trust = await answersOf(
    await newAccountToken(site, 'trust', { role: 'trust-authority-administrator' }),
  )
  const both = forPeople.filter(
    ({ id, privileges }) =>
      privileges.length > 0 && administrator.get(id) === 'in' && trust.get(id) === 'in',
  )
  expect(both).toEqual([])
  const of = (answers: ReadonlyMap<string, string>, id: string) => answers.get(id)
  for (const { id, path, privileges } of forPeople.filter((one) => one.privileges.length > 0)) {
    const isTrust = /^\/(attestation|key-provider|operator\/v1\/(attestation|key-provider))\//.test(
      path,
    )
    expect([id, of(trust, id)]).toEqual([id, isTrust ? 'in' : refused(privileges[0])])
    expect([id, of(administrator, id)]).toEqual([id, isTrust ? refused(privileges[0]) : 'in'])
  }
})

test('an administrator without cryptography does all but cryptography, and gives nobody what that is', async () => {
  const role = 'no-cryptography-administrator'
  const token = await newAccountToken(site, 'plain', { role })
  const answers = await answersOf(token)
  const lacks = (privilege: string) => /^(Cryptographer|TrustedAdmin)\./.test(privilege)
  for (const { id, privileges } of forPeople) {
    const missing = privileges.find(lacks)
    expect([id, answers.get(id)]).toEqual([id, missing ? refused(missing) : 'in'])
  }
  await using plain = clientWith(site, token)
  const principal = { kind: 'service-account' as const, name: 'plain' }
  const body = { principal, role: 'administrator', scope: SITE }
  await expect(plain.call(grantPermission, { body })).rejects.toMatchObject({ code: 'FORBIDDEN' })
})

test('who may nothing is refused everything but what is about themselves', async () => {
  const answers = await answersOf(await newAccountToken(site, 'nobody'))
  for (const { id, privileges } of forPeople) {
    expect([id, answers.get(id)]).toEqual([
      id,
      privileges.length > 0 ? refused(privileges[0]) : 'in',
    ])
  }
})

test('who is not known is refused everything', async () => {
  const answers = await answersOf(`sgl_sa_${'x'.repeat(43)}`)
  expect(new Set(answers.values())).toEqual(new Set(['401 UNAUTHENTICATED']))
})
