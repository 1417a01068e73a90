import { cpSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { captureBaseImage } from '../../../src/api/base-images.js'
import { type Client, createClient } from '../../../src/api/client.js'
import { createCluster, type EventView, listEvents } from '../../../src/api/control-plane.js'
import { addAnchors } from '../../../src/api/endorsement.js'
import {
  attestNow,
  createVm,
  getStatus,
  getTask,
  listHeldKeys,
  readDisk,
  type VmDetails,
} from '../../../src/api/host-agent.js'
import { type HostKeyDeliveryView, listHostKeyDeliveries } from '../../../src/api/host-keys.js'
import { createTicket } from '../../../src/api/hosts.js'
import type { AnswerOf } from '../../../src/api/operation.js'
import { fromBase64url, utf8 } from '../../../src/core/bytes.js'
import { loadConfig } from '../../../src/core/config.js'
import { PlatformError } from '../../../src/core/errors.js'
import { AgentConfig } from '../../../src/host-agent/config.js'
import { type HostAgent, startHostAgent } from '../../../src/host-agent/main.js'
import type { Lab, LabTpm } from '../../../swtpm/index.js'
import { agentSettings, makeAgentFolder } from '../../helpers/agent.js'
import { CLUSTER, GOOD_BOOT } from '../../helpers/host.js'
import { openTestSite, silent, type TestSite } from '../../helpers/site.js'

export { CLUSTER }

/** A site that finds after two seconds that a host did not fetch a key. */
export async function openKeySite(lab: Lab): Promise<TestSite> {
  const site = await openTestSite({
    settings: { SIGILLO_CONTROL_PLANE_HOST_KEY_DELIVERY_SECONDS: '2' },
  })
  await site.admin.call(addAnchors, { body: { pem: lab.anchorsPem, insecureTest: true } })
  await site.admin.call(createCluster, { body: { name: CLUSTER } })
  return site
}

/** A host agent as it runs on a host, over a software TPM. */
export interface TestAgent extends AsyncDisposable {
  readonly name: string
  readonly socket: Client
  readonly socketFile: string
  /** Resolves when the host is attested or refused, or else could not reach the authority. */
  start(): Promise<void>
  stop(): Promise<void>
  held(): Promise<AnswerOf<typeof listHeldKeys>>
  /** Makes a VM with one small disk that holds these words. */
  makeVm(name: string, provider: string, words: string): Promise<VmDetails>
  /** The words on the disk of a VM, opened with its keys. */
  readVm(name: string, length: number): Promise<string>
  /** Gives the files of a VM to another host. */
  shareVm(vm: VmDetails, with_: TestAgent): void
  readonly vmDirectory: string
  readonly stateDirectory: string
  readonly tpm: LabTpm
  /** Waits for a task of the agent; throws what it failed with. */
  finish(started: AnswerOf<typeof createVm>): Promise<VmDetails>
}

export async function startAgent(
  lab: Lab,
  site: TestSite,
  name: string,
  options: {
    readonly cluster?: string
    readonly bindingKey?: boolean
    /** Settings of the agent that differ, as environment variables: `SIGILLO_AGENT_…`. */
    readonly settings?: Readonly<Record<string, string>>
  } = {},
): Promise<TestAgent> {
  const tpm = await lab.manufacture(name)
  await tpm.boot(GOOD_BOOT)
  const folder = join(lab.directory, `${name}-a`)
  const vmDirectory = join(folder, 'vms')
  const stateDirectory = join(folder, 'state')
  const cluster = options.cluster ?? CLUSTER
  const { ticket } = await site.admin.call(createTicket, { body: { cluster } })
  makeAgentFolder(folder, ticket)
  const socketFile = join(folder, 'sock')
  const { config } = loadConfig(AgentConfig, {
    prefix: 'SIGILLO_AGENT',
    env: {
      ...agentSettings(site, { name, folder, tpm }),
      SIGILLO_AGENT_TPM_BINDING_KEY: String(options.bindingKey ?? true),
      ...options.settings,
    },
  })
  const socket = createClient({ baseUrl: 'http://localhost', socketPath: socketFile })
  let agent: HostAgent | undefined
  const stop = async () => {
    await agent?.close()
    agent = undefined
  }
  const start = async () => {
    agent = await startHostAgent({ config, clock: site.clock, random: () => 0, logger: silent })
    await until(`the state of ${name}`, async () => {
      const { state } = await socket.call(getStatus, {})
      return ['attested', 'refused', 'authority-unreachable'].includes(state)
    })
  }
  const task = async (started: AnswerOf<typeof createVm>): Promise<VmDetails> => {
    const params = { taskId: started.taskId }
    return until(`task ${started.kind}`, async () => {
      const { state, vm, error } = await socket.call(getTask, { params })
      if (error) throw new PlatformError(error.code as never, error.message)
      return state === 'done' ? vm : undefined
    })
  }
  await start()
  return {
    ...{ name, socket, socketFile, start, stop, vmDirectory, stateDirectory, tpm, finish: task },
    held: () => socket.call(listHeldKeys, {}),
    async makeVm(vm, provider, words) {
      const image = join(folder, `${vm}.raw`)
      const content = new Uint8Array(1024 * 1024)
      content.set(utf8(words))
      writeFileSync(image, content)
      const disks = [{ name: 'root', from: image }]
      return task(await socket.call(createVm, { body: { name: vm, provider, vtpm: false, disks } }))
    },
    async readVm(vm, length) {
      const params = { vm, disk: 'root' }
      const { data } = await socket.call(readDisk, { params, body: { offset: 0, length } })
      return Buffer.from(fromBase64url(data)).toString('utf8')
    },
    shareVm({ vmId }, other) {
      cpSync(join(vmDirectory, vmId), join(other.vmDirectory, vmId), { recursive: true })
    },
    async [Symbol.asyncDispose]() {
      await stop()
      await socket[Symbol.asyncDispose]()
      await tpm.stop()
    },
  }
}

/** Has what a host booted accepted, for the whole cluster, and attests it. */
export async function trustAgent(site: TestSite, agent: TestAgent): Promise<void> {
  const body = { name: `of-${agent.name}`, hostId: agent.name }
  await site.admin.call(captureBaseImage, { body })
  await agent.socket.call(attestNow, { body: {} })
}

/** Polls, bounded, until there is an answer that is not nothing. */
export async function until<T>(
  what: string,
  look: () => Promise<T | undefined | false>,
  withinMs = 30_000,
): Promise<T> {
  const endMs = Date.now() + withinMs
  for (;;) {
    const found = await look()
    if (found !== undefined && found !== false) return found
    if (Date.now() > endMs) throw new Error(`waited ${withinMs} ms for ${what}`)
    await delay(50)
  }
}

/** Waits until the host is in this state of delivery for a version. */
export function untilDelivery(
  site: TestSite,
  provider: string,
  wanted: Pick<HostKeyDeliveryView, 'hostId' | 'version' | 'state'>,
): Promise<HostKeyDeliveryView> {
  const { hostId, version, state } = wanted
  return until(`${state} of version ${version} on ${hostId}`, async () => {
    const params = { provider }
    const { deliveries } = await site.admin.call(listHostKeyDeliveries, { params })
    return deliveries.find(
      (one) => one.hostId === hostId && one.version === version && one.state === state,
    )
  })
}

/** Waits for an event, by its type and what else it has to say. */
export function untilEvent(
  site: TestSite,
  type: string,
  detail: Readonly<Record<string, unknown>> = {},
): Promise<EventView> {
  return until(`event ${type}`, async () => {
    const { events } = await site.admin.call(listEvents, { query: { limit: 1000 } })
    return events.findLast(
      (event) =>
        event.type === type &&
        Object.entries(detail).every(([name, value]) => event.detail?.[name] === value),
    )
  })
}
