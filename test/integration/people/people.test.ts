import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Client } from '../../../src/api/client.js'
import { createCluster, listClusters, listEvents, listVms } from '../../../src/api/control-plane.js'
import { listHosts } from '../../../src/api/hosts.js'
import {
  createAccountToken,
  createRole,
  createServiceAccount,
  createUser,
  deleteAccount,
  deleteRole,
  getMe,
  grantPermission,
  listAccounts,
  listAccountTokens,
  listPeopleAudit,
  listPermissions,
  listRoles,
  login,
  logout,
  revokeAccountToken,
  revokePermission,
  setAccountState,
  setOwnPassword,
  setRole,
  setUserPassword,
  verifyPeopleAudit,
} from '../../../src/api/people.js'
import { openTestSite, type TestSite } from '../../helpers/site.js'
import { clientWith, newAccount, newRole, newUser, PASSWORD, SITE } from './support.js'

let site: TestSite
beforeAll(async () => {
  site = await openTestSite({ settings: { SIGILLO_PEOPLE_LOGINS_PER_MINUTE: '1000' } })
  for (const name of ['lab', 'depot']) await site.admin.call(createCluster, { body: { name } })
})
afterAll(() => site?.[Symbol.asyncDispose]())

const user = (name: string) => ({ kind: 'user' as const, name })
const enter = (name: string, password = PASSWORD) =>
  site.anybody.call(login, { body: { name, password } })
const FORBIDDEN = (privilege: string) => ({
  code: 'FORBIDDEN',
  message: expect.stringContaining(`expected privilege ${privilege} on `),
})
const auditOf = async (subject: string) =>
  (await site.admin.call(listPeopleAudit, { query: { subject } })).records.map(
    ({ actor, action, outcome }) => `${actor} ${action} ${outcome}`,
  )

describe('a user', () => {
  test('logs in, may do what was granted, and logs out', async () => {
    await using anna = await newUser(site, 'anna', { role: 'read-only' })
    expect(await anna.call(getMe, {})).toMatchObject({
      ...{ kind: 'user', name: 'anna' },
      permissions: [{ role: 'read-only', scope: SITE, privileges: ['System.Read'] }],
    })
    const { clusters } = await anna.call(listClusters, {})
    expect(clusters.map(({ name }) => name)).toEqual(['depot', 'lab'])
    await expect(anna.call(createCluster, { body: { name: 'x' } })).rejects.toMatchObject(
      FORBIDDEN('Host.Inventory.EditCluster'),
    )
    await expect(anna.call(listHosts, {})).rejects.toMatchObject(
      FORBIDDEN('TrustedAdmin.ReadTrustedHosts'),
    )
    await anna.call(logout, {})
    await expect(anna.call(getMe, {})).rejects.toMatchObject({ code: 'UNAUTHENTICATED' })
    expect(await auditOf('user:anna')).toEqual([
      'operator:admin user.create done',
      'operator:admin permission.grant done',
      'user:anna login done',
      'user:anna logout done',
    ])
  })

  test('is let in no longer once the token has ended, or the user was disabled', async () => {
    await using bert = await newUser(site, 'bert', { role: 'read-only' })
    await site.admin.call(setAccountState, { params: user('bert'), body: { state: 'disabled' } })
    await expect(bert.call(getMe, {})).rejects.toMatchObject({ code: 'UNAUTHENTICATED' })
    await expect(enter('bert')).rejects.toMatchObject({ code: 'UNAUTHENTICATED' })
    await site.admin.call(setAccountState, { params: user('bert'), body: { state: 'active' } })
    expect(await bert.call(getMe, {})).toMatchObject({ name: 'bert' })
    site.clock.advance(12 * 3_600_000)
    await expect(bert.call(getMe, {})).rejects.toMatchObject({ code: 'UNAUTHENTICATED' })
  })

  test('changes the own password with the one of before, and every token ends', async () => {
    await using carl = await newUser(site, 'carl')
    const next = 'a longer password than before'
    const change = (current: string) => carl.call(setOwnPassword, { body: { current, next } })
    await expect(change('not the password')).rejects.toMatchObject({ code: 'FORBIDDEN' })
    await change(PASSWORD)
    await expect(carl.call(getMe, {})).rejects.toMatchObject({ code: 'UNAUTHENTICATED' })
    await expect(enter('carl')).rejects.toMatchObject({ code: 'UNAUTHENTICATED' })
    expect(await enter('carl', next)).toMatchObject({ token: expect.stringMatching(/^sgl_ut_/) })
  })

  test('has a password that is long enough, and not one word over and over', async () => {
    for (const password of ['short', 'aaaaaaaaaaaaaaaaaaaa', 'dorodorodorodorodoro']) {
      const made = site.admin.call(createUser, { body: { name: 'doro', password } })
      await expect(made).rejects.toMatchObject({ code: 'REQUEST_INVALID' })
    }
    const taken = site.admin.call(createUser, { body: { name: 'carl', password: PASSWORD } })
    await expect(taken).rejects.toMatchObject({ code: 'CONFLICT' })
  })
})

