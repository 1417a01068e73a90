import type { Client } from '../../../src/api/client.js'
import { createCluster } from '../../../src/api/control-plane.js'
import { addAnchors } from '../../../src/api/endorsement.js'
import { createProvider } from '../../../src/api/key-provider.js'
import {
  createVmTask,
  getVmTask,
  type NewVmTask,
  type TaskState,
  type VmTaskView,
} from '../../../src/api/tasks.js'
import type { Lab } from '../../../swtpm/index.js'
import { CLUSTER } from '../../helpers/host.js'
import { openTestSite, type TestSite } from '../../helpers/site.js'

const MIB = 1024 * 1024
const WAIT_MS = 60_000

/** A site with a cluster and a trusted key provider. */
export async function openTaskSite(
  lab: Lab,
  settings: Readonly<Record<string, string>> = {},
): Promise<TestSite> {
  const site = await openTestSite({ settings })
  await site.admin.call(addAnchors, { body: { pem: lab.anchorsPem, insecureTest: true } })
  await site.admin.call(createCluster, { body: { name: CLUSTER } })
  const trusted = {
    clusters: [CLUSTER],
    minimumAssurance: 'session' as const,
    maxTokenAgeSeconds: 300,
  }
  await site.admin.call(createProvider, {
    body: { name: 'gold', kind: 'trusted', settings: trusted },
  })
  return site
}

/** An encrypted VM with one small disk. */
export function smallVm(name: string, change: object = {}) {
  const disks = [{ name: 'root', sizeOctets: MIB }]
  return { name, provider: 'gold', vtpm: false, disks, ...change }
}

export function ask(client: Client, body: NewVmTask): Promise<VmTaskView> {
  return client.call(createVmTask, { body })
}

const ENDED: readonly TaskState[] = ['done', 'failed', 'cancelled', 'lost']

/** Follows a task as people do, until it is as wanted: until it has ended, unless told. */
export async function follow(
  client: Client,
  { taskId }: Pick<VmTaskView, 'taskId'>,
  isWanted: (task: VmTaskView) => boolean = ({ state }) => ENDED.includes(state),
  onChange: (task: VmTaskView) => void = () => undefined,
): Promise<VmTaskView> {
  const endMs = Date.now() + WAIT_MS
  let after = 0
  for (;;) {
    const query = { after, waitSeconds: 5 }
    const task = await client.call(getVmTask, { params: { taskId }, query })
    onChange(task)
    if (isWanted(task)) return task
    if (ENDED.includes(task.state) || Date.now() > endMs) {
      throw new Error(`the task stayed ${JSON.stringify(task)}`)
    }
    after = task.version
  }
}

/** Has it done, and throws where it was not. */
export async function done(client: Client, body: NewVmTask): Promise<VmTaskView> {
  const task = await follow(client, await ask(client, body))
  if (task.state !== 'done') throw new Error(`${body.kind}: ${JSON.stringify(task.error)}`)
  return task
}

/** The code that it failed with. */
export async function codeOf(client: Client, body: NewVmTask): Promise<string | undefined> {
  return (await follow(client, await ask(client, body))).error?.code
}
