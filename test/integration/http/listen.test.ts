import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as tlsConnect } from 'node:tls'
import { Type } from 'typebox'
import { Agent, request } from 'undici'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { operation } from '../../../src/api/operation.js'
import {
  type App,
  addHealthRoutes,
  addOperation,
  type Listener,
  type ListenOptions,
  listen,
  type TlsFiles,
} from '../../../src/http/index.js'
import { testApp } from '../../unit/http/harness.js'

const Empty = Type.Object({}, { additionalProperties: false })

let folder: string
let tls: TlsFiles
const open: AsyncDisposable[] = []

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sigillo-listen-'))
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1']
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', key]
  const args = ['req', '-x509', ...newKey, '-out', cert, '-days', '2', ...subject]
  execFileSync('openssl', args, { stdio: 'ignore' })
  tls = { certPem: readFileSync(cert, 'utf8'), keyPem: readFileSync(key, 'utf8') }
})
afterEach(async () => {
  for (const resource of open.splice(0).reverse()) await resource[Symbol.asyncDispose]()
})
afterAll(() => rmSync(folder, { recursive: true }))

async function service(prefix = ''): Promise<App> {
  const app = await testApp({ publicRequestsPerMinute: 100_000 })
  addHealthRoutes(app, { prefix, state: () => 'ok' })
  return app
}

async function start(
  app: App | ReadonlyMap<string, App>,
  address: string,
  options: ListenOptions = {},
): Promise<Listener> {
  const listener = await listen(app, address, options)
  open.push(listener)
  return listener
}

function client(options: Agent.Options = {}): Agent {
  const agent = new Agent(options)
  open.push({ [Symbol.asyncDispose]: () => agent.destroy() })
  return agent
}

async function statusOf(url: string, dispatcher: Agent): Promise<number> {
  const answer = await request(url, { dispatcher })
  await answer.body.dump()
  return answer.statusCode
}

test('an app is served over TLS at the port that the URL names', async () => {
  const { url } = await start(await service(), '127.0.0.1:0', { tls })
  expect(url).toMatch(/^https:\/\/127\.0\.0\.1:\d+$/)
  expect(await statusOf(`${url}/health`, client({ connect: { ca: tls.certPem } }))).toBe(200)
})

test('TLS 1.1 is refused', async () => {
  const { url } = await start(await service(), '127.0.0.1:0', { tls })
  const outcome = await new Promise<string>((resolve) => {
    const options = {
      minVersion: 'TLSv1',
      maxVersion: 'TLSv1.1',
      ca: tls.certPem,
      ciphers: 'ALL@SECLEVEL=0',
    } as const
    const socket = tlsConnect({ port: Number(new URL(url).port), host: '127.0.0.1', ...options })
    socket.once('secureConnect', () => resolve('connected'))
    socket.once('error', () => resolve('refused'))
  })
  expect(outcome).toBe('refused')
})

test.each([
  ['without a certificate', '127.0.0.1:0', {}],
  [
    'without a certificate on all addresses, whatever is set',
    '0.0.0.0:0',
    { insecureLoopback: true },
  ],
  [
    'without a certificate on a name, whatever is set',
    'authority.example:0',
    { insecureLoopback: true },
  ],
])('an app is not served %s', async (_, address, options) => {
  await expect(listen(await service(), address, options)).rejects.toMatchObject({
    code: 'LISTEN_INSECURE',
  })
})

test('an app for a unix socket is not served on TCP, even over TLS', async () => {
  const app = await testApp({ local: true })
  await expect(listen(app, '127.0.0.1:0', { tls })).rejects.toMatchObject({
    code: 'LISTEN_INSECURE',
  })
})