describe('guessing passwords', () => {
  test('a wrong password and an unknown name are answered alike', async () => {
    await newUser(site, 'emil')
    const refusals = await Promise.all(
      [
        { name: 'emil', password: 'some other password' },
        { name: 'nobody-of-this-name', password: PASSWORD },
      ].map((body) => site.anybody.call(login, { body }).catch((error: unknown) => error)),
    )
    for (const refusal of refusals) {
      expect(refusal).toMatchObject({ code: 'UNAUTHENTICATED', message: 'the caller is not known' })
    }
    expect(await auditOf('user:emil')).toContain('unknown login refused')
    expect(await auditOf('user:nobody-of-this-name')).toEqual([])
  })

  test('has to wait after some attempts, for a name that exists or not, and a right password forgets them', async () => {
    await newUser(site, 'frida')
    using _ = site.clock.standStill()
    for (const name of ['frida', 'nobody-else']) {
      for (let at = 0; at < 5; at += 1) {
        await expect(enter(name, 'guess')).rejects.toMatchObject({ code: 'UNAUTHENTICATED' })
      }
      await expect(enter(name, 'guess')).rejects.toMatchObject({ code: 'RATE_LIMITED' })
    }
    await expect(enter('frida')).rejects.toMatchObject({ code: 'RATE_LIMITED' })
    site.clock.advance(1_000)
    await expect(enter('frida', 'guess')).rejects.toMatchObject({ code: 'UNAUTHENTICATED' })
    site.clock.advance(1_000)
    await expect(enter('frida')).rejects.toMatchObject({ code: 'RATE_LIMITED' })
    site.clock.advance(1_000)
    expect(await enter('frida')).toMatchObject({ token: expect.any(String) })
    await expect(enter('frida', 'guess')).rejects.toMatchObject({ code: 'UNAUTHENTICATED' })
  })

  test('attempts beside one another are counted before any is answered', async () => {
    await newUser(site, 'gerd')
    using _ = site.clock.standStill()
    const answers = await Promise.allSettled(
      Array.from({ length: 12 }, () => enter('gerd', 'guess')),
    )
    const codes = answers.map((answer) =>
      answer.status === 'rejected' ? answer.reason.code : 'in',
    )
    expect(codes.filter((code) => code === 'UNAUTHENTICATED')).toHaveLength(5)
    expect(codes.filter((code) => code === 'RATE_LIMITED')).toHaveLength(7)
  })
})

