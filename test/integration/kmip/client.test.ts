import { X509Certificate } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { fromHex } from '../../../src/core/bytes.js'
import { createKmipClient } from '../../../src/kmip/client/client.js'
import type { KmipClientEvent, KmipClientOptions } from '../../../src/kmip/client/options.js'
import { OBJECT_TYPE, OPERATION, RESULT_REASON } from '../../../src/kmip/enumerations.js'
import { TAG } from '../../../src/kmip/tags.js'
import { enumeration, textString } from '../../../src/kmip/ttlv.js'
import { type Certificate, TestAuthority } from './client-certificates.js'
import { type Behaviour, refuse, respond, ScriptedServer } from './client-hostile-server.js'

let authority: TestAuthority
let clientCertificate: Certificate
let serverCertificate: Certificate

beforeAll(() => {
  authority = new TestAuthority()
  clientCertificate = authority.client()
  serverCertificate = authority.server()
})
afterAll(() => authority[Symbol.dispose]())

const created: Behaviour = (request) =>
  respond(request, [
    enumeration(TAG.ObjectType, OBJECT_TYPE.SymmetricKey),
    textString(TAG.UniqueIdentifier, 'key-1'),
  ])
const queried: Behaviour = (request) => respond(request, [])

function clientOf(
  servers: readonly ScriptedServer[],
  more: Partial<KmipClientOptions> = {},
): ReturnType<typeof createKmipClient> {
  return createKmipClient({
    servers: servers.map(({ port }, index) => ({ name: `kms-${index}`, host: 'localhost', port })),
    tls: {
      authorities: authority.authority.certificate,
      certificate: clientCertificate.certificate,
      privateKey: clientCertificate.key,
    },
    timeouts: { connectMs: 2_000, requestMs: 300, overallMs: 5_000 },
    ...more,
  })
}

function start(behaviour: Behaviour, certificate = serverCertificate): Promise<ScriptedServer> {
  return ScriptedServer.start(authority, behaviour, certificate)
}

describe('a server that misbehaves', () => {
  const answers: readonly (readonly [string, Behaviour, string])[] = [
    ['does not answer', () => undefined, 'KMS_TIMEOUT'],
    [
      'closes instead of answering',
      (_request, socket) => {
        socket.destroy()
        return undefined
      },
      // the connection may have been idle for too long: a query is asked once more
      'none',
    ],
    ['answers half and waits', (request) => respond(request, []).subarray(0, 40), 'KMS_TIMEOUT'],
    ['answers with no message of KMIP', () => Buffer.from('HTTP/1.1 400 Bad\r\n'), 'KMS_PROTOCOL'],
    ['announces more than the limit', () => fromHex('42007b01fffffff8'), 'KMS_PROTOCOL'],
    [
      'answers another request',
      (request) => respond(request, [], { batchItemId: new Uint8Array(8) }),
      'KMS_PROTOCOL',
    ],
    [
      'answers another operation',
      (request) => respond(request, [], { operation: OPERATION.Get }),
      'KMS_PROTOCOL',
    ],
    [
      'answers without the id of the request',
      (request) => respond(request, [], { batchItemId: undefined }),
      'KMS_PROTOCOL',
    ],
    [
      'answers twice',
      (request) => Buffer.concat([respond(request, []), respond(request, [])]),
      'none',
    ],
    ['wants to answer later', (request) => respond(request, [], { status: 2 }), 'KMS_UNSUPPORTED'],
    [
      'refuses',
      (request) => refuse(request, RESULT_REASON.PermissionDenied),
      'KMS_PERMISSION_DENIED',
    ],
  ]

  test.each(answers)(
    '%s: the caller is told, and the next call is not harmed',
    async (_name, behaviour, code) => {
      let first = true
      await using server = await start((request, socket) => {
        if (!first) return queried(request, socket)
        first = false
        return behaviour(request, socket)
      })
      await using client = clientOf([server])
      if (code === 'none') await client.query()
      else await expect(client.query()).rejects.toMatchObject({ code })
      await expect
        .poll(
          () =>
            client.query().then(
              () => 'ok',
              (error: Error) => error,
            ),
          { timeout: 3_000 },
        )
        .toBe('ok')
    },
  )

  test('one that closes every time is unreachable', async () => {
    await using server = await start((_request, socket) => {
      socket.destroy()
      return undefined
    })
    await using client = clientOf([server])
    await expect(client.query()).rejects.toMatchObject({ code: 'KMS_UNREACHABLE' })
    expect(server.count(OPERATION.Query)).toBe(2)
  })

  test('octets one at a time are put together', async () => {
    await using server = await start((request, socket) => {
      for (const octet of respond(request, [])) socket.write(new Uint8Array([octet]))
      return undefined
    })
    await using client = clientOf([server])
    await client.query()
  })
})

