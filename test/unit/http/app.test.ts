import { Type } from 'typebox'
import { beforeEach, describe, expect, test } from 'vitest'
import { ABOUT_SELF, onObject, onSite } from '../../../src/api/needs.js'
import { operation } from '../../../src/api/operation.js'
import { PlatformError } from '../../../src/core/errors.js'
import type { Logger } from '../../../src/core/logger.js'
import {
  type App,
  addHealthRoutes,
  addOperation,
  createApp,
  createRegistry,
  noteCheck,
  routesOf,
} from '../../../src/http/index.js'
import { TokenError } from '../../../src/tokens/errors.js'
import { memoryLogger } from '../../helpers/memory-logger.js'
import { processorMsOf } from '../../helpers/processor-time.js'
import { ADMIN, AUDITOR, callers, testApp } from './harness.js'

const closed = { additionalProperties: false }
const Empty = Type.Object({}, closed)
const Thing = Type.Object(
  {
    name: Type.String({ maxLength: 20 }),
    count: Type.Optional(Type.Integer({ minimum: 0, maximum: 10 })),
    list: Type.Optional(Type.Array(Type.Integer(), { maxItems: 5 })),
  },
  closed,
)
const PEOPLE = { access: { people: 'test' } } as const
const everyone = onSite('System.Read')
const administrators = onSite('System.Read', 'Authorization.ModifyRoles')

const SECRET_TEXT = 'SELECT dek FROM keys -- /etc/sigillo/root.key'

let app: App
let logger: Logger
let lines: string[]
let thrown: unknown

beforeEach(async () => {
  ;({ logger, lines } = memoryLogger())
  app = await testApp({ logger, publicRequestsPerMinute: 1000 })
  const fail = async () => {
    throw thrown
  }
  const post = operation({
    id: 'post',
    summary: '',
    method: 'POST',
    path: '/public',
    status: 201,
    body: Thing,
    answer: Thing,
  })
  const get = operation({
    id: 'get',
    summary: '',
    needs: everyone,
    method: 'GET',
    path: '/private',
    status: 200,
    query: Type.Object(
      {
        limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 99 })),
        all: Type.Optional(Type.Boolean()),
      },
      closed,
    ),
    answer: Type.Object(
      { limit: Type.Optional(Type.Integer()), all: Type.Optional(Type.Boolean()) },
      closed,
    ),
  })
  const put = operation({
    id: 'put',
    summary: '',
    needs: administrators,
    method: 'PUT',
    path: '/private',
    status: 200,
    body: Thing,
    answer: Empty,
  })
  const params = Type.Object({ id: Type.String({ pattern: '^[a-z]{1,8}$' }) }, closed)
  const leak = operation({
    id: 'leak',
    summary: '',
    method: 'GET',
    path: '/things/:id',
    status: 200,
    params,
    answer: Empty,
  })
  addOperation(app, post, { access: 'public' }, async ({ body }) => body)
  addOperation(app, get, PEOPLE, async ({ query }) => query)
  addOperation(app, put, PEOPLE, async () => ({}))
  addOperation(app, leak, { access: 'public' }, async ({ params: { id } }) => ({
    id,
    dek: 'secret',
  }))
  addOperation(
    app,
    operation({ id: 'f1', summary: '', method: 'GET', path: '/fails', status: 200, answer: Empty }),
    { access: 'public' },
    fail,
  )
  addOperation(
    app,
    operation({
      id: 'f2',
      summary: '',
      needs: everyone,
      method: 'GET',
      path: '/private/fails',
      status: 200,
      answer: Empty,
    }),
    PEOPLE,
    fail,
  )
})

const as = (token: string) => ({ authorization: `Bearer ${token}` })
const postJson = (payload: string) =>
  app.inject({
    method: 'POST',
    url: '/public',
    headers: { 'content-type': 'application/json' },
    payload,
  })

test('an answer holds what its schema has and nothing else', async () => {
  const answer = await app.inject('/things/abc')
  expect([answer.statusCode, answer.json()]).toEqual([200, {}])
})

test('every answer forbids caching and sniffing and names the request', async () => {
  for (const url of ['/things/abc', '/nowhere', '/private', '/%']) {
    const { headers } = await app.inject(url)
    expect(headers).toMatchObject({
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      'x-request-id': expect.stringMatching(/^[0-9a-f-]{36}$/),
    })
    expect(headers).not.toHaveProperty('x-powered-by')
    expect(headers).not.toHaveProperty('server')
  }
})

