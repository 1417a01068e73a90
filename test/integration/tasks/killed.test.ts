import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { captureBaseImage } from '../../../src/api/base-images.js'
import { type Client, createClient } from '../../../src/api/client.js'
import { attestNow, getStatus, listAgentVms, listKeys } from '../../../src/api/host-agent.js'
import { cancelVmTask } from '../../../src/api/tasks.js'
import { followVmTask } from '../../../src/cli/authority/follow-task.js'
import { createOutput } from '../../../src/cli/output.js'
import { createLab, type Lab, type LabTpm } from '../../../swtpm/index.js'
import { agentSettings, makeAgentFolder } from '../../helpers/agent.js'
import { GOOD_BOOT, ticketFor } from '../../helpers/host.js'
import { bundled } from '../../helpers/program.js'
import type { TestSite } from '../../helpers/site.js'
import { until } from '../host-keys/fixture.js'
import { ask, done, follow, openTaskSite, smallVm } from './fixture.js'

const AGENT = fileURLToPath(new URL('./agent-process.ts', import.meta.url))
const isSlow = process.env['SLOW'] === '1'

let lab: Lab
let site: TestSite
let tpm: LabTpm
let folder: string
let socket: Client
let child: ChildProcess | undefined

beforeAll(async () => {
  lab = await createLab()
  site = await openTaskSite(lab)
  tpm = await lab.manufacture('a')
  await tpm.boot(GOOD_BOOT)
  folder = join(lab.directory, 'a-a')
  makeAgentFolder(folder, await ticketFor(site))
  socket = createClient({ baseUrl: 'http://localhost', socketPath: join(folder, 'sock') })
  await start()
  await site.admin.call(captureBaseImage, { body: { name: 'of-a', hostId: 'a' } })
  await socket.call(attestNow, { body: {} })
}, 120_000)
afterAll(async () => {
  await end('SIGTERM')
  await socket?.[Symbol.asyncDispose]()
  await tpm?.stop()
  await site?.[Symbol.asyncDispose]()
  await lab?.[Symbol.asyncDispose]()
})

async function start(killAt?: string): Promise<void> {
  const started = spawn(process.execPath, [bundled(AGENT)], {
    stdio: ['pipe', 'inherit', 'inherit'],
  })
  child = started
  const env = {
    ...agentSettings(site, { name: 'a', folder, tpm }),
  }
  started.stdin?.end(JSON.stringify({ env, killAt }))
  await until(
    'the agent',
    async () => {
      // Where it is to die early, it may be gone before it is seen
      if (started.exitCode !== null || started.signalCode !== null) return true
      const status = await socket.call(getStatus, {}).catch(() => undefined)
      return status?.state === 'attested' || status?.state === 'refused'
    },
    60_000,
  )
}

async function end(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
  const ended = child
  child = undefined
  if (!ended || ended.exitCode !== null || ended.signalCode !== null) return
  ended.kill(signal)
  await once(ended, 'exit')
}

/** Waits until the agent killed itself where it was told. */
async function untilKilled(): Promise<void> {
  const dying = child
  child = undefined
  if (!dying) throw new Error('no agent runs')
  if (dying.exitCode === null && dying.signalCode === null) await once(dying, 'exit')
  expect(dying.signalCode).toBe('SIGKILL')
}

/** Data keys of a VM: each change of one makes its number higher. */
async function generations(vmId: string): Promise<Record<string, number>> {
  const { keys } = await socket.call(listKeys, {})
  return Object.fromEntries(
    keys.filter((key) => key.vmId === vmId).map(({ object, version }) => [object, version]),
  )
}

const leftovers = () =>
  readdirSync(join(folder, 'vms')).filter(
    (name) => name.includes('creating') || name.startsWith('.'),
  )

const EVERYWHERE = [
  'before waiting',
  'after waiting',
  'after begun',
  'before ended',
  'after ended',
  'before settled',
]
const FOR_KEYS = isSlow
  ? [...EVERYWHERE, 'at root: copy', 'at root: place']
  : ['after begun', 'at root: place', 'before ended']
const FOR_NEW_VM = isSlow ? [...EVERYWHERE, 'at commit', 'at keys'] : []

describe('an agent that was killed has a task done once', () => {
  test.each(FOR_KEYS)(
    'new keys, killed %s',
    async (killAt) => {
      const name = `vm-${killAt.replace(/[^a-z]/g, '-')}`
      const { taskId: vmId } = await done(site.admin, {
        kind: 'vm.create',
        hostId: 'a',
        request: smallVm(name),
      })
      await end('SIGTERM')
      await start(killAt)
      const task = await ask(site.admin, { kind: 'vm.recrypt', vmId, request: {} })
      await untilKilled()
      await start()
      expect((await follow(site.admin, task)).error).toBeUndefined()
      expect(await generations(vmId)).toEqual({ home: 2, 'disk-root': 2 })
      expect(leftovers()).toEqual([])
    },
    120_000,
  )

  test.each(FOR_NEW_VM)(
    'a new VM, killed %s',
    async (killAt) => {
      const name = `new-${killAt.replace(/[^a-z]/g, '-')}`
      await end('SIGTERM')
      await start(killAt)
      const request = smallVm(name)
      const task = await ask(site.admin, { kind: 'vm.create', hostId: 'a', request })
      await untilKilled()
      await start()
      const { error, result } = await follow(site.admin, task)
      expect(error).toBeUndefined()
      expect(result).toMatchObject({ vmId: task.taskId, name })
      const { vms } = await socket.call(listAgentVms, {})
      expect(vms.filter((vm) => vm.name === name)).toHaveLength(1)
      expect(leftovers()).toEqual([])
    },
    120_000,
  )

  test('and one that was cancelled meanwhile is not begun by the next', async () => {
    const { taskId: vmId } = await done(site.admin, {
      kind: 'vm.create',
      hostId: 'a',
      request: smallVm('left-alone'),
    })
    await end('SIGTERM')
    await start('at root: copy')
    const task = await ask(site.admin, { kind: 'vm.recrypt', vmId, request: { disks: ['root'] } })
    await untilKilled()
    await site.admin.call(cancelVmTask, { params: { taskId: task.taskId }, body: {} })
    await start()
    expect(await follow(site.admin, task)).toMatchObject({ state: 'cancelled' })
    expect(await generations(vmId)).toEqual({ home: 1, 'disk-root': 1 })
  }, 120_000)

  test('while the authority was restarted, and nothing is lost', async () => {
    const { taskId: vmId } = await done(site.admin, {
      kind: 'vm.create',
      hostId: 'a',
      request: smallVm('restarted'),
    })
    await done(site.admin, { kind: 'vm.start', vmId, request: {} })
    const stopping = await ask(site.admin, {
      kind: 'vm.stop',
      vmId,
      request: { graceSeconds: 3 },
    })
    const waiting = await ask(site.admin, { kind: 'vm.recrypt', vmId, request: {} })
    await follow(site.admin, stopping, ({ state }) => state === 'running')
    const output = createOutput({ json: true })
    const followed = followVmTask({ client: site.admin, output }, waiting)
    await site.stop()
    await site.start()
    // as the command line follows it, which waits for the authority, too
    expect(await followed).toMatchObject({ state: 'done' })
    expect(await follow(site.admin, stopping)).toMatchObject({ state: 'done' })
    expect(await follow(site.admin, waiting)).toMatchObject({ state: 'done' })
    expect(await generations(vmId)).toEqual({ home: 2, 'disk-root': 2 })
  }, 120_000)
})