test('a certificate that cannot be read, or a port that is taken, is said', async () => {
  const broken = { certPem: 'no certificate', keyPem: tls.keyPem }
  await expect(listen(await service(), '127.0.0.1:0', { tls: broken })).rejects.toMatchObject({
    code: 'LISTEN_FAILED',
  })
  const { url } = await start(await service(), '127.0.0.1:0', { insecureLoopback: true })
  const taken = `127.0.0.1:${new URL(url).port}`
  await expect(listen(await service(), taken, { insecureLoopback: true })).rejects.toMatchObject({
    code: 'LISTEN_FAILED',
  })
})

test('apps are told apart by the first segment of the path', async () => {
  const table = new Map([
    ['attestation', await service('/attestation')],
    ['key-provider', await service('/key-provider')],
    ['', await service()],
  ])
  const { url } = await start(table, '127.0.0.1:0', { insecureLoopback: true })
  const agent = client()
  for (const path of ['/attestation/health', '/key-provider/health', '/health', '/health?']) {
    expect([path, await statusOf(url + path, agent)]).toEqual([path, 200])
  }
  for (const path of [
    '/attestation',
    '/other/health',
    '/Attestation/health',
    '/%61ttestation/health',
    '//attestation/health',
  ]) {
    expect([path, await statusOf(url + path, agent)]).toEqual([path, 404])
  }
})

describe('a unix socket', () => {
  test('is for its owner alone, lets local routes be called, and is gone after the end', async () => {
    const path = join(folder, 'a.sock')
    const app = await testApp({ local: true })
    const status = operation({
      id: 's',
      summary: '',
      method: 'GET',
      path: '/v1/status',
      status: 200,
      answer: Empty,
    })
    addOperation(app, status, { access: 'local' }, async () => ({}))
    const listener = await listen(app, `unix:${path}`)
    expect(listener.url).toBe(`unix:${path}`)
    expect(statSync(path).mode & 0o777).toBe(0o600)
    expect(
      await statusOf('http://localhost/v1/status', client({ connect: { socketPath: path } })),
    ).toBe(200)
    await listener.close()
    expect(statSync(path, { throwIfNoEntry: false })).toBeUndefined()
  })

  test('that a dead process left is replaced', async () => {
    const path = join(folder, 'dead.sock')
    leaveSocket(path)
    expect(statSync(path).isSocket()).toBe(true)
    await start(await service(), `unix:${path}`)
    expect(
      await statusOf('http://localhost/health', client({ connect: { socketPath: path } })),
    ).toBe(200)
  })

  test('of a living process is left alone', async () => {
    const path = join(folder, 'alive.sock')
    await start(await service(), `unix:${path}`)
    await expect(listen(await service(), `unix:${path}`)).rejects.toMatchObject({
      code: 'LISTEN_FAILED',
    })
    expect(
      await statusOf('http://localhost/health', client({ connect: { socketPath: path } })),
    ).toBe(200)
  })

  test('does not replace a file', async () => {
    const path = join(folder, 'file.sock')
    writeFileSync(path, 'mine')
    await expect(listen(await service(), `unix:${path}`)).rejects.toMatchObject({
      code: 'LISTEN_FAILED',
    })
    expect(readFileSync(path, 'utf8')).toBe('mine')
  })
})