test('a caller cannot choose the request id or pass as another address', async () => {
  const headers = { 'x-request-id': 'mine', 'request-id': 'mine', 'x-forwarded-for': '10.0.0.1' }
  const answer = await app.inject({ url: '/nowhere', headers })
  expect(answer.json().requestId).not.toBe('mine')
  expect(lines.join('')).not.toContain('10.0.0.1')
})

describe('operators', () => {
  test('an administrator reads and writes, an auditor reads', async () => {
    const put = { method: 'PUT', url: '/private', payload: { name: 'a' } } as const
    expect((await app.inject({ url: '/private', headers: as(ADMIN) })).statusCode).toBe(200)
    expect((await app.inject({ url: '/private', headers: as(AUDITOR) })).statusCode).toBe(200)
    expect((await app.inject({ ...put, headers: as(ADMIN) })).statusCode).toBe(200)
    const refused = await app.inject({ ...put, headers: as(AUDITOR) })
    expect([refused.statusCode, refused.json()]).toEqual([
      403,
      expect.objectContaining({
        code: 'FORBIDDEN',
        detail: 'expected privilege Authorization.ModifyRoles on the site, found it missing',
      }),
    ])
  })

  const empty = { summary: '', method: 'GET', status: 200, answer: Empty } as const

  test('an operation that declares no privileges does not register for people', async () => {
    const bare = operation({ ...empty, id: 'bare', path: '/bare' })
    const none = { on: 'site', privileges: [] } as unknown as typeof everyone
    const lax = operation({ ...empty, id: 'lax', path: '/lax', needs: none })
    const open = operation({ ...empty, id: 'open', path: '/open', needs: everyone })
    const nothing = async () => ({})
    expect(() => addOperation(app, bare, PEOPLE, nothing)).toThrow('declares no privileges')
    expect(() => addOperation(app, lax, PEOPLE, nothing)).toThrow('needs no privilege')
    expect(() => addOperation(app, open, { access: 'public' }, nothing)).toThrow('for people')
    expect((await app.inject({ url: '/open', headers: as(ADMIN) })).statusCode).toBe(404)
  })

  test('an operation about the caller needs no privilege, and a caller all the same', async () => {
    const own = operation({ ...empty, id: 'own', path: '/own', needs: ABOUT_SELF })
    addOperation(app, own, PEOPLE, async () => ({}))
    expect((await app.inject({ url: '/own', headers: as(AUDITOR) })).statusCode).toBe(200)
    expect((await app.inject('/own')).statusCode).toBe(401)
  })

  test('an operation on an object that does not ask what its caller may do answers nothing', async () => {
    const lax = operation({ ...empty, id: 'lax', path: '/lax', needs: onObject('System.Read') })
    const keen = operation({ ...empty, id: 'keen', path: '/keen', needs: onObject('System.Read') })
    addOperation(app, lax, PEOPLE, async () => ({}))
    addOperation(app, keen, PEOPLE, async ({ request }) => {
      noteCheck(callers.callerOf(request))
      return {}
    })
    const [first, second] = await Promise.all(
      ['/lax', '/keen'].map((url) => app.inject({ url, headers: as(AUDITOR) })),
    )
    expect([first?.statusCode, second?.statusCode]).toEqual([500, 200])
  })

  const strangers: readonly (readonly [claim: string, headers: Record<string, string>])[] = [
    ['no credentials', {}],
    ['an unknown token', as(`sgl_op_${'c'.repeat(43)}`)],
    ['a token with a space behind', as(`${ADMIN} `)],
    ['a token in capitals', as(ADMIN.toUpperCase())],
    ['a short token', as('sgl_op_a')],
    ['an empty token', { authorization: 'Bearer ' }],
    ['two tokens', { authorization: `Bearer ${ADMIN}, Bearer ${ADMIN}` }],
    ['the right token in another scheme', { authorization: `DPoP ${ADMIN}` }],
    ['Basic', { authorization: `Basic ${Buffer.from(`a:${ADMIN}`).toString('base64')}` }],
    ['a token of 10 kB', as('a'.repeat(10_000))],
    ['the token in another header', { 'x-authorization': `Bearer ${ADMIN}` }],
  ]

  test('strangers get one and the same answer, whatever is wrong', async () => {
    const answers = await Promise.all(
      strangers.map(async ([, headers]) => {
        const answer = await app.inject({ url: '/private', headers })
        const { requestId, ...problem } = answer.json()
        expect(requestId).toBeTypeOf('string')
        return { status: answer.statusCode, problem, challenge: answer.headers['www-authenticate'] }
      }),
    )
    for (const answer of answers) {
      expect(answer).toEqual({
        status: 401,
        challenge: 'Bearer',
        problem: {
          type: 'urn:sigillo:error:UNAUTHENTICATED',
          title: 'the caller is not known',
          status: 401,
          code: 'UNAUTHENTICATED',
        },
      })
    }
  })

  test('every route that is not public refuses a stranger', async () => {
    const closedRoutes = routesOf(app).filter(({ access }) => access !== 'public')
    expect(closedRoutes.length).toBe(3)
    for (const { method, path } of closedRoutes) {
      const answer = await app.inject({ method: method as 'GET', url: path })
      expect([method, path, answer.statusCode]).toEqual([method, path, 401])
    }
  })

  test('a stranger is refused before the body is looked at', async () => {
    const answer = await app.inject({
      method: 'PUT',
      url: '/private',
      payload: '{"name"',
      headers: { 'content-type': 'application/json' },
    })
    expect(answer.json().code).toBe('UNAUTHENTICATED')
  })

  test('two Authorization headers are refused, even if the first is right', async () => {
    const headers = { authorization: [`Bearer ${ADMIN}`, 'Bearer x'] as never }
    expect((await app.inject({ url: '/private', headers })).statusCode).toBe(401)
  })

  test('an operator of another service is a stranger', async () => {
    const other = operation({
      id: 'o',
      summary: '',
      method: 'GET',
      path: '/other',
      needs: everyone,
      status: 200,
      answer: Empty,
    })
    addOperation(app, other, { access: { people: 'other' } }, async () => ({}))
    expect((await app.inject({ url: '/other', headers: as(ADMIN) })).statusCode).toBe(401)
  })
})

