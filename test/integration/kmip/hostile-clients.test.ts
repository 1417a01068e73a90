import { connect as connectTcp, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import { decodeTtlv, TTLV_LIMITS } from '../../../src/kmip/decode.js'
import { encodeTtlv } from '../../../src/kmip/encode.js'
import {
  OPERATION,
  QUERY_FUNCTION,
  RESULT_REASON,
  RESULT_STATUS,
} from '../../../src/kmip/enumerations.js'
import {
  createKmipClient,
  type KmipServerEvent,
  type KmipServerLimits,
  type RunningKmipServer,
  startKmipServer,
} from '../../../src/kmip/index.js'
import { requestToTtlv, responseFromTtlv } from '../../../src/kmip/message.js'
import { TAG } from '../../../src/kmip/tags.js'
import { enumeration, structure, type Ttlv } from '../../../src/kmip/ttlv.js'
import { type Certificate, TestAuthority } from './client-certificates.js'
import { RawConnection } from './raw-connection.js'

let authority: TestAuthority
let serverCertificate: Certificate
let client: Certificate
let events: KmipServerEvent[] = []

beforeAll(() => {
  authority = new TestAuthority()
  serverCertificate = authority.server()
  client = authority.client()
  return () => authority[Symbol.dispose]()
})
afterEach(() => {
  expect(events.filter(({ event }) => event === 'kmip.fault')).toEqual([])
  events = []
})

function start(limits: Partial<KmipServerLimits> = {}): Promise<RunningKmipServer> {
  const { certificate, key } = serverCertificate
  return startKmipServer({
    tls: { authorities: authority.authority.certificate, certificate, privateKey: key },
    limits,
    events: (event) => events.push(event),
  })
}

/** That somebody else is served at the same time. */
async function expectServed({ port }: RunningKmipServer): Promise<void> {
  await using other = createKmipClient({
    servers: [{ name: 'reference', host: 'localhost', port }],
    tls: {
      authorities: authority.authority.certificate,
      certificate: client.certificate,
      privateKey: client.key,
    },
  })
  await other.create()
}

/** When a connection has ended, in whatever way. */
function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    if (socket.destroyed) resolve()
    socket.on('error', () => undefined)
    socket.once('close', () => resolve())
    socket.resume()
  })
}

function query(id = 1): Uint8Array {
  const { QueryOperations, QueryObjects } = QUERY_FUNCTION
  return encodeTtlv(
    requestToTtlv({
      version: { major: 1, minor: 4 },
      items: [
        {
          operation: OPERATION.Query,
          batchItemId: Buffer.from(String(id)),
          payload: structure(
            TAG.RequestPayload,
            [QueryOperations, QueryObjects].map((one) => enumeration(TAG.QueryFunction, one)),
          ),
        },
      ],
    }),
  )
}

