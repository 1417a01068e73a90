import { afterAll, beforeAll, expect, test } from 'vitest'
import { type RunningKmipServer, startKmipServer } from '../../../src/kmip/index.js'
import { openTestSite, type TestSite } from '../../helpers/site.js'
import { type Certificate, TestAuthority } from '../kmip/client-certificates.js'
import { sigillo } from './sigillo.js'

let authority: TestAuthority
let client: Certificate
let server: RunningKmipServer
let site: TestSite

beforeAll(async () => {
  authority = new TestAuthority()
  client = authority.client()
  const { certificate, key } = authority.server()
  const tls = { authorities: authority.authority.certificate, certificate, privateKey: key }
  server = await startKmipServer({ tls })
  site = await openTestSite({ services: ['key-provider'] })
})
afterAll(async () => {
  await site[Symbol.asyncDispose]()
  await server[Symbol.asyncDispose]()
  authority[Symbol.dispose]()
})

const run = (...args: readonly string[]) => sigillo(...args, '--site', site.folder)

test('a provider is made with key servers, shown, tested, and said to be broken when it is', async () => {
  const made = await run(
    ...['provider', 'create', 'vault', '--cluster', 'lab', '--keep-keys'],
    ...['--server', `localhost:${server.port}`, '--kms-ca', authority.authority.certificatePath],
    ...['--client-certificate', client.certificatePath, '--client-key', client.keyPath],
  )
  expect(made).toMatchObject({ status: 0, err: '' })
  const shown = await run('provider', 'show', 'vault')
  expect(shown.out).toContain('stays in the key servers')
  expect(shown.out).toContain(`localhost:${server.port}`)
  expect(shown.out).toMatch(/version 1: active, made .*, 0 wrapped keys/)
  expect(shown.out).toContain('x-Component: Key Provider')
  expect(shown.out).toContain('x-Name: vault')

  const well = await run('kmip', 'test', 'vault')
  expect(well).toMatchObject({ status: 0, err: '' })
  expect(well.out).toMatch(/ok {3}localhost:\d+ probe: .*A256GCM/)
  await server[Symbol.asyncDispose]()
  const broken = await run('provider', 'test', 'vault')
  expect(broken.status).toBe(3)
  expect(broken.out).toMatch(/FAIL localhost:\d+ tcp: .*KMS_UNREACHABLE/)
  expect(broken.out).toContain('test unreachable')
})