describe('problems', () => {
  test('an error of ours is answered with its status, code and request id', async () => {
    thrown = new PlatformError('CONFLICT', 'expected a new name, found host-1')
    const answer = await app.inject('/fails')
    expect(answer.headers['content-type']).toMatch(/^application\/problem\+json/)
    expect(answer.statusCode).toBe(409)
    expect(answer.json()).toEqual({
      type: 'urn:sigillo:error:CONFLICT',
      title: 'the object exists already or is in another state',
      status: 409,
      code: 'CONFLICT',
      requestId: answer.headers['x-request-id'],
    })
  })

  test('a known caller is told the detail, an unknown one is not', async () => {
    thrown = new PlatformError('CONFLICT', 'expected a new name, found host-1')
    const known = await app.inject({ url: '/private/fails', headers: as(AUDITOR) })
    expect(known.json().detail).toBe('expected a new name, found host-1')
    expect((await app.inject('/fails')).body).not.toContain('host-1')
  })

  test('which check of a token failed is logged and not answered', async () => {
    thrown = new TokenError('DPOP_REPLAYED', 'expected a new jti')
    const answer = await app.inject('/fails')
    expect(answer.json().code).toBe('UNAUTHENTICATED')
    expect(answer.body).not.toMatch(/DPOP|jti/)
    expect(lines.join('')).toContain('DPOP_REPLAYED')
  })

  test.each([
    ['an error', new Error(SECRET_TEXT)],
    ['an error with a status', Object.assign(new Error(SECRET_TEXT), { statusCode: 404 })],
    [
      'an error with a code of the framework',
      Object.assign(new Error(SECRET_TEXT), { code: 'FST_ERR_X', statusCode: 500 }),
    ],
    ['an internal error of ours', new PlatformError('INTERNAL', SECRET_TEXT)],
    ['text', SECRET_TEXT],
    ['nothing', undefined],
  ])('%s that nobody foresaw says nothing, even to known callers', async (_, error) => {
    thrown = error
    const answer = await app.inject({ url: '/private/fails', headers: as(ADMIN) })
    expect(answer.statusCode).toBe(500)
    expect(answer.json()).toEqual({
      type: 'urn:sigillo:error:INTERNAL',
      title: 'an error of our own',
      status: 500,
      code: 'INTERNAL',
      requestId: answer.headers['x-request-id'],
    })
    const logged = lines.find((line) => line.includes('request.failed'))
    expect(logged).toContain(answer.headers['x-request-id'])
  })

  test('what is wrong with its own state a process says to its owner, on its unix socket, alone', async () => {
    thrown = new PlatformError('VM_DESCRIPTOR_CORRUPT', 'run.json is not JSON text')
    const known = await app.inject({ url: '/private/fails', headers: as(ADMIN) })
    expect(known.body).not.toContain('run.json')
    await using local = await createApp({
      ...{ logger: memoryLogger().logger, name: 'agent', bodyLimitOctets: 1024, local: true },
    })
    const fails = { id: 'fails', summary: '', method: 'GET', path: '/fails', status: 200 } as const
    addOperation(local, operation({ ...fails, answer: Empty }), { access: 'local' }, async () => {
      throw thrown
    })
    expect((await local.inject('/fails')).json().detail).toBe('run.json is not JSON text')
    thrown = new PlatformError('INTERNAL', SECRET_TEXT)
    expect((await local.inject('/fails')).body).not.toContain(SECRET_TEXT)
  })

  test('a token never reaches the log', async () => {
    await app.inject({ url: '/private', headers: as(ADMIN) })
    await app.inject({ url: '/private', headers: as(`sgl_op_${'c'.repeat(43)}`) })
    expect(lines.join('')).not.toContain('sgl_op_')
  })

  test.each([
    ['no such route', 'GET', '/nowhere'],
    ['another method', 'DELETE', '/public'],
    ['HEAD of a route', 'HEAD', '/things/abc'],
    ['OPTIONS', 'OPTIONS', '/public'],
    ['TRACE', 'TRACE', '/public'],
    ['another case', 'GET', '/Things/abc'],
    ['a slash at the end', 'GET', '/things/abc/'],
    ['two slashes', 'GET', '//things/abc'],
    ['a parameter without end', 'GET', `/things/${'a'.repeat(500)}`],
    ['a path out of the root', 'GET', '/../things/abc/x'],
  ] as const)('%s is not found', async (_, method, url) => {
    const answer = await app.inject({ method: method as 'GET', url })
    expect(answer.statusCode).toBe(404)
    if (method !== 'HEAD') expect(answer.json().code).toBe('NOT_FOUND')
  })

  test.each([
    '/things/..%2f..',
    '/things/%00',
    '/things/a%20b',
    '/things/%C3%A9',
    '/things/%',
    '/things/abc?x=1',
  ])('the path %s is refused', async (url) => {
    const answer = await app.inject(url)
    expect([answer.statusCode, answer.json().code]).toEqual([400, 'REQUEST_INVALID'])
  })
})

