import { renameSync, rmSync, writeFileSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { listVms } from '../../../src/api/control-plane.js'
import {
  attestNow,
  createVm,
  listAgentVms,
  startVm,
  stopVm,
  type VmDetails,
} from '../../../src/api/host-agent.js'
import {
  backupNativeProvider,
  confirmBackup,
  createNativeProvider,
  deleteHostKeyProvider,
  restoreNativeProvider,
} from '../../../src/api/host-keys.js'
import { revokeHost } from '../../../src/api/hosts.js'
import { createProvider } from '../../../src/api/key-provider.js'
import { createLab, type Lab } from '../../../swtpm/index.js'
import type { TestSite } from '../../helpers/site.js'
import {
  CLUSTER,
  openKeySite,
  startAgent,
  type TestAgent,
  trustAgent,
  until,
  untilDelivery,
  untilEvent,
} from './fixture.js'

const IS_SLOW = process.env['SLOW'] === '1'
const PASSPHRASE = 'nine old locks and a key'

let lab: Lab
let site: TestSite
let keeping: TestAgent
let stopping: TestAgent
let backup: string

beforeAll(async () => {
  lab = await createLab()
  site = await openKeySite(lab)
  keeping = await startAgent(lab, site, 'a')
  await trustAgent(site, keeping)
  stopping = await startAgent(lab, site, 'b', {
    settings: {
      SIGILLO_AGENT_VM_ON_REVOCATION: 'stop',
      SIGILLO_AGENT_VM_REVOCATION_GRACE_SECONDS: '0',
    },
  })
  const settings = {
    ...{ clusters: [CLUSTER], minimumAssurance: 'session' as const, maxTokenAgeSeconds: 300 },
  }
  await site.admin.call(createProvider, { body: { name: 'gold', kind: 'trusted', settings } })
  const body = { name: 'silver', clusters: [CLUSTER], tpmRequired: false }
  await site.admin.call(createNativeProvider, { body })
  backup = await backUp()
})
afterAll(async () => {
  for (const agent of [keeping, stopping]) {
    const { vms } = await agent.socket.call(listAgentVms, {})
    for (const { name, state } of vms) {
      if (state !== 'running') continue
      await agent.socket.call(stopVm, { params: { vm: name }, body: { graceSeconds: 0 } })
      await untilState(agent, name, 'stopped', 'locked')
    }
    await agent[Symbol.asyncDispose]()
  }
  await site[Symbol.asyncDispose]()
  await lab[Symbol.asyncDispose]()
})

async function backUp(): Promise<string> {
  const params = { provider: 'silver' }
  const made = await site.admin.call(backupNativeProvider, {
    params,
    body: { passphrase: PASSPHRASE },
  })
  await site.admin.call(confirmBackup, { params, body: { digest: made.digest } })
  for (const hostId of ['a', 'b']) {
    await untilDelivery(site, 'silver', { hostId, version: 1, state: 'confirmed' })
  }
  return made.file
}

async function make(agent: TestAgent, name: string, provider: string): Promise<VmDetails> {
  const body = { name, provider, memoryMib: 64, vtpm: false, disks: [] }
  return agent.finish(await agent.socket.call(createVm, { body }))
}

async function start(agent: TestAgent, name: string): Promise<VmDetails> {
  return agent.finish(await agent.socket.call(startVm, { params: { vm: name }, body: {} }))
}

function untilState(agent: TestAgent, name: string, ...states: string[]): Promise<VmDetails> {
  return until(`${name} ${states.join(' or ')}`, async () => {
    const { vms } = await agent.socket.call(listAgentVms, {})
    return vms.find((vm) => vm.name === name && states.includes(vm.state))
  })
}

test('a VM is locked while the authority is away, and unlocked by itself when it is back', async () => {
  const { vmId } = await make(keeping, 'one', 'gold')
  await site.stop()
  await expect(start(keeping, 'one')).rejects.toMatchObject({ code: 'AUTHORITY_UNREACHABLE' })
  expect(await untilState(keeping, 'one', 'locked')).toMatchObject({
    lock: { reason: 'unreachable', code: 'AUTHORITY_UNREACHABLE' },
  })
  await site.start()
  await untilState(keeping, 'one', 'stopped')
  // the authority was away: it is told afterwards
  const event = await untilEvent(site, 'vm.locked', { vm: 'one', host: 'a' })
  expect(event).toMatchObject({ severity: 'warning', subject: `vm:${vmId}` })
  await untilEvent(site, 'vm.unlocked', { vm: 'one' })
})

test('a VM whose key is gone from its host is locked with an alarm, and unlocked when it is restored', async () => {
  const { vmId } = await make(keeping, 'two', 'silver')
  const params = { provider: 'silver' }
  await site.admin.call(deleteHostKeyProvider, { params, body: { reason: 'test', force: true } })
  const alarm = await untilEvent(site, 'vm.locked', { vm: 'two' })
  expect(alarm).toMatchObject({
    ...{ severity: 'error', subject: `vm:${vmId}` },
    detail: { reason: 'missing', host: 'a', provider: 'silver' },
  })
  const { vms } = await site.admin.call(listVms, { query: {} })
  expect(vms.find((vm) => vm.vmId === vmId)?.report).toMatchObject({ state: 'locked' })
  await expect(start(keeping, 'two')).rejects.toMatchObject({ code: alarm.detail?.['code'] })
  await site.admin.call(restoreNativeProvider, {
    body: { file: backup, passphrase: PASSPHRASE, clusters: [CLUSTER] },
  })
  await untilState(keeping, 'two', 'stopped')
  await untilEvent(site, 'vm.unlocked', { vm: 'two' })
  expect(await start(keeping, 'two')).toMatchObject({ state: 'running' })
})

test('a host that is revoked learns it soon, keeps its VMs or stops them as it was told, and starts none', async () => {
  for (const agent of [keeping, stopping]) {
    await make(agent, 'on', 'silver')
    await make(agent, 'off', 'silver')
    await make(agent, 'gold', 'gold')
    await start(agent, 'on')
  }
  for (const hostId of ['a', 'b']) {
    await site.admin.call(revokeHost, { params: { hostId }, body: { reason: 'stolen' } })
  }
  // by itself it learns that when the control plane refuses its next question, in 20 seconds at the latest
  if (!IS_SLOW) {
    for (const agent of [keeping, stopping]) await agent.socket.call(attestNow, { body: {} })
  }
  for (const agent of [keeping, stopping]) {
    expect(await untilState(agent, 'off', 'locked')).toMatchObject({ lock: { reason: 'refused' } })
    expect((await agent.held()).providers).toEqual([])
  }
  expect(await untilState(stopping, 'on', 'locked')).toMatchObject({ lock: { reason: 'refused' } })
  expect(await untilState(keeping, 'on', 'running')).toBeDefined()
  for (const agent of [keeping, stopping]) {
    for (const name of ['off', 'gold']) {
      await expect(start(agent, name)).rejects.toMatchObject({ code: 'ATTESTATION_REFUSED' })
    }
  }
  await keeping.socket.call(attestNow, { body: {} })
  expect(await untilState(keeping, 'on', 'running')).toBeDefined()
})

test('the agent of a refused host goes on when its VMs cannot be looked at, and has them again when they can', async () => {
  const { vmDirectory, socket } = stopping
  const { vms } = await socket.call(listAgentVms, {})
  const aside = `${vmDirectory}-aside`
  renameSync(vmDirectory, aside)
  writeFileSync(vmDirectory, '')
  try {
    for (const _ of [1, 2]) {
      expect(await socket.call(attestNow, { body: {} })).toMatchObject({ state: 'refused' })
    }
    await expect(socket.call(listAgentVms, {})).rejects.toMatchObject({ code: 'INTERNAL' })
  } finally {
    rmSync(vmDirectory)
    renameSync(aside, vmDirectory)
  }
  expect(await socket.call(listAgentVms, {})).toEqual({ vms, unreadable: [] })
})
