import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { KeyServersInput } from '../../../src/api/key-servers.js'
import { parseUtf8, utf8 } from '../../../src/core/bytes.js'
import { Secret } from '../../../src/core/secret.js'
import {
  openKeyServers,
  parseKeyServers,
  sealKeyServers,
  viewOfKeyServers,
} from '../../../src/key-servers/index.js'
import { passphraseSealer } from '../../../src/seals/index.js'
import { createRootKey, openStore, type RootKey, type Store } from '../../../src/store/index.js'
import { TestAuthority } from '../kmip/client-certificates.js'
import { inputFor } from './support.js'

let authority: TestAuthority
let folder: string
let store: Store
let rootKey: RootKey
let input: KeyServersInput

beforeAll(async () => {
  authority = new TestAuthority()
  folder = mkdtempSync(join(tmpdir(), 'sigillo-key-servers-'))
  store = await openStore({ file: join(folder, 'a.db') })
  using passphrase = new Secret(utf8('correct horse battery staple'))
  rootKey = await createRootKey(store, 'key-provider', [passphraseSealer(passphrase)], 0)
  input = inputFor(authority, [5696, 5697], { username: 'sigillo', password: 'not shown' })
})
afterAll(async () => {
  rootKey[Symbol.dispose]()
  await store[Symbol.asyncDispose]()
  rmSync(folder, { recursive: true, force: true })
  authority[Symbol.dispose]()
})

const refused = (change: Partial<KeyServersInput>) => () => parseKeyServers({ ...input, ...change })

test('shows servers and certificates, and neither private key nor password', () => {
  using servers = parseKeyServers(input)
  const view = viewOfKeyServers(servers)
  expect(view).toMatchObject({
    servers: [{ port: 5696 }, { port: 5697 }],
    authorities: [{ subject: 'CN=authority' }],
    certificate: { issuer: 'CN=authority' },
    username: 'sigillo',
    hasPassword: true,
  })
  const shown = JSON.stringify({ view, servers })
  expect(shown).not.toContain('PRIVATE KEY')
  expect(shown).not.toContain('not shown')
})

test('keeps private key and password where a change leaves them out', () => {
  using before = parseKeyServers(input)
  const { privateKey: _, password: __, ...rest } = input
  using after = parseKeyServers({ ...rest, servers: [{ host: 'kms.test', port: 5696 }] }, before)
  expect(after.privateKeyPem.use(parseUtf8)).toBe(input.privateKey)
  expect(after.password?.use(parseUtf8)).toBe('not shown')
  using other = parseKeyServers({ ...rest, username: 'another' }, before)
  expect(other.password).toBeUndefined()
})

test('refuses settings that do not belong together', () => {
  const foreign = authority.client()
  const { privateKey: _, ...withoutKey } = input
  for (const act of [
    refused({ privateKey: foreign.key }),
    refused({ privateKey: 'no key' }),
    refused({ certificate: 'no certificate' }),
    refused({ authorities: '' }),
    refused({ authorities: foreign.key }),
    refused({ servers: [...input.servers, { host: 'localhost', port: 5696 }] }),
    () => parseKeyServers(withoutKey),
    () => {
      const { username: __, ...nobody } = input
      return parseKeyServers(nobody)
    },
  ]) {
    expect(act).toThrow(expect.objectContaining({ code: 'KEY_SERVERS' }))
  }
})

test('opens what it sealed, for the same subject and settings alone', () => {
  using servers = parseKeyServers(input)
  const stored = sealKeyServers(rootKey, 'provider:a', servers)
  expect(stored.settings).not.toContain('PRIVATE KEY')
  expect(Buffer.from(stored.sealed).includes('PRIVATE KEY')).toBe(false)
  using opened = openKeyServers(rootKey, 'provider:a', stored)
  expect(opened.settings).toEqual(servers.settings)
  expect(opened.privateKeyPem.use(parseUtf8)).toBe(input.privateKey)
  expect(opened.password?.use(parseUtf8)).toBe('not shown')

  const elsewhere = { ...stored, settings: stored.settings.replace('localhost', 'attacker1') }
  for (const act of [
    () => openKeyServers(rootKey, 'provider:b', stored),
    () => openKeyServers(rootKey, 'provider:a', elsewhere),
  ]) {
    expect(act).toThrow(expect.objectContaining({ code: 'ROOT_KEY_OPEN' }))
  }
})
