import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { toHex } from '../../../src/core/bytes.js'
import {
  createKmipClient,
  encodeTtlv,
  type KmipClient,
  OPERATION,
  TAG,
} from '../../../src/kmip/index.js'
import { byteString, enumeration, integer, structure, textString } from '../../../src/kmip/ttlv.js'
import { sigillo } from './sigillo.js'

interface Ready {
  readonly host: string
  readonly port: number
  readonly caFile: string
  readonly clientCertificateFile: string
  readonly clientKeyFile: string
}

let folder: string
const path = (name: string): string => join(folder, name)
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sgl-kmip-'))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const KEY = '0123456789abcdef'.repeat(4)
const MESSAGE = encodeTtlv(
  structure(TAG.RequestMessage, [
    structure(TAG.RequestHeader, [
      structure(TAG.ProtocolVersion, [
        integer(TAG.ProtocolVersionMajor, 1),
        integer(TAG.ProtocolVersionMinor, 4),
      ]),
      integer(TAG.BatchCount, 1),
    ]),
    structure(TAG.BatchItem, [
      enumeration(TAG.Operation, OPERATION.Register),
      structure(TAG.RequestPayload, [
        textString(TAG.UniqueIdentifier, 'key-1'),
        byteString(TAG.KeyMaterial, Buffer.from(KEY, 'hex')),
      ]),
    ]),
  ]),
)

/** `sigillo kmip serve`, until the test ends it. */
async function serve(...args: readonly string[]) {
  const child = spawn(
    process.execPath,
    ['dist/src/cli/main.js', 'kmip', 'serve', '--json', '--listen', '127.0.0.1:0', ...args],
    { env: { PATH: process.env['PATH'] }, stdio: ['ignore', 'pipe', 'pipe'] },
  )
  let err = ''
  child.stderr.on('data', (chunk) => {
    err += String(chunk)
  })
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve))
  const line = await new Promise<string>((resolve, reject) => {
    let out = ''
    child.stdout.on('data', (chunk) => {
      out += String(chunk)
      if (out.includes('\n')) resolve(out)
    })
    child.once('exit', () => reject(new Error(`the server ended: ${err}`)))
  })
  return {
    ready: JSON.parse(line) as Ready,
    errors: () => err,
    end: async () => {
      child.kill('SIGTERM')
      return await ended
    },
  }
}

function open(ready: Ready): KmipClient {
  const text = (file: string): string => readFileSync(file, 'utf8')
  return createKmipClient({
    servers: [{ name: 'served', host: ready.host, port: ready.port }],
    tls: {
      authorities: text(ready.caFile),
      certificate: text(ready.clientCertificateFile),
      privateKey: text(ready.clientKeyFile),
    },
  })
}

test('serves a client with the certificates that it made, says that it is no server for production, and ends', async () => {
  const server = await serve()
  expect(server.errors()).toContain('NOT FOR PRODUCTION')
  {
    await using client = open(server.ready)
    const id = await client.create({ name: 'by-cli' })
    const { material } = await client.get(id)
    expect(material.length).toBe(32)
    const key = material.use(toHex)
    expect(await server.end()).toBe(0)
    expect(server.errors()).toContain('"operation":"Create"')
    expect(server.errors()).not.toContain(key)
  }
  expect(() => statSync(server.ready.caFile)).toThrow()
})

test('keeps its certificates in a folder for the owner alone, and speaks the versions that are asked for', async () => {
  const first = await serve('--folder', path('lab'), '--versions', '1.1,1.2')
  await first.end()
  const ca = readFileSync(first.ready.caFile, 'utf8')
  expect(statSync(path('lab/client.key')).mode & 0o777).toBe(0o600)
  const second = await serve('--folder', path('lab'), '--versions', '1.1,1.2')
  expect(readFileSync(second.ready.caFile, 'utf8')).toBe(ca)
  await using client = open(second.ready)
  await client.ping()
  expect(client.health[0]?.version).toBe('1.2')
  await second.end()
})

test('says what is wrong when the key server cannot be started', async () => {
  const usage = await sigillo('kmip', 'serve', '--listen', 'nowhere')
  expect(usage).toMatchObject({ status: 2, out: '' })
  expect(usage.err).toContain('expected HOST:PORT')
  expect(await sigillo('kmip', 'serve', '--versions', '3.0')).toMatchObject({ status: 2 })
  writeFileSync(path('ca.pem'), 'none')
  const broken = await sigillo('kmip', 'serve', '--listen', '127.0.0.1:0', '--folder', folder)
  expect(broken.status).toBe(1)
  expect(broken.err).toContain('(CONFIG_UNREADABLE)')
})

test.each([
  ['octets', () => MESSAGE],
  ['hexadecimal', () => Buffer.from(`${toHex(MESSAGE).replace(/(.{64})/g, '$1\n')}\n`)],
  ['base64', () => Buffer.from(`${Buffer.from(MESSAGE).toString('base64')}\n`)],
])('prints a message in %s without its secrets', async (name, content) => {
  writeFileSync(path(name), content())
  const plain = await sigillo('kmip', 'decode', path(name))
  expect(plain).toMatchObject({ status: 0, err: '' })
  expect(plain.out).toContain('Operation: Register (Enumeration)')
  expect(plain.out).toContain('UniqueIdentifier: "key-1"')
  expect(plain.out).toContain('[secret, 32 long]')
  const xml = await sigillo('kmip', 'decode', path(name), '--xml')
  expect(xml.out).toContain('<Operation type="Enumeration" value="Register"/>')
  const json = await sigillo('--json', 'kmip', 'decode', path(name))
  expect(JSON.parse(json.out)).toMatchObject([{ tag: 'RequestMessage', type: 'Structure' }])
  for (const { out } of [plain, xml, json]) expect(out).not.toContain(KEY)
})

test('prints every message of a recorded connection, and refuses one that is not whole', async () => {
  writeFileSync(path('two'), Buffer.concat([MESSAGE, MESSAGE]))
  const both = await sigillo('kmip', 'decode', path('two'), '--json')
  expect(JSON.parse(both.out)).toHaveLength(2)
  writeFileSync(path('half'), MESSAGE.subarray(0, MESSAGE.length - 8))
  const half = await sigillo('kmip', 'decode', path('half'))
  expect(half).toMatchObject({ status: 1, out: '' })
  expect(half.err).toContain('(DECODE_TRUNCATED)')
  writeFileSync(path('none'), 'this is no message of KMIP!')
  expect((await sigillo('kmip', 'decode', path('none'))).err).toContain('(DECODE_')
  expect((await sigillo('kmip', 'decode', path('absent'))).err).toContain('(CONFIG_UNREADABLE)')
})
