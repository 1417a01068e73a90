import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  creationAttributes,
  describeKey,
  openKeyServerClient,
  parseKeyServers,
  testKeyServers,
  useAttributes,
} from '../../../src/key-servers/index.js'
import {
  ObjectStore,
  type ProtocolVersion,
  parseAttributeName,
  type RunningKmipServer,
  startKmipServer,
  VERSIONS,
} from '../../../src/kmip/index.js'
import { TestAuthority } from '../kmip/client-certificates.js'
import { inputFor } from './support.js'

const SIX = {
  'x-Vendor': 'Sigillo',
  'x-Product': 'Sigillo Trust Authority',
  'x-Product_Version': '1.2.3',
  'x-Component': 'KVM Host',
  'x-Name': 'host-1',
  'x-Identifier': '4c4c4544-0042-3510-8052-b9c04f4a5432',
}

let authority: TestAuthority

beforeAll(() => {
  authority = new TestAuthority()
})
afterAll(() => authority[Symbol.dispose]())

function start(
  versions: readonly ProtocolVersion[] = VERSIONS,
  objects?: ObjectStore,
): Promise<RunningKmipServer> {
  const { certificate, key } = authority.server()
  return startKmipServer({
    tls: { authorities: authority.authority.certificate, certificate, privateKey: key },
    versions,
    ...(objects ? { objects } : {}),
  })
}

describe.each([
  ['1.0', { major: 1, minor: 0 }],
  ['1.4', { major: 1, minor: 4 }],
  ['2.1', { major: 2, minor: 1 }],
] as const)('in KMIP %s', (_, version) => {
  test('a key gets three attributes when it is made and three when it is used, and new values', async () => {
    await using server = await start([version])
    using servers = parseKeyServers(inputFor(authority, [server.port]))
    await using client = openKeyServerClient(servers)
    const keyId = await client.create({ name: 'host-key' })
    const made = await describeKey(client, keyId, creationAttributes('1.2.3'))
    expect(made).toEqual({ stored: Object.keys(SIX).slice(0, 3), refused: [] })
    const use = { component: 'KVM Host', identifier: SIX['x-Identifier'] } as const
    await describeKey(client, keyId, useAttributes({ ...use, name: 'old-name' }))
    const used = await describeKey(client, keyId, useAttributes({ ...use, name: 'host-1' }))
    expect(used).toEqual({ stored: Object.keys(SIX).slice(3), refused: [] })

    const names = Object.keys(SIX).map(parseAttributeName)
    const attributes = await client.getAttributes(keyId, names)
    const shown = attributes.map((one) =>
      one.kind === 'vendor' ? [`${one.vendor}-${one.name}`, one.value.value] : [],
    )
    expect(Object.fromEntries(shown)).toEqual(SIX)
  })
})

test('a server of KMIP 1.2 has no authenticated encryption: counter mode is used, and said', async () => {
  await using server = await start([{ major: 1, minor: 2 }])
  using servers = parseKeyServers(inputFor(authority, [server.port]))
  const { verdict, findings } = await testKeyServers(servers, { place: 'kept', nowMs: Date.now() })
  expect(verdict).toBe('passed')
  const warnings = findings.filter(({ step, result }) => step === 'probe' && result === 'warning')
  expect(warnings.map(({ message }) => message)).toEqual([
    expect.stringContaining('counter mode is used'),
  ])
})

test('two servers of one cluster are seen to be replicas, and no probe is left', async () => {
  const objects = new ObjectStore(100)
  await using one = await start(VERSIONS, objects)
  await using other = await start(VERSIONS, objects)
  using servers = parseKeyServers(inputFor(authority, [one.port, other.port]))
  const result = await testKeyServers(servers, { place: 'fetched', nowMs: Date.now() })
  expect(result.verdict).toBe('passed')
  expect(result.findings.filter(({ step }) => step === 'replica')).toEqual([
    expect.objectContaining({ server: `localhost:${other.port}`, result: 'ok' }),
  ])
  await using client = openKeyServerClient(servers)
  expect(await client.locate({ attributes: [] })).toEqual([])
})