describe('trust', () => {
  test('refuses a server whose certificate is for another name', async () => {
    await using server = await start(queried, authority.server('DNS:elsewhere.example'))
    await using client = clientOf([server])
    await expect(client.query()).rejects.toMatchObject({ code: 'KMS_TLS' })
    expect(server.requests).toHaveLength(0)
  })

  test('refuses a server of an authority that is not trusted', async () => {
    using other = new TestAuthority()
    await using server = await start(queried, other.server())
    await using client = clientOf([server])
    await expect(client.query()).rejects.toMatchObject({ code: 'KMS_TLS' })
  })

  test('refuses a changed certificate where one is pinned, and takes it when it is pinned too', async () => {
    await using server = await start(queried)
    const pin = new X509Certificate(serverCertificate.certificate).fingerprint256
    const address = { name: 'kms', host: 'localhost', port: server.port }
    await using pinned = clientOf([], { servers: [{ ...address, pins: [pin] }] })
    await pinned.query()
    const old = '00'.repeat(32)
    await using changed = clientOf([], { servers: [{ ...address, pins: [old] }] })
    await expect(changed.query()).rejects.toMatchObject({ code: 'KMS_TLS' })
    await using both = clientOf([], { servers: [{ ...address, pins: [old, pin] }] })
    await both.query()
  })

  test('has no connection when the server closes it on a certificate that it does not know', async () => {
    using other = new TestAuthority()
    const stranger = other.client()
    await using server = await start(queried)
    await using client = clientOf([server], {
      tls: {
        authorities: authority.authority.certificate,
        certificate: stranger.certificate,
        privateKey: stranger.key,
      },
    })
    await expect(client.query()).rejects.toMatchObject({ code: 'KMS_UNREACHABLE' })
  })
})

describe('creating a key', () => {
  /** Makes the key, and closes the connection before it says so, the first time. */
  function losing(found: readonly string[]): Behaviour {
    let lost = false
    return (request, socket) => {
      if (request.items[0]?.operation === OPERATION.Locate) {
        return respond(
          request,
          found.map((id) => textString(TAG.UniqueIdentifier, id)),
        )
      }
      if (lost) return created(request, socket)
      lost = true
      socket.destroy()
      return undefined
    }
  }

  test('finds the key by its name when the response was lost, and makes no second one', async () => {
    const events: KmipClientEvent[] = []
    await using server = await start(losing(['key-0']))
    await using client = clientOf([server], { events: (event) => events.push(event) })
    expect(await client.create({ name: 'unique' })).toBe('key-0')
    expect(server.count(OPERATION.Create)).toBe(1)
    expect(events).toContainEqual({
      event: 'kmip.create.recovered',
      server: 'kms-0',
      keyId: 'key-0',
    })
  })

  test('makes it again only when the server has none of this name', async () => {
    await using server = await start(losing([]))
    await using client = clientOf([server])
    expect(await client.create({ name: 'unique' })).toBe('key-1')
    expect(server.requests.map(({ items }) => items[0]?.operation)).toEqual([
      ...[OPERATION.DiscoverVersions, OPERATION.Create],
      ...[OPERATION.DiscoverVersions, OPERATION.Locate, OPERATION.Create],
    ])
  })

  test('says that nobody knows when the key has no name, or two have it', async () => {
    await using server = await start(losing([]))
    await using client = clientOf([server])
    await expect(client.create()).rejects.toMatchObject({ code: 'KMS_CREATE_UNKNOWN' })
    expect(server.count(OPERATION.Create)).toBe(1)
    await using twice = await start(losing(['a', 'b']))
    await using other = clientOf([twice])
    await expect(other.create({ name: 'n' })).rejects.toMatchObject({ code: 'KMS_CREATE_UNKNOWN' })
    expect(twice.count(OPERATION.Create)).toBe(1)
  })

  test('does not go to a second server after octets were sent to the first', async () => {
    await using first = await start(() => undefined)
    await using second = await start(created)
    await using client = clientOf([first, second])
    await expect(client.create()).rejects.toMatchObject({ code: 'KMS_CREATE_UNKNOWN' })
    expect(second.count(OPERATION.Create)).toBe(0)
  })
})