describe('a service account', () => {
  test('has tokens that are listed, end, and are revoked; and no password', async () => {
    await using robot = await newAccount(site, 'robot', { role: 'read-only' })
    const params = { kind: 'service-account' as const, name: 'robot' }
    const { token, tokenId } = await site.admin.call(createAccountToken, {
      params: { name: 'robot' },
      body: { note: 'second', ttlSeconds: 60 },
    })
    await using second = clientWith(site, token)
    expect(await second.call(getMe, {})).toMatchObject({ kind: 'service-account', name: 'robot' })
    const listed = await site.admin.call(listAccountTokens, { params })
    expect(listed.tokens.map(({ note }) => note)).toEqual(['test', 'second'])
    expect(JSON.stringify(listed)).not.toContain('sgl_')
    await site.admin.call(revokeAccountToken, { params: { ...params, tokenId } })
    await expect(second.call(getMe, {})).rejects.toMatchObject({ code: 'UNAUTHENTICATED' })
    expect(await robot.call(getMe, {})).toMatchObject({ name: 'robot' })
    site.clock.advance(3_600_000)
    await expect(robot.call(getMe, {})).rejects.toMatchObject({ code: 'UNAUTHENTICATED' })
    await expect(enter('robot')).rejects.toMatchObject({ code: 'UNAUTHENTICATED' })
    await expect(robot.call(listClusters, {})).rejects.toMatchObject({ code: 'UNAUTHENTICATED' })
  })

  test('is gone with its tokens and permissions', async () => {
    await using brief = await newAccount(site, 'brief', { role: 'read-only' })
    await site.admin.call(deleteAccount, { params: { kind: 'service-account', name: 'brief' } })
    await expect(brief.call(getMe, {})).rejects.toMatchObject({ code: 'UNAUTHENTICATED' })
    await site.admin.call(createServiceAccount, { body: { name: 'brief' } })
    const { permissions } = await site.admin.call(listPermissions, {})
    expect(permissions.filter(({ principal }) => principal.name === 'brief')).toEqual([])
  })
})

describe('a role', () => {
  test('gives what it is made of, and what it becomes, to all who have it at once', async () => {
    await newRole(site, 'looker', ['System.Read'])
    await using hans = await newAccount(site, 'hans', { role: 'looker' })
    await hans.call(listClusters, {})
    const params = { role: 'looker' }
    const set = (privileges: ['Host.Inventory.EditCluster'] | ['System.Read']) =>
      site.admin.call(setRole, { params, body: { privileges } })
    await set(['Host.Inventory.EditCluster'])
    await expect(hans.call(listClusters, {})).rejects.toMatchObject(FORBIDDEN('System.Read'))
    await hans.call(createCluster, { body: { name: 'of-hans' } })
    await expect(site.admin.call(deleteRole, { params })).rejects.toMatchObject({
      code: 'CONFLICT',
    })
  })

  test('that is built in is not changed, and a privilege that nobody knows is none', async () => {
    const params = { role: 'administrator' }
    const body = { privileges: ['System.Read' as const] }
    await expect(site.admin.call(setRole, { params, body })).rejects.toMatchObject({
      code: 'CONFLICT',
    })
    await expect(site.admin.call(deleteRole, { params })).rejects.toMatchObject({
      code: 'CONFLICT',
    })
    const invented = { name: 'inventor', privileges: ['VirtualMachine.Fly' as 'System.Read'] }
    await expect(site.admin.call(createRole, { body: invented })).rejects.toMatchObject({
      code: 'REQUEST_INVALID',
    })
    const { roles } = await site.admin.call(listRoles, {})
    expect(roles.filter(({ builtIn }) => builtIn).map(({ name }) => name)).toEqual([
      ...['administrator', 'no-cryptography-administrator', 'read-only'],
      ...['trust-authority-administrator', 'trust-authority-auditor'],
    ])
  })
})

