import { randomUUID } from 'node:crypto'
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { captureBaseImage } from '../../../src/api/base-images.js'
import { type Client, createClient } from '../../../src/api/client.js'
import { createCluster } from '../../../src/api/control-plane.js'
import { addAnchors } from '../../../src/api/endorsement.js'
import {
  type AgentStatus,
  attestNow,
  cancelTask,
  createEvidence,
  createVm,
  decryptVm,
  encryptVm,
  getStatus,
  getTask,
  getToken,
  listKeys,
  listTasks,
  probeKeys,
  recryptVm,
  type TaskView,
} from '../../../src/api/host-agent.js'
import { createProvider } from '../../../src/api/key-provider.js'
import { getPolicy } from '../../../src/api/policies.js'
import {
  addVtpm,
  removeVtpm,
  replaceVtpmCertificates,
  requestVtpmCertificate,
  restoreVtpmState,
} from '../../../src/api/vtpm.js'
import { listVtpmCertificates, listVtpmStates } from '../../../src/api/vtpm-states.js'
import { fromBase64url, fromHex, toBase64url } from '../../../src/core/bytes.js'
import { loadConfig } from '../../../src/core/config.js'
import { AgentConfig } from '../../../src/host-agent/config.js'
import { type HostAgent, startHostAgent } from '../../../src/host-agent/main.js'
import { parsePublicArea, verifyQuote } from '../../../src/tpm/index.js'
import { createLab, type Lab, type LabTpm } from '../../../swtpm/index.js'
import { agentSettings, makeAgentFolder } from '../../helpers/agent.js'
import { CLUSTER, GOOD_BOOT, ticketFor } from '../../helpers/host.js'
import { openTestSite, setPolicy, silent, type TestSite } from '../../helpers/site.js'

let site: TestSite
let lab: Lab
let hosts = 0
let host: { readonly name: string; readonly folder: string; readonly tpm: LabTpm }
let agent: HostAgent | undefined
let socket: Client

beforeAll(async () => {
  lab = await createLab()
  site = await openTestSite()
  await site.admin.call(addAnchors, { body: { pem: lab.anchorsPem, insecureTest: true } })
  await site.admin.call(createCluster, { body: { name: CLUSTER } })
})
afterAll(async () => {
  await site[Symbol.asyncDispose]()
  await lab[Symbol.asyncDispose]()
})
beforeEach(async () => {
  hosts += 1
  const name = `h${hosts}`
  const tpm = await lab.manufacture(name)
  const folder = join(lab.directory, `${name}-a`)
  makeAgentFolder(folder, await ticketFor(site))
  host = { name, folder, tpm }
  socket = createClient({ baseUrl: 'http://localhost', socketPath: join(folder, 'sock') })
})
afterEach(async () => {
  await agent?.close()
  agent = undefined
  await socket[Symbol.asyncDispose]()
  await host.tpm.stop()
})

async function start(settings: Record<string, string> = {}): Promise<void> {
  const { config } = loadConfig(AgentConfig, {
    prefix: 'SIGILLO_AGENT',
    env: {
      ...agentSettings(site, host),
      ...settings,
    },
  })
  agent = await startHostAgent({ config, clock: site.clock, random: () => 0, logger: silent })
}

/** Polls the status, bounded, until it is as wanted. */
async function statusWhen(
  wanted: (status: AgentStatus) => boolean,
  withinMs = 20_000,
): Promise<AgentStatus> {
  const endMs = Date.now() + withinMs
  for (;;) {
    const status = await socket.call(getStatus, {})
    if (wanted(status)) return status
    if (Date.now() > endMs) throw new Error(`the agent stayed ${JSON.stringify(status)}`)
    await delay(100)
  }
}

const attest = () => socket.call(attestNow, { body: {} })

/** Starts the agent, and has what the host booted accepted. */
async function startTrusted(settings?: Record<string, string>): Promise<AgentStatus> {
  await host.tpm.boot(GOOD_BOOT)
  await start(settings)
  await statusWhen(({ state }) => state === 'refused' || state === 'attested')
  await site.admin.call(captureBaseImage, { body: { name: `of-${host.name}`, hostId: host.name } })
  return attest()
}

