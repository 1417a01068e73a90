import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { getJwks } from '../../../src/api/attestation.js'
import { captureBaseImage } from '../../../src/api/base-images.js'
import { type Client, createClient } from '../../../src/api/client.js'
import { createCluster, getVtpmAuthority } from '../../../src/api/control-plane.js'
import { addAnchors } from '../../../src/api/endorsement.js'
import { getVmAttestation } from '../../../src/api/guest-channel.js'
import {
  type GuestPolicy,
  getGuest,
  getGuestBundle,
  setGuestPolicy,
} from '../../../src/api/guests.js'
import {
  attestNow,
  createVm,
  getStatus,
  getTask,
  startVm,
  stopVm,
  type TaskView,
} from '../../../src/api/host-agent.js'
import { revokeHost } from '../../../src/api/hosts.js'
import { createProvider } from '../../../src/api/key-provider.js'
import { DEFAULT_GUEST_POLICY } from '../../../src/appraisal/index.js'
import { loadConfig } from '../../../src/core/config.js'
import { AgentConfig } from '../../../src/host-agent/config.js'
import { type HostAgent, startHostAgent } from '../../../src/host-agent/main.js'
import { importJwks, verifyGuestResult } from '../../../src/tokens/index.js'
import { createLab, type Lab } from '../../../swtpm/index.js'
import { agentSettings, makeAgentFolder } from '../../helpers/agent.js'
import { guestImage } from '../../helpers/guest-image.js'
import { CLUSTER, GOOD_BOOT, ticketFor } from '../../helpers/host.js'
import { openTestSite, silent, type TestSite } from '../../helpers/site.js'
import { run } from '../cli/sigillo.js'

/** Firmware, kernel and the first attestation, all emulated, on a machine that does other things too. */
const BOOT_MS = 240_000
const VM = 'web1'

let site: TestSite
let lab: Lab
let agent: HostAgent
let socket: Client
let vmId: string
let consoleFile: string

beforeAll(async () => {
  lab = await createLab()
  site = await openTestSite()
  await site.admin.call(addAnchors, { body: { pem: lab.anchorsPem, insecureTest: true } })
  const { pem } = await site.anybody.call(getVtpmAuthority, {})
  await site.admin.call(addAnchors, { body: { pem, forVms: true } })
  await site.admin.call(createCluster, { body: { name: CLUSTER } })
  const settings = {
    clusters: [CLUSTER],
    minimumAssurance: 'session' as const,
    maxTokenAgeSeconds: 300,
  }
  await site.admin.call(createProvider, { body: { name: 'gold', kind: 'trusted', settings } })

  const tpm = await lab.manufacture('h')
  await tpm.boot(GOOD_BOOT)
  const folder = join(lab.directory, 'h-a')
  makeAgentFolder(folder, await ticketFor(site))
  const { config } = loadConfig(AgentConfig, {
    prefix: 'SIGILLO_AGENT',
    env: {
      ...agentSettings(site, { name: 'h', folder, tpm }),
    },
  })
  consoleFile = join(folder, 'console')
  agent = await startHostAgent({
    config,
    clock: site.clock,
    random: () => 0,
    logger: silent,
    programs: { qemuSystem: bootingKernel(folder) },
  })
  socket = createClient({ baseUrl: 'http://localhost', socketPath: join(folder, 'sock') })
  await until(async () => (await socket.call(getStatus, {})).state === 'refused', 30_000)
  await site.admin.call(captureBaseImage, { body: { name: 'host', hostId: 'h' } })
  await socket.call(attestNow, { body: {} })
}, 120_000)

afterAll(async () => {
  const params = { vm: VM }
  await socket
    ?.call(stopVm, { params, body: { graceSeconds: 0 } })
    .then(ended)
    .catch(() => undefined)
  await agent?.close()
  for (const one of [socket, site, lab]) await one?.[Symbol.asyncDispose]()
}, 120_000)

/** QEMU that boots the kernel of the guest by its firmware, with what the kernel says in a file. */
function bootingKernel(folder: string): string {
  const image = guestImage()
  const ramDisk = join(folder, 'initrd')
  writeFileSync(ramDisk, image.initialRamDisk('first'))
  const program = join(folder, 'qemu')
  writeFileSync(
    program,
    `#!/bin/sh
exec qemu-system-x86_64 "$@" -kernel '${resolve(image.kernel)}' -initrd '${ramDisk}' \\
  -append 'console=ttyS0 quiet' -chardev file,id=console,path='${consoleFile}' -serial chardev:console
`,
  )
  chmodSync(program, 0o755)
  return program
}

async function until(holds: () => Promise<boolean>, withinMs: number): Promise<void> {
  const end = Date.now() + withinMs
  while (!(await holds())) {
    if (Date.now() > end)
      throw new Error(`not within ${withinMs} ms; the guest said:\n${guestSaid()}`)
    await delay(500)
  }
}

