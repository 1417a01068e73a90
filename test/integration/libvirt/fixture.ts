import { execFile } from 'node:child_process'
import { chmodSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { captureBaseImage } from '../../../src/api/base-images.js'
import { type Client, createClient } from '../../../src/api/client.js'
import { createCluster } from '../../../src/api/control-plane.js'
import { addAnchors } from '../../../src/api/endorsement.js'
import { attestNow, getStatus, getTask, type TaskView } from '../../../src/api/host-agent.js'
import { createProvider } from '../../../src/api/key-provider.js'
import { loadConfig } from '../../../src/core/config.js'
import { AgentConfig } from '../../../src/host-agent/config.js'
import { type HostAgent, startHostAgent } from '../../../src/host-agent/main.js'
import { createLab } from '../../../swtpm/index.js'
import { agentSettings, makeAgentFolder } from '../../helpers/agent.js'
import { CLUSTER, GOOD_BOOT, ticketFor } from '../../helpers/host.js'
import { type Libvirtd, startLibvirtd } from '../../helpers/libvirtd.js'
import { openTestSite, silent, type TestSite } from '../../helpers/site.js'

export const PROVIDER = 'gold'
export const HOST = 'kvm1'

/** A site with a key provider, and an attested host whose libvirtd asks the agent. */
export interface LibvirtHost extends AsyncDisposable {
  readonly site: TestSite
  readonly libvirt: Libvirtd
  /** The agent's socket. */
  readonly agent: Client
  readonly socket: string
  readonly vmDirectory: string
  /** Another agent on the same state, as after a crash or a restart. */
  restartAgent(): Promise<void>
  stopAgent(): Promise<void>
  /** Waits for a task and gives it when it has ended. */
  ended(task: TaskView): Promise<TaskView>
}

export async function openLibvirtHost(): Promise<LibvirtHost> {
  const libvirt = await startLibvirtd()
  const lab = await createLab()
  const site = await openTestSite()
  await site.admin.call(addAnchors, { body: { pem: lab.anchorsPem, insecureTest: true } })
  await site.admin.call(createCluster, { body: { name: CLUSTER } })
  await site.admin.call(createProvider, {
    body: {
      ...{ name: PROVIDER, kind: 'trusted' },
      settings: { clusters: [CLUSTER], minimumAssurance: 'session', maxTokenAgeSeconds: 300 },
    },
  })
  const tpm = await lab.manufacture(HOST)
  await tpm.boot(GOOD_BOOT)
  const folder = join(libvirt.folder, 'agent')
  makeAgentFolder(folder, await ticketFor(site))
  // libvirt's QEMU passes through to the VMs
  chmodSync(folder, 0o711)
  const socket = join(folder, 'sock')
  const vmDirectory = join(folder, 'vms')
  const { config } = loadConfig(AgentConfig, {
    prefix: 'SIGILLO_AGENT',
    env: {
      ...agentSettings(site, { name: HOST, folder, tpm }),
      SIGILLO_AGENT_LIBVIRT_URI: libvirt.uri,
      SIGILLO_AGENT_LIBVIRT_SWTPM_DIRECTORY: libvirt.swtpmDirectory,
    },
  })
  const client = createClient({
    ...{ baseUrl: 'http://localhost', socketPath: socket, timeoutMs: 120_000 },
  })
  let running: HostAgent | undefined
  const start = async () => {
    running = await startHostAgent({ config, clock: site.clock, random: () => 0, logger: silent })
    libvirt.useAgent(socket)
  }
  const stopAgent = async () => {
    await running?.close()
    running = undefined
  }
  await start()
  for (const endMs = Date.now() + 30_000; Date.now() < endMs; await delay(50)) {
    const { state } = await client.call(getStatus, {})
    if (state === 'refused' || state === 'attested') break
  }
  await site.admin.call(captureBaseImage, { body: { name: 'good', hostId: HOST } })
  await client.call(attestNow, { body: {} })
  return {
    ...{ site, libvirt, agent: client, socket, vmDirectory, stopAgent },
    restartAgent: async () => {
      await stopAgent()
      await start()
      await client.call(attestNow, { body: {} })
    },
    ended: async (task) => {
      let current = task
      while (current.state === 'running') {
        await delay(20)
        current = await client.call(getTask, { params: { taskId: task.taskId } })
      }
      return current
    },
    async [Symbol.asyncDispose]() {
      await stopAgent()
      await client[Symbol.asyncDispose]()
      await libvirt[Symbol.asyncDispose]()
      await site[Symbol.asyncDispose]()
      await lab[Symbol.asyncDispose]()
    },
  }
}

/** Why `virt-xml-validate` does not take the XML; nothing where it does. */
export function schemaProblem(file: string): Promise<string | undefined> {
  return new Promise((done) => {
    execFile('virt-xml-validate', [file], (error, stdout, stderr) => {
      done(error ? `${stdout}${stderr}` : undefined)
    })
  })
}