describe('an agent', () => {
  test('enrols and attests by itself, and answers on a socket that is only its owner’s', async () => {
    const status = await startTrusted()
    expect(status).toMatchObject({ state: 'attested', cluster: CLUSTER, bindingKey: true })
    expect(statSync(join(host.folder, 'sock')).mode & 0o777).toBe(0o600)
    expect(statSync(join(host.folder, 'state')).mode & 0o777).toBe(0o700)
    expect(statSync(join(host.folder, 'state', 'agent.json')).mode & 0o777).toBe(0o600)
    const { claims } = await socket.call(getToken, {})
    expect(claims).toMatchObject({ sub: host.name })
    expect(JSON.stringify(await socket.call(getStatus, {}))).not.toContain('eyJ')
  })

  test('keeps its key and its enrolment over a restart, without a ticket', async () => {
    await startTrusted()
    const before = readFileSync(join(host.folder, 'state', 'agent.json'), 'utf8')
    await agent?.close()
    writeFileSync(join(host.folder, 'ticket'), 'used up', { mode: 0o600 })
    await start()
    await statusWhen(({ state }) => state === 'attested')
    expect(readFileSync(join(host.folder, 'state', 'agent.json'), 'utf8')).toBe(before)
  })

  test('attests again before its token ends', async () => {
    const params = { cluster: CLUSTER }
    const { policy } = await site.admin.call(getPolicy, { params })
    await setPolicy(site, CLUSTER, { ...policy, tokenTtlSeconds: 30 })
    const first = await startTrusted()
    const second = await statusWhen(
      ({ tokenExpiresAt }) => tokenExpiresAt !== first.tokenExpiresAt,
      30_000,
    )
    expect(second.state).toBe('attested')
    const leftMs = Date.parse(first.tokenExpiresAt ?? '') - site.clock.nowMs()
    expect(leftMs).toBeGreaterThan(5_000)
    await setPolicy(site, CLUSTER, policy)
  })

  test('proves keys with a key provider, bound to the session and to the TPM', async () => {
    const name = `p-${randomUUID().slice(0, 8)}`
    const settings = {
      clusters: [CLUSTER],
      minimumAssurance: 'session' as const,
      maxTokenAgeSeconds: 300,
    }
    await site.admin.call(createProvider, { body: { name, kind: 'trusted', settings } })
    await startTrusted()
    for (const assurance of ['session', 'tpm'] as const) {
      const times = await socket.call(probeKeys, { body: { provider: name, assurance } })
      expect(times.unwrapMs).toBeGreaterThan(0)
    }
    const nobody = socket.call(probeKeys, { body: { provider: 'nobody', assurance: 'session' } })
    await expect(nobody).rejects.toMatchObject({ code: 'NOT_FOUND' })
  })

  test('makes evidence for a nonce of anybody on the host, that verifies anywhere', async () => {
    await startTrusted()
    const nonce = new Uint8Array(20).fill(7)
    const evidence = await socket.call(createEvidence, {
      body: { qualifyingData: toBase64url(nonce), pcrs: [7, 0] },
    })
    const { findings } = verifyQuote({
      attest: fromBase64url(evidence.attest),
      signature: fromBase64url(evidence.signature),
      ak: parsePublicArea(fromBase64url(evidence.akPublic)),
      expectedExtraData: nonce,
      selection: { bank: 'sha256', pcrs: [0, 7] },
      pcrValues: new Map(evidence.pcrs.map(({ pcr, digest }) => [pcr, fromHex(digest)])),
    })
    expect(findings.filter(({ ok }) => !ok)).toEqual([])
  })
})