describe('nobody gets more than somebody had', () => {
  let workloads: Client
  let plain: Client
  beforeAll(async () => {
    workloads = await newAccount(site, 'workloads', { role: 'administrator' })
    plain = await newAccount(site, 'plain', { role: 'no-cryptography-administrator' })
    await newUser(site, 'target')
  })
  afterAll(async () => {
    await workloads?.[Symbol.asyncDispose]()
    await plain?.[Symbol.asyncDispose]()
  })
  const grant = (client: Client, role: string, name = 'target') =>
    client.call(grantPermission, { body: { principal: user(name), role, scope: SITE } })

  test('who has not a privilege does not grant, revoke or edit it', async () => {
    await expect(grant(workloads, 'trust-authority-administrator')).rejects.toMatchObject(
      FORBIDDEN('TrustedAdmin.ReadTrustedHosts'),
    )
    await expect(grant(plain, 'administrator')).rejects.toMatchObject(
      FORBIDDEN('Cryptographer.Access'),
    )
    const body = { name: 'sly', privileges: ['Cryptographer.ManageKeys' as const] }
    await expect(plain.call(createRole, { body })).rejects.toMatchObject(
      FORBIDDEN('Cryptographer.ManageKeys'),
    )
    await site.admin.call(createRole, { body })
    const smaller = { params: { role: 'sly' }, body: { privileges: ['System.Read' as const] } }
    await expect(plain.call(setRole, smaller)).rejects.toMatchObject(
      FORBIDDEN('Cryptographer.ManageKeys'),
    )
    await expect(plain.call(deleteRole, { params: { role: 'sly' } })).rejects.toMatchObject(
      FORBIDDEN('Cryptographer.ManageKeys'),
    )
    const { permissionId } = await grant(site.admin, 'trust-authority-auditor')
    await expect(
      workloads.call(revokePermission, { params: { permissionId } }),
    ).rejects.toMatchObject(FORBIDDEN('TrustedAdmin.ReadTrustedHosts'))
    await grant(plain, 'read-only')
    expect(await auditOf('route:POST /people/v1/permissions')).toContain(
      'service-account:workloads caller.authorize refused',
    )
  })

  test('who has less than somebody gets no password, token or account of them', async () => {
    const body = { password: 'another password of mine' }
    const params = { name: 'target' }
    await expect(workloads.call(setUserPassword, { params, body })).rejects.toMatchObject(
      FORBIDDEN('TrustedAdmin.ReadTrustedHosts'),
    )
    const state = { params: user('target'), body: { state: 'disabled' as const } }
    await expect(workloads.call(setAccountState, state)).rejects.toMatchObject({
      code: 'FORBIDDEN',
    })
    await expect(workloads.call(deleteAccount, { params: user('target') })).rejects.toMatchObject({
      code: 'FORBIDDEN',
    })
    await newAccount(site, 'auditing', { role: 'trust-authority-auditor' })
    const token = { params: { name: 'auditing' }, body: { note: 'mine', ttlSeconds: 60 } }
    await expect(workloads.call(createAccountToken, token)).rejects.toMatchObject({
      code: 'FORBIDDEN',
    })
  })

  test('who may grant in one cluster grants there alone', async () => {
    const granter = await newRole(site, 'granter', [
      'Authorization.ModifyPermissions',
      'System.Read',
    ])
    const scope = { kind: 'cluster' as const, name: 'lab' }
    await using lead = await newAccount(site, 'lead', { role: granter, scope })
    const principal = user('target')
    const given = await lead.call(grantPermission, {
      body: { principal, role: 'read-only', scope },
    })
    const { permissions } = await lead.call(listPermissions, {})
    expect(permissions.map((one) => one.scope)).toEqual([scope, scope])
    await expect(grant(lead, 'read-only')).rejects.toMatchObject(
      FORBIDDEN('Authorization.ModifyPermissions'),
    )
    const elsewhere = { principal, role: 'read-only', scope: { ...scope, name: 'depot' } }
    await expect(lead.call(grantPermission, { body: elsewhere })).rejects.toMatchObject(
      FORBIDDEN('Authorization.ModifyPermissions'),
    )
    await expect(
      lead.call(createUser, { body: { name: 'new', password: PASSWORD } }),
    ).rejects.toMatchObject(FORBIDDEN('Authorization.ModifyPermissions'))
    await lead.call(revokePermission, { params: { permissionId: given.permissionId } })
  })
})

describe('lists', () => {
  test('show what a person may read and nothing else', async () => {
    const scope = { kind: 'cluster' as const, name: 'lab' }
    await using lena = await newAccount(site, 'lena', { role: 'read-only', scope })
    const { clusters } = await lena.call(listClusters, {})
    expect(clusters.map(({ name }) => name)).toEqual(['lab'])
    expect(await lena.call(listVms, { query: {} })).toEqual({ vms: [] })
    const { events } = await lena.call(listEvents, { query: {} })
    expect(events.map(({ type, subject }) => [type, subject])).toEqual([
      ['cluster.created', 'cluster:lab'],
    ])
    await expect(lena.call(listAccounts, {})).rejects.toMatchObject(FORBIDDEN('System.Read'))
  })
})

test('every act is in the audit, whose chain is whole', async () => {
  expect(await site.admin.call(verifyPeopleAudit, {})).toMatchObject({ intact: true })
})
