import { type AddressInfo, createServer } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { ConnectionTest, KeyServersInput } from '../../../src/api/key-servers.js'
import {
  creationAttributes,
  describeKey,
  type KeyPlace,
  openKeyServerClient,
  parseKeyServers,
  requirePassed,
  testKeyServers,
  useAttributes,
} from '../../../src/key-servers/index.js'
import { freePort } from '../../helpers/free-port.js'
import { TestAuthority } from '../kmip/client-certificates.js'
import { ScriptedServer } from '../kmip/client-hostile-server.js'
import { hasPykmip, PykmipServer } from '../kmip/client-pykmip.js'
import { inputFor } from './support.js'

const DAY_MS = 86_400_000
const timeouts = { connectMs: 1_000, requestMs: 1_000, overallMs: 2_000 }

let authority: TestAuthority

beforeAll(() => {
  authority = new TestAuthority()
})
afterAll(() => authority[Symbol.dispose]())

async function run(
  input: KeyServersInput,
  place: KeyPlace = 'fetched',
  nowMs = Date.now(),
): Promise<ConnectionTest> {
  using servers = parseKeyServers(input)
  return await testKeyServers(servers, { place, nowMs, timeouts })
}

const failuresOf = ({ findings }: ConnectionTest) =>
  findings.filter(({ result }) => result === 'failed').map(({ step, code }) => ({ step, code }))
const wordsOf = ({ findings }: ConnectionTest) => findings.map(({ message }) => message).join('\n')

describe.skipIf(!hasPykmip())('with the foreign server PyKMIP', () => {
  let server: PykmipServer
  beforeAll(async () => {
    server = await PykmipServer.start(authority)
  })
  afterAll(() => server[Symbol.asyncDispose]())

  test('a server that is well passes every step, and no probe stays there', async () => {
    const result = await run(inputFor(authority, [server.port]))
    expect(result.verdict).toBe('passed')
    expect(result.findings.map(({ step }) => step)).toEqual(
      expect.arrayContaining([
        'name',
        'tcp',
        'tls',
        'certificate',
        'versions',
        'operations',
        'probe',
      ]),
    )
    expect(wordsOf(result)).toContain('KMIP 2.0 is spoken')
    expect(wordsOf(result)).toContain('keys get no custom attributes')
    using servers = parseKeyServers(inputFor(authority, [server.port]))
    await using client = openKeyServerClient(servers)
    expect(await client.locate({ attributes: [] })).toEqual([])
  })

  test('a server that keeps its keys passes with authenticated encryption', async () => {
    const result = await run(inputFor(authority, [server.port]), 'kept')
    expect(failuresOf(result)).toEqual([])
    expect(wordsOf(result)).toContain('A256GCM')
  })

  test('warns of certificates that end soon, and refuses expired ones', async () => {
    const soon = await run(inputFor(authority, [server.port]))
    expect(wordsOf(soon)).toContain('less than 7 days are left')
    const late = await run(inputFor(authority, [server.port]), 'fetched', Date.now() + 3 * DAY_MS)
    expect(failuresOf(late)).toContainEqual({ step: 'certificate', code: 'KMS_TLS' })
    expect(late.verdict).toBe('failed')
  })

  test('says that a certificate is for another name, and accepts the name that it is told', async () => {
    const servers = [{ host: '127.0.0.1', port: server.port, serverName: 'kms.test' }]
    const result = await run(inputFor(authority, [], { servers }))
    expect(failuresOf(result)).toEqual([{ step: 'tls', code: 'KMS_TLS' }])
    expect(wordsOf(result)).toContain('kms.test')
    const named = [{ host: '127.0.0.1', port: server.port, serverName: 'localhost' }]
    expect((await run(inputFor(authority, [], { servers: named }))).verdict).toBe('passed')
  })

  test('says that the authority of the server is not trusted here', async () => {
    using other = new TestAuthority()
    const authorities = other.authority.certificate
    const result = await run(inputFor(authority, [server.port], { authorities }))
    expect(failuresOf(result)).toEqual([{ step: 'tls', code: 'KMS_TLS' }])
    expect(wordsOf(result)).toContain('no authority that is trusted here')
  })

  test('says that our certificate is not accepted there', async () => {
    using other = new TestAuthority()
    const { certificate, key: privateKey } = other.client()
    const foreign = await run(inputFor(authority, [server.port], { certificate, privateKey }))
    expect(failuresOf(foreign)).toEqual([{ step: 'tls', code: 'KMS_TLS' }])
    expect(wordsOf(foreign)).toContain('has to be made known there')
    const wrongUse = authority.server()
    const result = await run(
      inputFor(authority, [server.port], {
        certificate: wrongUse.certificate,
        privateKey: wrongUse.key,
      }),
    )
    expect(failuresOf(result)).toEqual([{ step: 'tls', code: 'KMS_TLS' }])
    expect(wordsOf(result)).toContain('clientAuth')
  })

  test('says that two servers are no replicas of one another', async () => {
    await using another = await PykmipServer.start(authority)
    const result = await run(inputFor(authority, [server.port, another.port]))
    expect(failuresOf(result)).toEqual([{ step: 'replica', code: 'KMS_KEY_NOT_FOUND' }])
    expect(() => requirePassed(result, true)).toThrow(
      expect.objectContaining({ code: 'KEY_SERVERS_TEST' }),
    )
  })

  test('a server that takes no custom attributes is told of, and the key is made all the same', async () => {
    using servers = parseKeyServers(inputFor(authority, [server.port]))
    await using client = openKeyServerClient(servers)
    const keyId = await client.create({ name: 'vm-key' })
    const made = await describeKey(client, keyId, creationAttributes('1.2.3'))
    expect(made).toMatchObject({
      stored: [],
      refused: ['x-Vendor', 'x-Product', 'x-Product_Version'],
    })
    const used = await describeKey(
      client,
      keyId,
      useAttributes({ component: 'Virtual Machine', name: 'web', identifier: 'uuid' }),
    )
    expect(used.refused).toEqual(['x-Component', 'x-Name', 'x-Identifier'])
    expect(used.code).toMatch(/^KM/)
    const { material } = await client.get(keyId)
    expect(material.length).toBe(32)
    material.dispose()
  })
})