function guestSaid(): string {
  try {
    return readFileSync(consoleFile, 'latin1').slice(-3000)
  } catch {
    return 'nothing'
  }
}

async function ended(task: TaskView): Promise<TaskView> {
  let current = task
  while (current.state === 'running') {
    await delay(100)
    current = await socket.call(getTask, { params: { taskId: task.taskId } })
  }
  expect(current.error).toBeUndefined()
  return current
}

const attestation = () => socket.call(getVmAttestation, { params: { vm: VM } })

/** The next verdict of the service about the VM that is as wanted. */
async function verdictWhen(wanted: (state: string, baseImage: string | undefined) => boolean) {
  const params = { vmId }
  await until(async () => {
    const { state, verdict } = await site.admin.call(getGuest, { params })
    return wanted(state, verdict.baseImage)
  }, BOOT_MS)
  return site.admin.call(getGuest, { params })
}

const setPolicy = (policy: GuestPolicy) =>
  site.admin.call(setGuestPolicy, { params: { cluster: CLUSTER }, body: policy })

const verifyVm = (...args: readonly string[]) =>
  run('main', 'verify', 'vm', vmId, ...args, '--site', site.folder)

describe('a guest that boots in a VM of an attested host', () => {
  test(
    'proves itself with the virtual TPM that the agent made, through the port of its VM',
    async () => {
      const disks = [{ name: 'root', sizeOctets: 4 * 1024 * 1024 }]
      const body = { name: VM, provider: 'gold', memoryMib: 512, disks }
      const { vm } = await ended(await socket.call(createVm, { body }))
      vmId = vm?.vmId ?? ''
      await ended(await socket.call(startVm, { params: { vm: VM }, body: {} }))
      await until(async () => (await attestation()).last !== undefined, BOOT_MS)
      expect(await attestation()).toMatchObject({ vmId, connected: true, last: { accepted: true } })
      const view = await site.admin.call(getGuest, { params: { vmId } })
      expect(view).toMatchObject({ hostId: 'h', state: 'attested', host: { trusted: true } })
    },
    BOOT_MS,
  )

  test(
    'has one token that says: this VM, on this attested host',
    async () => {
      const tokens = () => readFileSync(consoleFile, 'latin1').match(/(?<=^token: )\S+(?=\r?\n)/gm)
      await until(async () => tokens() !== null, BOOT_MS)
      const token = tokens()?.at(-1) ?? ''
      const { vm, host } = await verifyGuestResult(token, {
        jwks: await importJwks(await site.anybody.call(getJwks, {})),
        issuer: `${site.url}/attestation`,
        audience: site.url,
        nowSeconds: Math.floor(Date.now() / 1000),
        skewSeconds: 5,
        vmId,
      })
      expect({ vm: vm.sub, host: host.sub }).toEqual({ vm: `urn:uuid:${vmId}`, host: 'h' })
    },
    BOOT_MS,
  )

  test('is verified outside, check by check', async () => {
    const { status, out } = await verifyVm('--max-age', '300')
    expect(out).toContain('ok      event-log')
    expect(out).toContain('ok      host.certificate: h')
    expect(status).toBe(0)
  }, 60_000)

  test(
    'matches its own base image, and no longer when the initial RAM disk is another',
    async () => {
      const { evidence } = await site.admin.call(getGuestBundle, { params: { vmId } })
      const pcrs = evidence.pcrs.map(({ pcr, digest }) => ({ pcr, digests: [digest] }))
      const policy = { ...DEFAULT_GUEST_POLICY, pinnedPcrs: [4, 9], requireEventLog: true }
      await setPolicy({ ...policy, baseImages: [{ name: 'first', pcrs }] })
      await verdictWhen((state, image) => state === 'attested' && image === 'first')

      const other = pcrs.map((one) =>
        one.pcr === 9 ? { pcr: 9, digests: ['ab'.repeat(32)] } : one,
      )
      await setPolicy({ ...policy, baseImages: [{ name: 'second', pcrs: other }] })
      const { verdict } = await verdictWhen((state) => state === 'refused')
      expect(verdict.findings.filter(({ ok }) => !ok)).toMatchObject([
        { check: 'base-image', code: 'BASE_IMAGE_PCR', pcr: 9 },
      ])
      expect(await verifyVm()).toMatchObject({ status: 3 })
      await setPolicy(DEFAULT_GUEST_POLICY)
      await verdictWhen((state) => state === 'attested')
    },
    2 * BOOT_MS,
  )

  test(
    'proves nothing any more when its host is revoked',
    async () => {
      await site.admin.call(revokeHost, { params: { hostId: 'h' }, body: { reason: 'stolen' } })
      await until(async () => (await attestation()).last?.accepted === false, BOOT_MS)
      const { status, out } = await verifyVm()
      expect(out).toContain('HOST_STATUS')
      expect(status).toBe(3)
    },
    BOOT_MS,
  )
})