describe('bodies', () => {
  test('a good body is read as it is', async () => {
    const answer = await postJson('{"name":"a","count":3}')
    expect([answer.statusCode, answer.json()]).toEqual([201, { name: 'a', count: 3 }])
  })

  const hostile: readonly (readonly [claim: string, payload: string])[] = [
    ['no body', ''],
    ['no JSON', '{name:1}'],
    ['text after the end', '{"name":"a"}x'],
    ['null', 'null'],
    ['a list', '[]'],
    ['an unknown member', '{"name":"a","admin":true}'],
    ['a missing member', '{"count":1}'],
    ['a member twice', '{"name":"a","name":"b"}'],
    ['__proto__', '{"name":"a","__proto__":{"admin":true}}'],
    ['an escaped __proto__', '{"name":"a","\\u005f\\u005fproto__":{}}'],
    ['constructor', '{"name":"a","constructor":{"prototype":{}}}'],
    ['a number as text', '{"name":"a","count":"3"}'],
    ['text as a number', '{"name":3}'],
    ['true as a number', '{"name":"a","count":true}'],
    ['a number too large', '{"name":"a","count":1e999}'],
    ['a number of 10^5 digits', `{"name":"a","count":${'9'.repeat(100_000)}}`],
    ['a fraction', '{"name":"a","count":1.5}'],
    ['minus one', '{"name":"a","count":-1}'],
    ['long text', `{"name":"${'a'.repeat(21)}"}`],
    ['a long list', '{"name":"a","list":[1,2,3,4,5,6]}'],
    ['10^5 deep lists', `{"name":"a","list":${'['.repeat(100_000)}${']'.repeat(100_000)}}`],
    ['10^5 deep objects', '{"a":'.repeat(100_000)],
    ['10^5 names', `{${Array.from({ length: 100_000 }, (_, i) => `"k${i}":1`).join(',')}}`],
    ['a lone surrogate', '{"name":"\\ud800"}'],
    ['U+0000', '{"name":"\\u0000"}'],
  ]

  test.each(hostile)('refuses %s, quickly and with reason', async (_, payload) => {
    let answer = await postJson('')
    const took = await processorMsOf(async () => {
      answer = await postJson(payload)
    })
    expect(took).toBeLessThan(1000)
    expect([answer.statusCode, answer.json().code]).toEqual([400, 'REQUEST_INVALID'])
    expect(answer.json().detail).toMatch(/^(body|the request)/)
    expect(answer.json().detail.length).toBeLessThan(300)
    expect(Object.prototype).not.toHaveProperty('admin')
  })

  test('refuses octets that are not UTF-8', async () => {
    const payload = Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d])
    const answer = await app.inject({
      method: 'POST',
      url: '/public',
      headers: { 'content-type': 'application/json' },
      payload,
    })
    expect([answer.statusCode, answer.json().code]).toEqual([400, 'REQUEST_INVALID'])
  })

  test('refuses a body above the limit before it is read', async () => {
    const answer = await postJson(`{"name":"${'a'.repeat(2 * 1024 * 1024)}"}`)
    expect([answer.statusCode, answer.json().code]).toEqual([413, 'DECODE_TOO_LARGE'])
  })

  test.each([
    'text/plain',
    'application/x-www-form-urlencoded',
    'multipart/form-data',
    'application/xml',
    'application/jsonp',
  ])('refuses a body of type %s', async (type) => {
    const answer = await app.inject({
      method: 'POST',
      url: '/public',
      headers: { 'content-type': type },
      payload: '{"name":"a"}',
    })
    expect([answer.statusCode, answer.json().code]).toEqual([415, 'MEDIA_TYPE'])
  })

  test('names of an attacker are quoted and short in the reason', async () => {
    const answer = await postJson(`{"name":"a","\\u001b[31m${'x'.repeat(5000)}":1}`)
    expect(answer.json().detail.length).toBeLessThan(200)
    expect(answer.json().detail).not.toContain('\u001b')
  })
})