test('a port where nobody listens may be saved by force, and by nothing else', async () => {
  const result = await run(inputFor(authority, [await freePort()]))
  expect(result.verdict).toBe('unreachable')
  expect(failuresOf(result)).toEqual([{ step: 'tcp', code: 'KMS_UNREACHABLE' }])
  const refusal = expect.objectContaining({ code: 'KEY_SERVERS_TEST' })
  expect(() => requirePassed(result, false)).toThrow(refusal)
  expect(() => requirePassed(result, true)).not.toThrow()
})

test('a name that nobody knows is told', async () => {
  const servers = [{ host: 'no-such-host.invalid', port: 5696 }]
  const result = await run(inputFor(authority, [], { servers }))
  expect(failuresOf(result)).toEqual([{ step: 'name', code: 'KMS_UNREACHABLE' }])
})

test('a service that does not speak TLS is told, and is not saved by force', async () => {
  const plain = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.end('220 mail.test ESMTP\r\n')
  })
  await new Promise<void>((resolve) => plain.listen(0, '127.0.0.1', resolve))
  const { port } = plain.address() as AddressInfo
  const result = await run(inputFor(authority, [port]))
  plain.close()
  expect(failuresOf(result)).toEqual([{ step: 'tls', code: 'KMS_TLS' }])
  expect(wordsOf(result)).toContain('does not speak TLS')
  expect(() => requirePassed(result, true)).toThrow(
    expect.objectContaining({ code: 'KEY_SERVERS_TEST' }),
  )
})

test('a server that stalls, and attributes for its keys, end in time and throw nothing', async () => {
  await using server = await ScriptedServer.start(authority, () => undefined)
  const result = await run(inputFor(authority, [server.port]))
  expect(failuresOf(result)).toEqual([{ step: 'versions', code: 'KMS_TIMEOUT' }])
  using servers = parseKeyServers(inputFor(authority, [server.port]))
  await using client = openKeyServerClient(servers, { timeouts })
  expect(await describeKey(client, '1', creationAttributes('1.2.3'))).toMatchObject({
    stored: [],
    code: 'KMS_TIMEOUT',
  })
})
