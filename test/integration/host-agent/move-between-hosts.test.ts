import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { exportVm, importVm, takeBackVm } from '../../../src/api/agent-vm-moves.js'
import { createCluster, listVms } from '../../../src/api/control-plane.js'
import { addAnchors } from '../../../src/api/endorsement.js'
import {
  createVm,
  deleteVm,
  getTask,
  readDisk,
  showVm,
  startVm,
  type TaskView,
} from '../../../src/api/host-agent.js'
import { createProvider } from '../../../src/api/key-provider.js'
import { fromBase64url } from '../../../src/core/bytes.js'
import { createLab, type Lab } from '../../../swtpm/index.js'
import { CLUSTER } from '../../helpers/host.js'
import { openTestSite, type TestSite } from '../../helpers/site.js'
import { startAgent, type TestAgent, trustAgent } from '../host-keys/fixture.js'

const MIB = 1024 * 1024
const content = randomBytes(2 * MIB)
const params = { vm: 'web1' }

let site: TestSite
let lab: Lab
const hosts: TestAgent[] = []
let a: TestAgent
let b: TestAgent
let outside: TestAgent

beforeAll(async () => {
  lab = await createLab()
  site = await openTestSite()
  await site.admin.call(addAnchors, { body: { pem: lab.anchorsPem, insecureTest: true } })
  for (const name of [CLUSTER, 'other']) await site.admin.call(createCluster, { body: { name } })
  const settings = {
    ...{ clusters: [CLUSTER], minimumAssurance: 'session' as const, maxTokenAgeSeconds: 300 },
  }
  await site.admin.call(createProvider, { body: { name: 'gold', kind: 'trusted', settings } })
  a = await startHost('a', CLUSTER)
  b = await startHost('b', CLUSTER)
  outside = await startHost('c', 'other')
}, 60_000)
afterAll(async () => {
  for (const host of hosts) await host[Symbol.asyncDispose]()
  await site[Symbol.asyncDispose]()
  await lab[Symbol.asyncDispose]()
})

/** A host of a cluster whose boot is accepted there. */
async function startHost(name: string, cluster: string): Promise<TestAgent> {
  const host = await startAgent(lab, site, name, { cluster })
  hosts.push(host)
  await trustAgent(site, host)
  return host
}

async function ended({ socket }: TestAgent, task: TaskView): Promise<TaskView> {
  for (let view = task; ; await delay(50)) {
    view = await socket.call(getTask, { params: { taskId: task.taskId } })
    if (view.state !== 'running') return view
  }
}

const importAt = async (host: TestAgent, directory: string) =>
  ended(host, await host.socket.call(importVm, { body: { directory } }))

const vmsOf = ({ vmDirectory }: TestAgent) =>
  readdirSync(vmDirectory).filter((name) => name !== 'releases.json')

test('an encrypted VM moves to another host of the cluster, and to none outside', async () => {
  const image = join(lab.directory, 'image.raw')
  writeFileSync(image, content)
  const made = await ended(
    a,
    await a.socket.call(createVm, {
      body: {
        ...{ name: 'web1', provider: 'gold', memoryMib: 128 },
        disks: [{ name: 'root', from: image }],
      },
    }),
  )
  expect(made).toMatchObject({ state: 'done' })
  const before = await a.socket.call(showVm, { params })

  const directory = join(lab.directory, 'shared-web1')
  const body = { directory, move: true }
  const moved = await ended(a, await a.socket.call(exportVm, { params, body }))
  expect(moved).toMatchObject({ state: 'done', vm: { handedOverAt: expect.any(String) } })

  // the key provider serves hosts of the one cluster alone
  const refused = await importAt(outside, directory)
  expect(refused).toMatchObject({ state: 'failed', error: { code: 'KEY_CLUSTER' } })
  expect(vmsOf(outside)).toEqual([])

  expect(await importAt(b, directory)).toMatchObject({ state: 'done' })
  const after = await b.socket.call(showVm, { params })
  expect(after).toMatchObject({ vmId: before.vmId, vtpmCertificates: before.vtpmCertificates })
  const { data } = await b.socket.call(readDisk, {
    params: { ...params, disk: 'root' },
    body: { offset: MIB, length: MIB },
  })
  expect(Buffer.from(fromBase64url(data)).equals(content.subarray(MIB))).toBe(true)
  const { vms } = await site.admin.call(listVms, { query: {} })
  expect(vms).toMatchObject([{ vmId: before.vmId, hostId: 'b' }])

  const start = await ended(a, await a.socket.call(startVm, { params, body: {} }))
  expect(start).toMatchObject({ state: 'failed', error: { code: 'VM_EXPORTED' } })
  const back = await ended(a, await a.socket.call(takeBackVm, { params, body: {} }))
  expect(back).toMatchObject({ state: 'failed', error: { code: 'VM_HAND_OVER' } })
  await a.socket.call(deleteVm, { params })
  expect((await site.admin.call(listVms, { query: {} })).vms).toHaveLength(1)
  expect(existsSync(join(directory, 'manifest.json'))).toBe(true)
})

test('a copy is not imported while its original is a VM of the site', async () => {
  const directory = join(lab.directory, 'copy-web1')
  expect(
    await ended(b, await b.socket.call(exportVm, { params, body: { directory } })),
  ).toMatchObject({ state: 'done' })
  expect(await importAt(a, directory)).toMatchObject({ error: { code: 'VM_HAND_OVER' } })
  expect(vmsOf(a)).toEqual([])
  await b.socket.call(deleteVm, { params })
  expect(await importAt(a, directory)).toMatchObject({ state: 'done' })
  expect((await site.admin.call(listVms, { query: {} })).vms).toMatchObject([{ hostId: 'a' }])
})