describe('slow and many clients', () => {
  test('half a request is ended by the server, and others are served meanwhile', async () => {
    const { url } = await start(await service(), '127.0.0.1:0', { insecureLoopback: true })
    const slow = await Promise.all(Array.from({ length: 50 }, () => rawConnection(url)))
    for (const { socket } of slow) socket.write('POST /health HTTP/1.1\r\nhost: a\r\nx-slow: ')
    expect(await statusOf(`${url}/health`, client())).toBe(200)
    const answers = await Promise.all(slow.map(({ ended }) => ended))
    expect(new Set(answers.map((text) => text.split('\r\n')[0]))).toEqual(
      new Set(['HTTP/1.1 408 Request Timeout']),
    )
  })

  test('silent TLS clients are ended', async () => {
    const { url } = await start(await service(), '127.0.0.1:0', { tls })
    const silent = await Promise.all(Array.from({ length: 20 }, () => rawConnection(url)))
    expect(await statusOf(`${url}/health`, client({ connect: { ca: tls.certPem } }))).toBe(200)
    await Promise.all(silent.map(({ ended }) => ended))
  })

  test('one address gets so many connections and no more', async () => {
    const options = { insecureLoopback: true, maxConnectionsPerAddress: 3 }
    const { url } = await start(await service(), '127.0.0.1:0', options)
    const held = [await rawConnection(url), await rawConnection(url), await rawConnection(url)]
    expect(await (await rawConnection(url)).ended).toBe('')
    for (const { socket } of held) socket.destroy()
    await expect.poll(() => statusOf(`${url}/health`, client()).catch(() => 0)).toBe(200)
  })

  test.each([
    ['large headers', `GET /health HTTP/1.1\r\nhost: a\r\nx: ${'a'.repeat(20_000)}\r\n\r\n`, '431'],
    ['no Host header', 'GET /health HTTP/1.1\r\n\r\n', '400'],
    [
      'two lengths',
      'POST /health HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n',
      '400',
    ],
    [
      'length and chunks',
      'POST /health HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n',
      '400',
    ],
    ['a line feed in a header', 'GET /health HTTP/1.1\r\nhost: a\nx: b\r\n\r\n', '400'],
    ['another protocol', 'SSH-2.0-OpenSSH\r\n\r\n', '400'],
  ])('refuses %s', async (_, text, status) => {
    const { url } = await start(await service(), '127.0.0.1:0', { insecureLoopback: true })
    const { socket, ended } = await rawConnection(url)
    socket.write(text)
    expect((await ended).split(' ')[1]).toBe(status)
  })
})

describe('the end', () => {
  test('lets an open request finish, and is quick when there is none', async () => {
    const app = await testApp()
    let finish: () => void = () => undefined
    let started: () => void = () => undefined
    const hasStarted = new Promise<void>((resolve) => {
      started = resolve
    })
    const wait = operation({
      id: 'w',
      summary: '',
      method: 'GET',
      path: '/wait',
      status: 200,
      answer: Empty,
    })
    addOperation(app, wait, { access: 'public' }, async () => {
      started()
      await new Promise<void>((resolve) => {
        finish = resolve
      })
      return {}
    })
    const graceMs = 60_000
    const listener = await listen(app, '127.0.0.1:0', { insecureLoopback: true, graceMs })
    const answer = statusOf(`${listener.url}/wait`, client())
    await hasStarted
    const start = performance.now()
    const closed = listener.close()
    finish()
    expect(await answer).toBe(200)
    await closed
    expect(performance.now() - start).toBeLessThan(graceMs / 2)
  })

  test('does not wait for clients longer than the grace', async () => {
    const listener = await listen(await service(), '127.0.0.1:0', {
      insecureLoopback: true,
      graceMs: 100,
    })
    const { socket, ended } = await rawConnection(listener.url)
    socket.write('GET /health HT')
    await expect.poll(() => socket.bytesWritten).toBeGreaterThan(0)
    await listener.close()
    await ended
  })
})

interface RawConnection {
  readonly socket: Socket
  /** All that the server sent until the end of the connection. */
  readonly ended: Promise<string>
}

async function rawConnection(url: string): Promise<RawConnection> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  open.push({
    [Symbol.asyncDispose]: async () => {
      socket.destroy()
    },
  })
  let text = ''
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1')
  })
  const ended = new Promise<string>((resolve) => {
    socket.once('error', () => undefined)
    socket.once('close', () => resolve(text))
  })
  await new Promise<void>((resolve) => {
    socket.once('connect', resolve)
  })
  return { socket, ended }
}

/** Binds a socket in another process that ends without removing it. */
function leaveSocket(path: string): void {
  const script = `require('node:net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`
  try {
    execFileSync(process.execPath, ['-e', script], { stdio: 'ignore' })
  } catch {
    // ended by its own signal
  }
}