describe('several servers', () => {
  test('the next one answers when the first is gone, and the first is left alone', async () => {
    const events: KmipClientEvent[] = []
    await using second = await start(queried)
    const gone = await start(queried)
    await using client = clientOf([gone, second], { events: (event) => events.push(event) })
    await gone[Symbol.asyncDispose]()
    await client.query()
    await client.query()
    expect(events.filter(({ event }) => event === 'kmip.server.failed')).toHaveLength(1)
    expect(client.health.map(({ state }) => state)).toEqual(['open', 'closed'])
  })

  test('a key that one replica does not have yet is asked of the other', async () => {
    await using first = await start((request) => refuse(request, RESULT_REASON.ItemNotFound))
    await using second = await start(created)
    await using client = clientOf([first, second])
    expect(await client.locate({ attributes: [] }).catch(({ code }) => code)).toEqual(['key-1'])
    await using alone = clientOf([first])
    await expect(alone.get('key-1')).rejects.toMatchObject({ code: 'KMS_KEY_NOT_FOUND' })
  })

  test('a server that failed is asked again after a while', async () => {
    const server = await start(queried)
    const { port } = server
    await using client = clientOf([server], { random: () => 0 })
    await server[Symbol.asyncDispose]()
    await expect(client.query()).rejects.toMatchObject({ code: 'KMS_UNREACHABLE' })
    await using back = await ScriptedServer.start(authority, queried, serverCertificate, port)
    await expect(client.query()).rejects.toMatchObject({ code: 'KMS_UNREACHABLE' })
    expect(back.connections).toBe(0)
    await expect
      .poll(
        () =>
          client.query().then(
            () => 'ok',
            (error: Error) => error,
          ),
        { timeout: 3_000 },
      )
      .toBe('ok')
    expect(client.health[0]?.state).toBe('closed')
  })
})

describe('connections', () => {
  test('four serve any number of calls, one request at a time each', async () => {
    await using server = await start(queried)
    await using client = clientOf([server])
    await Promise.all(Array.from({ length: 40 }, () => client.query()))
    expect(server.connections).toBeLessThanOrEqual(4)
    expect(server.count(OPERATION.Query)).toBe(40)
  })

  test('requests follow one another on one connection where that is permitted', async () => {
    await using server = await start(queried)
    await using client = clientOf([server], { pool: { connections: 1, inFlight: 16 } })
    await Promise.all(Array.from({ length: 40 }, () => client.query()))
    expect(server.connections).toBe(1)
  })

  test('one that the server closed while it was idle is replaced without an error', async () => {
    await using server = await start(queried)
    await using client = clientOf([server])
    await client.query()
    server.closeConnections()
    await client.query()
    expect(server.connections).toBe(2)
  })

  test('an authentication that is refused is tried once more on a new connection', async () => {
    let refused = 0
    await using server = await start((request, socket) => {
      refused += 1
      return refused === 1
        ? refuse(request, RESULT_REASON.AuthenticationNotSuccessful)
        : queried(request, socket)
    })
    await using client = clientOf([server])
    await client.query()
    expect(server.connections).toBe(2)
  })
})
