import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { makeCoreDumpKey } from '../../../src/api/core-dumps.js'
import { createProvider } from '../../../src/api/key-provider.js'
import { createLab, type Lab } from '../../../swtpm/index.js'
import type { TestSite } from '../../helpers/site.js'
import { CLUSTER, openKeySite, startAgent, type TestAgent, trustAgent, until } from './fixture.js'

const PROGRAM = fileURLToPath(new URL('../../../dist/src/cli/agent-main.js', import.meta.url))
const CANARY = 'a secret that was in memory'

let lab: Lab
let site: TestSite
let agent: TestAgent
let folder: string
let keys: string
let dumps: string

beforeAll(async () => {
  lab = await createLab()
  site = await openKeySite(lab)
  agent = await startAgent(lab, site, 'a')
  await trustAgent(site, agent)
  const settings = {
    ...{ clusters: [CLUSTER], minimumAssurance: 'session' as const, maxTokenAgeSeconds: 300 },
  }
  await site.admin.call(createProvider, { body: { name: 'gold', kind: 'trusted', settings } })
  folder = join(lab.directory, 'crash')
  mkdirSync(folder)
  keys = join(agent.stateDirectory, 'core-dump-keys.json')
  dumps = join(folder, 'dumps')
})
afterAll(async () => {
  await agent[Symbol.asyncDispose]()
  await site[Symbol.asyncDispose]()
  await lab[Symbol.asyncDispose]()
})

function handle(core: Uint8Array, ...options: readonly string[]) {
  const files = ['--keys', keys, '--directory', dumps]
  const args = [PROGRAM, 'core-dump', 'handler', '4711', '11', 'sle\nep', ...files, ...options]
  return spawnSync(process.execPath, args, { input: core, encoding: 'utf8' })
}

function openDump(file: string, out: string): Promise<number | null> {
  const args = [PROGRAM, 'core-dump', 'open', file, '--out', out, '--socket', agent.socketFile]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'ignore'] })
  return once(child, 'exit').then(([exitCode]) => exitCode)
}

/** The core of a process that ended by a signal; empty where the kernel of this machine hands cores to a program. */
async function crash(): Promise<Uint8Array> {
  const script = 'ulimit -c unlimited; exec sleep 60'
  const child = spawn('/bin/sh', ['-c', script], {
    ...{ cwd: folder, stdio: 'ignore', env: { PATH: '/usr/bin:/bin', CANARY } },
  })
  await until('sleep', async () =>
    readFileSync(`/proc/${child.pid}/cmdline`, 'latin1').startsWith('sleep'),
  )
  child.kill('SIGSEGV')
  await once(child, 'exit')
  const name = readdirSync(folder).find((file) => file.startsWith('core'))
  return name === undefined ? new Uint8Array() : readFileSync(join(folder, name))
}

test('there is no dump before there is a key for it', () => {
  expect(handle(Buffer.from('core')).status).toBe(1)
  expect(existsSync(dumps)).toBe(false)
})

test('the core of a process that crashed is sealed by who has no secret, and opened by the host alone', async () => {
  const { keyId } = await agent.socket.call(makeCoreDumpKey, { body: { provider: 'gold' } })
  expect(keyId).toMatch(/^[0-9a-f]{32}$/)
  expect(statSync(keys).mode & 0o777).toBe(0o600)
  const crashed = await crash()
  const core = crashed.length > 0 ? crashed : Buffer.from(CANARY.repeat(10_000))
  expect(Buffer.from(core).includes(CANARY)).toBe(true)
  const handled = handle(core)
  expect([handled.status, handled.stderr]).toEqual([0, ''])
  const [name = ''] = readdirSync(dumps)
  const file = join(dumps, name)
  expect(statSync(file).mode & 0o777).toBe(0o600)
  const sealed = readFileSync(file)
  expect(sealed.includes(CANARY)).toBe(false)
  expect(sealed.includes('4711 11 sle?ep')).toBe(true)

  const out = join(folder, 'opened')
  expect(await openDump(file, out)).toBe(0)
  expect(readFileSync(out).equals(core)).toBe(true)
  expect(statSync(out).mode & 0o777).toBe(0o600)
  // not over a file that is there
  expect(await openDump(file, out)).toBe(1)

  // an older key stays, for older dumps
  await agent.socket.call(makeCoreDumpKey, { body: { provider: 'gold' } })
  expect(await openDump(file, join(folder, 'again'))).toBe(0)

  writeFileSync(join(folder, 'cut.sgcd'), sealed.subarray(0, sealed.length - 1))
  expect(await openDump(join(folder, 'cut.sgcd'), join(folder, 'cut'))).toBe(1)
  expect(existsSync(join(folder, 'cut'))).toBe(false)
})

test('a dump that is too large leaves nothing', () => {
  const before = readdirSync(dumps)
  expect(handle(Buffer.alloc(100_000), '--max-size', '1000').status).toBe(1)
  expect(readdirSync(dumps)).toEqual(before)
})

test('a host that is not attested opens none', async () => {
  const [name = ''] = readdirSync(dumps)
  await site.stop()
  expect(await openDump(join(dumps, name), join(folder, 'refused'))).toBe(1)
  expect(existsSync(join(folder, 'refused'))).toBe(false)
  await site.start()
})