describe('an agent says what is wrong, and goes on when it is mended:', () => {
  test('no ticket', async () => {
    await host.tpm.boot(GOOD_BOOT)
    writeFileSync(join(host.folder, 'ticket'), 'sgl_en_wrong', { mode: 0o600 })
    await start()
    const status = await statusWhen(({ lastError }) => lastError !== undefined)
    expect(status).toMatchObject({ state: 'not-enrolled', lastError: { code: 'TICKET_INVALID' } })
    writeFileSync(join(host.folder, 'ticket'), await ticketFor(site), { mode: 0o600 })
    await expect(attest()).resolves.toMatchObject({ cluster: CLUSTER })
  })

  test('a ticket that others can read', async () => {
    await host.tpm.boot(GOOD_BOOT)
    writeFileSync(join(host.folder, 'open'), 'sgl_en_x', { mode: 0o644 })
    await start({ SIGILLO_AGENT_AUTHORITY_TICKET_FILE: join(host.folder, 'open') })
    const status = await statusWhen(({ lastError }) => lastError !== undefined)
    expect(status.lastError?.code).toBe('FILE_MODE')
  })

  test('a TPM that does not run', async () => {
    await start()
    const status = await statusWhen(({ lastError }) => lastError !== undefined)
    expect(status).toMatchObject({
      state: 'tpm-unreachable',
      lastError: { code: 'TPM_UNREACHABLE' },
    })
    await host.tpm.boot(GOOD_BOOT)
    await expect(attest()).resolves.toMatchObject({ cluster: CLUSTER })
  })

  test('a TPM that dies while the host attests', async () => {
    await startTrusted()
    const attesting = attest()
    await host.tpm.kill()
    await attesting
    const status = await attest()
    expect(status).toMatchObject({
      state: 'tpm-unreachable',
      lastError: { code: 'TPM_UNREACHABLE' },
    })
    await host.tpm.boot(GOOD_BOOT)
    await expect(attest()).resolves.toMatchObject({ state: 'attested' })
  })

  test('an authority that does not answer', async () => {
    await startTrusted()
    await site.stop()
    expect(await attest()).toMatchObject({
      state: 'authority-unreachable',
      lastError: { code: 'AUTHORITY_UNREACHABLE' },
    })
    await site.start()
    await statusWhen(({ state }) => state === 'attested')
  })

  test('an authority with another certificate', async () => {
    await host.tpm.boot(GOOD_BOOT)
    writeFileSync(join(host.folder, 'ca.pem'), lab.anchorsPem)
    await start({ SIGILLO_AGENT_AUTHORITY_CA_FILE: join(host.folder, 'ca.pem') })
    const { lastError } = await statusWhen((status) => status.lastError !== undefined)
    expect(lastError?.code).toBe('AUTHORITY_UNREACHABLE')
    expect(lastError?.message).toMatch(/certificate/)
  })

  test('a state file that cannot be read, or is of another TPM', async () => {
    await host.tpm.boot(GOOD_BOOT)
    const state = join(host.folder, 'state')
    mkdirSync(state, { mode: 0o700 })
    writeFileSync(join(state, 'agent.json'), '{"version":1')
    await start()
    const broken = await statusWhen(({ lastError }) => lastError !== undefined)
    expect(broken.lastError?.code).toBe('AGENT_STATE')
    await agent?.close()
    const first = readFileSync(join(lab.directory, 'h1-a', 'state', 'agent.json'), 'utf8')
    writeFileSync(join(state, 'agent.json'), first)
    await start()
    const foreign = await statusWhen(({ lastError }) => lastError !== undefined)
    expect(foreign.lastError).toMatchObject({
      code: 'TPM_RC',
      message: expect.stringMatching(/integrity|TPM_RC/i),
    })
  })
})

