import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openTestSite, type TestSite } from '../../helpers/site.js'
import { run } from '../cli/sigillo.js'

let site: TestSite
let folder: string
const file = (name: string) => join(folder, name)

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'sgl-people-'))
  site = await openTestSite({ services: ['control-plane'] })
  writeFileSync(file('password'), 'seven green bottles on a wall\n', { mode: 0o600 })
  writeFileSync(file('next'), 'six green bottles on the wall\n', { mode: 0o600 })
})
afterAll(async () => {
  await site?.[Symbol.asyncDispose]()
  rmSync(folder, { recursive: true, force: true })
})

const admin = (...args: readonly string[]) => run('main', ...args, '--site', site.folder)
const anna = (...args: readonly string[]) => {
  const connection = ['--url', site.url, '--ca-file', site.caFile]
  return run('main', ...args, ...connection, '--token-file', file('anna.token'))
}

test('a user is made, granted a role in a cluster, logs in, and logs out', async () => {
  await admin('cluster', 'create', 'lab')
  await admin('cluster', 'create', 'depot')
  const made = await admin('user', 'create', 'anna', '--password-file', file('password'))
  expect(made).toMatchObject({ status: 0, out: 'user anna: active\n' })
  const role = ['role', 'create', 'looker', 'System.Read']
  expect(await admin(...role)).toMatchObject({ status: 0, out: 'role looker made\n' })
  const grant = ['permission', 'grant', '--user', 'anna', '--role', 'looker', '--on', 'cluster:lab']
  expect(await admin(...grant)).toMatchObject({ status: 0 })

  const login = await anna('login', 'anna', '--password-file', file('password'))
  expect(login).toMatchObject({
    status: 0,
    out: expect.stringMatching(/^logged in as anna until /),
  })
  expect(statSync(file('anna.token')).mode & 0o777).toBe(0o600)
  const token = readFileSync(file('anna.token'), 'utf8').trim()
  expect(login.out + login.err).not.toContain(token)

  const who = await anna('whoami', '--json')
  expect(JSON.parse(who.out)).toMatchObject({
    ...{ kind: 'user', name: 'anna' },
    permissions: [{ role: 'looker', scope: { kind: 'cluster', name: 'lab' } }],
  })
  const clusters = await anna('cluster', 'list', '--json')
  expect(JSON.parse(clusters.out).clusters).toMatchObject([{ name: 'lab' }])
  const refused = await anna('cluster', 'create', 'mine')
  expect(refused).toMatchObject({ status: 1, out: '' })
  expect(refused.err).toContain('expected privilege Host.Inventory.EditCluster on the site')
  expect(refused.err).toContain('hint: see what you may do: sigillo whoami')

  expect(await anna('logout')).toMatchObject({ status: 0, out: 'logged out\n' })
  expect(existsSync(file('anna.token'))).toBe(false)
  writeFileSync(file('anna.token'), token, { mode: 0o600 })
  expect((await anna('whoami')).err).toContain('UNAUTHENTICATED')
})

test('a password is changed, and is never an argument', async () => {
  await anna('login', 'anna', '--password-file', file('password'))
  const files = ['--password-file', file('password'), '--new-password-file', file('next')]
  expect(await anna('password', ...files)).toMatchObject({ status: 0 })
  const old = await anna('login', 'anna', '--password-file', file('password'))
  expect(old).toMatchObject({ status: 1, err: expect.stringContaining('UNAUTHENTICATED') })
  expect(await anna('login', 'anna', '--password-file', file('next'))).toMatchObject({ status: 0 })
  const asked = await anna('login', 'anna')
  expect(asked).toMatchObject({ status: 1, err: expect.stringContaining('expected a terminal') })
  expect(await anna('login', 'anna', '--password', 'x')).toMatchObject({ status: 2 })
})

test('a service account has tokens; lists are tables; what cannot be undone is confirmed', async () => {
  await admin('service-account', 'create', 'ci')
  const { out } = await admin('service-account', 'create-token', 'ci', '--note', 'nightly')
  expect(out).toMatch(/^sgl_sa_[A-Za-z0-9_-]{43}\n$/)
  expect((await admin('service-account', 'tokens', 'ci')).out).toContain('nightly')
  expect((await admin('user', 'list')).out).toMatch(/^NAME +STATE +MADE +BY\nanna +active/)
  expect((await admin('permission', 'list')).out).toContain('cluster:lab')
  expect((await admin('operator', 'list')).out).toMatch(/admin +administrator/)
  expect((await admin('audit', 'people', 'verify')).out).toMatch(/intact: +yes/)
  expect((await admin('user', 'delete', 'anna')).err).toContain('say --yes to do it')
  const last = await admin('operator', 'revoke', 'admin', '--yes')
  expect(last.err).toContain('LAST_ADMINISTRATOR')
  expect((await admin('permission', 'grant', '--role', 'looker')).err).toContain('expected one of')
  const odd = ['permission', 'grant', '--user', 'anna', '--role', 'looker', '--on', 'planet:mars']
  expect(await admin(...odd)).toMatchObject({ status: 2 })
})
