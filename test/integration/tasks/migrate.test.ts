import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { listVms } from '../../../src/api/control-plane.js'
import { attestNow } from '../../../src/api/host-agent.js'
import { createLab, type Lab } from '../../../swtpm/index.js'
import type { TestSite } from '../../helpers/site.js'
import { type Outcome, sigillo } from '../cli/sigillo.js'
import { startAgent, type TestAgent, trustAgent } from '../host-keys/fixture.js'
import { done, openTaskSite, smallVm } from './fixture.js'

let lab: Lab
let site: TestSite
let a: TestAgent
let b: TestAgent
let shared: string

beforeAll(async () => {
  lab = await createLab()
  site = await openTaskSite(lab)
  a = await startAgent(lab, site, 'a')
  await trustAgent(site, a)
  b = await startAgent(lab, site, 'b')
  for (const { socket } of [a, b]) await socket.call(attestNow, { body: {} })
  shared = join(lab.directory, 'shared')
  mkdirSync(shared)
  await done(site.admin, { kind: 'vm.create', hostId: 'a', request: smallVm('web1') })
}, 120_000)
afterAll(async () => {
  await b?.[Symbol.asyncDispose]()
  await a?.[Symbol.asyncDispose]()
  await site?.[Symbol.asyncDispose]()
  await lab?.[Symbol.asyncDispose]()
})

const run = (...args: readonly string[]): Promise<Outcome> =>
  sigillo(...args, '--site', site.folder)

async function placeOfVm(): Promise<unknown> {
  const { vms } = await site.admin.call(listVms, { query: {} })
  return vms.map(({ hostId, report }) => [report.name, hostId, report.state])
}

test('a stopped VM is moved to another host by one command', async () => {
  const directory = join(shared, 'web1')
  const moved = await run('vm', 'migrate', 'web1', '--to', 'b', '--directory', directory)
  expect(moved).toMatchObject({ status: 0 })
  expect(moved.out).toMatch(/^vm\.export on a is done.*\nvm\.import on b is done/)
  expect(await placeOfVm()).toEqual([['web1', 'b', 'stopped']])
}, 120_000)

test('a VM that runs is moved while it runs', async () => {
  expect(await run('vm', 'start', 'web1')).toMatchObject({ status: 0 })
  const listen = `unix:${join(lab.directory, 'live')}`
  const moved = await run('vm', 'migrate', 'web1', '--to', 'a', '--listen', listen)
  expect([moved.status, moved.err]).toEqual([0, expect.stringContaining('waits for a to listen')])
  expect(await placeOfVm()).toEqual([['web1', 'a', 'running']])
}, 120_000)

test('what cannot be moved stays where it is, with the reason', async () => {
  const to = ['vm', 'migrate', 'web1', '--to', 'b']
  expect((await run(...to)).err).toContain('either --directory or --listen')
  const runs = await run(...to, '--directory', join(shared, 'other'))
  expect([runs.status, runs.err]).toEqual([1, expect.stringContaining('(VM_RUNNING)')])
  const nowhere = await run(...to, '--listen', 'unix:/nonexistent/live')
  expect([nowhere.status, nowhere.err]).toEqual([1, expect.stringContaining('(VM_LIVE)')])
  const nobody = await run('vm', 'migrate', 'web1', '--to', 'nobody', '--listen', '127.0.0.1:1')
  expect([nobody.status, nobody.err]).toEqual([1, expect.stringContaining('(NOT_FOUND)')])
  expect(await placeOfVm()).toEqual([['web1', 'a', 'running']])
  expect(await run('vm', 'stop', 'web1', '--grace', '0')).toMatchObject({ status: 0 })
}, 120_000)