describe('VMs through the socket', () => {
  const ended = async (task: TaskView): Promise<TaskView> => {
    let current = task
    while (current.state === 'running') {
      await delay(20)
      current = await socket.call(getTask, { params: { taskId: task.taskId } })
    }
    return current
  }
  const params = { vm: 'plain' }
  const settings = {
    ...{ clusters: [CLUSTER], minimumAssurance: 'session' as const, maxTokenAgeSeconds: 300 },
  }

  test('are encrypted, get new keys, and are decrypted, as tasks that tell what they copied', async () => {
    await startTrusted()
    const provider = `vms-${host.name}`
    await site.admin.call(createProvider, {
      body: { name: provider, kind: 'trusted', settings },
    })
    const disks = [{ name: 'root', sizeOctets: 4 * 1024 * 1024 }]
    await ended(await socket.call(createVm, { body: { name: 'plain', plain: true, disks } }))
    const started = await socket.call(encryptVm, { params, body: { provider } })
    expect(started).toMatchObject({ kind: 'vm.encrypt', cancellable: true })
    const encrypted = await ended(started)
    expect(encrypted).toMatchObject({
      ...{ state: 'done', percent: 100, cancellable: false },
      ...{ octets: { done: 4 * 1024 * 1024, total: 4 * 1024 * 1024 } },
      vm: { provider, disks: [{ format: 'luks1' }] },
    })
    const recrypted = await ended(await socket.call(recryptVm, { params, body: {} }))
    expect(recrypted.state).toBe('done')
    const { keys } = await socket.call(listKeys, {})
    expect(keys.map(({ object, version }) => `${object} ${version}`).sort()).toEqual([
      ...['disk-root 2', 'home 2'],
    ])
    const refused = await ended(
      await socket.call(decryptVm, { params, body: { home: true, compare: 'all' } }),
    )
    expect(refused).toMatchObject({ state: 'failed', error: { code: 'VM_HOME_NEEDED' } })
    const decrypted = await ended(await socket.call(decryptVm, { params, body: {} }))
    expect(decrypted.vm?.provider).toBeUndefined()
    const { tasks } = await socket.call(listTasks, {})
    expect(tasks.map(({ kind, state }) => `${kind} ${state}`)).toEqual([
      ...['vm.decrypt done', 'vm.decrypt failed', 'vm.recrypt done', 'vm.encrypt done'],
      'vm.create done',
    ])
  })

  test('get a virtual TPM whose certificates the control plane issues, and issues anew', async () => {
    await startTrusted()
    const provider = `tpms-${host.name}`
    const body = { name: provider, kind: 'trusted' as const, settings }
    await site.admin.call(createProvider, { body })
    const vm = { vm: 'bare' }
    const request = { name: 'bare', provider, vtpm: false, memoryMib: 64, disks: [] }
    await ended(await socket.call(createVm, { body: request }))
    const added = await ended(await socket.call(addVtpm, { params: vm, body: {} }))
    expect(added).toMatchObject({ state: 'done', vm: { vtpm: true } })
    const replaced = await ended(
      await socket.call(replaceVtpmCertificates, { params: vm, body: {} }),
    )
    expect(replaced).toMatchObject({ kind: 'vm.replace-vtpm-certificates', state: 'done' })
    const asked = await socket.call(requestVtpmCertificate, { params: vm, body: { key: 'ecc' } })
    expect(asked.request).toMatch(/^-----BEGIN CERTIFICATE REQUEST-----/)
    expect(asked.publicKey).toMatch(/^-----BEGIN PUBLIC KEY-----/)

    const vmId = added.vm?.vmId ?? ''
    const { certificates } = await site.admin.call(listVtpmCertificates, { query: { vmId } })
    expect(certificates.map(({ kind }) => kind).sort()).toEqual([
      ...['ek', 'ek', 'ek', 'ek', 'platform', 'platform'],
    ])
    const old = certificates.filter(({ revocation }) => revocation)
    expect(old.map(({ kind, revocation }) => `${kind} ${revocation?.reason}`).sort()).toEqual([
      ...['ek superseded', 'ek superseded', 'platform superseded'],
    ])
    const { states } = await site.admin.call(listVtpmStates, { params: { vmId }, query: {} })
    expect(states.map(({ generation, cause }) => `${generation} ${cause}`)).toEqual([
      ...['2 recorded', '1 recorded'],
    ])
    await expect(socket.call(restoreVtpmState, { params: vm, body: {} })).rejects.toMatchObject({
      code: 'VTPM_STATE_INTACT',
    })
    await socket.call(removeVtpm, { params: vm })
    const after = await site.admin.call(listVtpmCertificates, { query: { vmId, revoked: true } })
    expect(after.certificates).toHaveLength(6)
  })

  test('are left as they were by a task that is cancelled, or when the agent stops', async () => {
    await startTrusted()
    const provider = `vms-${host.name}`
    await site.admin.call(createProvider, { body: { name: provider, kind: 'trusted', settings } })
    const disks = [{ name: 'root', sizeOctets: 512 * 1024 * 1024, plain: true }]
    await ended(
      await socket.call(createVm, { body: { name: 'plain', provider, vtpm: false, disks } }),
    )
    const copying = await socket.call(encryptVm, { params, body: {} })
    await socket.call(cancelTask, { params: { taskId: copying.taskId }, body: {} })
    expect(await ended(copying)).toMatchObject({
      ...{ state: 'cancelled', error: { code: 'TASK_CANCELLED' } },
    })
    await expect(
      socket.call(cancelTask, { params: { taskId: copying.taskId }, body: {} }),
    ).rejects.toMatchObject({ code: 'TASK_UNCANCELLABLE' })
    await socket.call(encryptVm, { params, body: {} })
    await agent?.close()
    await start()
    const { keys } = await socket.call(listKeys, {})
    expect(keys.map(({ object }) => object)).toEqual(['home'])
  })
})