describe('queries', () => {
  test('numbers and booleans are read from text', async () => {
    const answer = await app.inject({ url: '/private?limit=10&all=true', headers: as(ADMIN) })
    expect(answer.json()).toEqual({ limit: 10, all: true })
  })

  test.each([
    'limit=',
    'limit=1e1',
    'limit=0x10',
    'limit=-1',
    'limit=100',
    'limit=%2010',
    'limit=1&limit=2',
    'limit=01',
    'all=1',
    'all=TRUE',
    'limi=1',
    '__proto__=1',
    'limit[a]=1',
  ])('refuses the query %s', async (query) => {
    const answer = await app.inject({ url: `/private?${query}`, headers: as(ADMIN) })
    expect([answer.statusCode, answer.json().code]).toEqual([400, 'REQUEST_INVALID'])
  })
})

test('a public route answers so many requests a minute to one address', async () => {
  const limited = await testApp({ publicRequestsPerMinute: 3 })
  addHealthRoutes(limited, { prefix: '', state: () => 'ok' })
  const statuses: number[] = []
  for (let i = 0; i < 5; i += 1) statuses.push((await limited.inject('/health')).statusCode)
  expect(statuses).toEqual([200, 200, 200, 429, 429])
  const refused = await limited.inject('/health')
  expect(refused.json().code).toBe('RATE_LIMITED')
  expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0)
  expect((await limited.inject({ url: '/health', remoteAddress: '10.1.1.1' })).statusCode).toBe(200)
  const v6 = ['2001:db8::1', '2001:db8::2', '2001:db8::3', '2001:db8::4']
  const shared: number[] = []
  for (const remoteAddress of v6)
    shared.push((await limited.inject({ url: '/health', remoteAddress })).statusCode)
  expect(shared).toEqual([200, 200, 200, 429])
})

test('health is one word for anybody, figures are for operators', async () => {
  const registry = createRegistry()
  let state: 'ok' | 'sealed' = 'sealed'
  const service = await testApp({ registry, name: 'key-provider' })
  addHealthRoutes(service, {
    prefix: '/kp',
    state: () => state,
    metrics: { registry, access: { needs: everyone, service: 'test' } },
  })
  const sealed = await service.inject('/kp/health')
  expect([sealed.statusCode, sealed.json()]).toEqual([503, { status: 'sealed' }])
  state = 'ok'
  const open = await service.inject('/kp/health')
  expect([open.statusCode, open.json()]).toEqual([200, { status: 'ok' }])
  expect((await service.inject('/kp/metrics')).statusCode).toBe(401)
  const figures = await service.inject({ url: '/kp/metrics', headers: as(AUDITOR) })
  expect(figures.headers['content-type']).toContain('text/plain')
  expect(figures.body).toContain(
    'key_provider_http_request_seconds_count{method="GET",route="/kp/health",status="200"} 1',
  )
})