describe('hostile clients of the reference server', () => {
  test('who send an octet now and then are cut off, and others are served meanwhile', async () => {
    await using server = await start({ requestMs: 300 })
    using slow = await RawConnection.open(server.port, authority, client)
    const begin = performance.now()
    const request = query()
    let sent = 0
    const drip = setInterval(() => {
      slow.socket.write(request.subarray(sent, sent + 1))
      sent += 1
    }, 20)
    await expectServed(server)
    await closed(slow.socket)
    clearInterval(drip)
    expect(sent).toBeLessThan(request.length)
    expect(performance.now() - begin).toBeGreaterThan(250)
  })

  test('who say nothing are cut off, before and after the handshake', async () => {
    await using server = await start({ idleMs: 200, requestMs: 200 })
    const plain = connectTcp(server.port, '127.0.0.1')
    using silent = await RawConnection.open(server.port, authority, client)
    await Promise.all([closed(silent.socket), closed(plain)])
    await expectServed(server)
  })

  test.each([
    ['a length above the limit', Buffer.from('4200780100200000', 'hex')],
    ['a length of 4 GB', Buffer.from('42007801fffffff8', 'hex')],
    ['octets that are no message', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
    ['an item that is no structure', Buffer.from('4200780200000004', 'hex')],
  ])('who send %s get no answer and no connection', async (_name, octets) => {
    await using server = await start()
    using hostile = await RawConnection.open(server.port, authority, client)
    expect(await hostile.exchange(octets)).toBe(undefined)
    await expectServed(server)
  })

  test('who leave in the middle of a message leave nothing behind', async () => {
    await using server = await start()
    using hostile = await RawConnection.open(server.port, authority, client)
    const request = query()
    hostile.socket.end(request.subarray(0, request.length - 8))
    await closed(hostile.socket)
    await expectServed(server)
  })

  test('who nest structures or pile up items are refused, and may go on', async () => {
    await using server = await start()
    using hostile = await RawConnection.open(server.port, authority, client)
    let deep: Ttlv = structure(TAG.RequestPayload, [])
    for (let depth = 0; depth < TTLV_LIMITS.maxDepth + 1; depth += 1) {
      deep = structure(TAG.RequestMessage, [deep])
    }
    const one = enumeration(TAG.QueryFunction, 1)
    const many = structure(TAG.RequestMessage, new Array(TTLV_LIMITS.maxItems).fill(one))
    for (const message of [deep, many]) {
      const response = await hostile.exchange(encodeTtlv(message))
      if (response === undefined) throw new Error('expected an answer')
      expect(responseFromTtlv(decodeTtlv(response)).items).toMatchObject([
        { status: RESULT_STATUS.OperationFailed, reason: RESULT_REASON.InvalidMessage },
      ])
    }
    expect(await hostile.exchange(query())).toBeDefined()
  })

  test('who do not read are not served further, until they read, and then in order', async () => {
    await using server = await start()
    using greedy = await RawConnection.open(server.port, authority, client)
    greedy.socket.pause()
    const count = 10_000
    const all = Buffer.concat(Array.from({ length: count }, (_one, id) => query(id)))
    greedy.socket.write(all)
    const answers = Array.from({ length: count }, () => greedy.read())
    await expectServed(server)
    const answered = events.filter(({ event }) => event === 'kmip.answered').length
    // What does not fit into the buffers of both sides is not answered yet.
    expect(answered).toBeLessThan(count)
    greedy.socket.resume()
    const ids = await Promise.all(
      answers.map(async (answer) => {
        const frame = await answer
        const [item] = frame === undefined ? [] : responseFromTtlv(decodeTtlv(frame)).items
        return Number(Buffer.from(item?.batchItemId ?? []).toString())
      }),
    )
    expect(ids).toEqual(Array.from({ length: count }, (_one, id) => id))
  })

  test('who open too many connections get no more of them', async () => {
    await using server = await start({ maxConnections: 2 })
    using first = await RawConnection.open(server.port, authority, client)
    using second = await RawConnection.open(server.port, authority, client)
    await expect(RawConnection.open(server.port, authority, client)).rejects.toThrow()
    expect(await first.exchange(query())).toBeDefined()
    expect(await second.exchange(query())).toBeDefined()
    expect(events).toContainEqual({ event: 'kmip.refused', reason: 'too many connections' })
  })

  test('without a certificate, or with one of another authority, are not let in', async () => {
    await using server = await start()
    using others = new TestAuthority()
    const stranger = others.client()
    for (const shown of [{}, { cert: stranger.certificate, key: stranger.key }]) {
      const socket = connectTls({
        host: '127.0.0.1',
        port: server.port,
        servername: 'localhost',
        ca: authority.authority.certificate,
        ...shown,
      })
      const received: Buffer[] = []
      socket.on('data', (chunk) => received.push(chunk))
      socket.write(query())
      await closed(socket)
      expect(received).toEqual([])
    }
    expect(events.filter(({ event }) => event === 'kmip.refused')).toHaveLength(2)
    expect(events.some(({ event }) => event === 'kmip.connected')).toBe(false)
    await expectServed(server)
  })
})
