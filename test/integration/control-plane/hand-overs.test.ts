import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { captureBaseImage } from '../../../src/api/base-images.js'
import {
  createCluster,
  forgetVm,
  listControlPlaneAudit,
  listEvents,
  listVms,
  reportVm,
  type VmReport,
  verifyControlPlaneAudit,
} from '../../../src/api/control-plane.js'
import { addAnchors } from '../../../src/api/endorsement.js'
import { createTicket, revokeHost } from '../../../src/api/hosts.js'
import { listHandOvers, offerVm, takeVm, withdrawVm } from '../../../src/api/vm-moves.js'
import { toBase64url } from '../../../src/core/bytes.js'
import { type Authority, createAuthority } from '../../../src/host-agent/adapters/authority.js'
import { createLab, type Lab } from '../../../swtpm/index.js'
import { bootHost, CLUSTER, type TestHost, ticketFor, trustHost } from '../../helpers/host.js'
import { openTestSite, type TestSite } from '../../helpers/site.js'

const REPORT: VmReport = { name: 'web1', state: 'stopped', provider: 'gold', disks: [], vtpm: true }

let site: TestSite
let lab: Lab
let hosts: readonly TestHost[]
let a: Authority
let b: Authority
let outside: Authority

beforeAll(async () => {
  lab = await createLab()
  site = await openTestSite()
  await site.admin.call(addAnchors, { body: { pem: lab.anchorsPem, insecureTest: true } })
  for (const name of [CLUSTER, 'other']) await site.admin.call(createCluster, { body: { name } })
  hosts = [await bootHost(lab, 'a'), await bootHost(lab, 'b'), await bootHost(lab, 'c')]
  const [first, second, third] = hosts as [TestHost, TestHost, TestHost]
  await trustHost(site, first, 'good')
  await second.enrol(site.anybody, await ticketFor(site))
  const { ticket } = await site.admin.call(createTicket, { body: { cluster: 'other' } })
  await third.enrol(site.anybody, ticket)
  await third.attest(site.anybody).catch(() => undefined)
  await site.admin.call(captureBaseImage, { body: { name: 'other', hostId: 'c' } })
  a = await attested(first)
  b = await attested(second)
  outside = await attested(third)
})
afterAll(async () => {
  for (const host of hosts) await host[Symbol.asyncDispose]()
  await site[Symbol.asyncDispose]()
  await lab[Symbol.asyncDispose]()
})

async function attested(host: TestHost): Promise<Authority> {
  const session = await host.attest(site.anybody)
  return createAuthority(site.anybody, async () => session, site.clock)
}

/** A VM of host a, and what hands it over. */
function newVm() {
  const params = { vmId: randomUUID() }
  const exportId = randomUUID()
  const ticket = randomBytes(32)
  const ticketDigest = toBase64url(createHash('sha256').update(ticket).digest())
  return {
    ...params,
    report: (as: Authority) => as.call(reportVm, { params, body: REPORT }),
    offer: (as: Authority) => as.call(offerVm, { params, body: { exportId, ticketDigest } }),
    withdraw: (as: Authority) => as.call(withdrawVm, { params }),
    take: (as: Authority, change: { exportId?: string; ticket?: Uint8Array } = {}) =>
      as.call(takeVm, {
        params,
        body: {
          exportId: change.exportId ?? exportId,
          ticket: toBase64url(change.ticket ?? ticket),
          report: REPORT,
        },
      }),
    hostId: async () => {
      const { vms } = await site.admin.call(listVms, { query: {} })
      return vms.find(({ vmId }) => vmId === params.vmId)?.hostId
    },
  }
}

const refusal = { code: 'VM_HAND_OVER' }

test('a VM that was handed over is of the host that shows the ticket, once', async () => {
  const vm = newVm()
  await vm.report(a)
  await vm.offer(a)
  const { handOvers } = await site.admin.call(listHandOvers, {})
  expect(handOvers).toMatchObject([{ vmId: vm.vmId, hostId: 'a', cluster: CLUSTER }])
  expect(await vm.hostId()).toBe('a')
  await vm.take(b)
  expect(await vm.hostId()).toBe('b')
  expect((await site.admin.call(listHandOvers, {})).handOvers).toEqual([])
  await vm.take(b)
  await expect(vm.take(a)).rejects.toMatchObject(refusal)
  await expect(vm.withdraw(a)).rejects.toMatchObject(refusal)
  await expect(vm.offer(a)).rejects.toMatchObject(refusal)
  await expect(vm.report(a)).rejects.toMatchObject({ code: 'FORBIDDEN' })
  const subject = `vm:${vm.vmId}`
  const { events } = await site.admin.call(listEvents, { query: { limit: 1000 } })
  expect(events.filter((event) => event.subject === subject).map(({ type }) => type)).toEqual([
    ...['vm.created', 'vm.handed-over', 'vm.moved', 'vm.imported'],
  ])
  const { records } = await site.admin.call(listControlPlaneAudit, { query: { subject } })
  expect(records).toContainEqual(
    expect.objectContaining({
      action: 'vm.moved',
      actor: 'host:b',
      detail: expect.objectContaining({ from: 'a', to: 'b' }),
    }),
  )
  expect(await site.admin.call(verifyControlPlaneAudit, {})).toMatchObject({ intact: true })
})

test('no other host gets it without the ticket, with that of another export, or from another cluster', async () => {
  const vm = newVm()
  await vm.report(a)
  await expect(vm.take(b)).rejects.toMatchObject(refusal)
  await vm.offer(a)
  await expect(vm.take(b, { ticket: randomBytes(32) })).rejects.toMatchObject(refusal)
  await expect(vm.take(b, { ticket: new Uint8Array() })).rejects.toMatchObject(refusal)
  await expect(vm.take(b, { exportId: randomUUID() })).rejects.toMatchObject(refusal)
  await expect(vm.take(outside)).rejects.toMatchObject(refusal)
  await expect(vm.offer(b)).rejects.toMatchObject(refusal)
  await expect(vm.withdraw(b)).rejects.toMatchObject(refusal)
  expect(await vm.hostId()).toBe('a')
})

test('a hand-over ends when it is withdrawn, replaced, or the host says that it has the VM', async () => {
  const ends: ((vm: ReturnType<typeof newVm>) => Promise<unknown>)[] = [
    (vm) => vm.withdraw(a),
    (vm) => vm.report(a),
  ]
  for (const end of ends) {
    const vm = newVm()
    await vm.report(a)
    await vm.offer(a)
    await end(vm)
    await expect(vm.take(b)).rejects.toMatchObject(refusal)
  }
})

test('a VM that was deleted can be put back by a host that has a copy of it', async () => {
  const vm = newVm()
  await expect(vm.offer(a)).rejects.toMatchObject(refusal)
  await vm.report(a)
  await vm.offer(a)
  await a.call(forgetVm, { params: { vmId: vm.vmId } })
  await vm.take(b)
  expect(await vm.hostId()).toBe('b')
})

test('nobody else asks, and no host that was revoked', async () => {
  const vm = newVm()
  await vm.report(a)
  await vm.offer(a)
  const params = { vmId: vm.vmId }
  await expect(site.anybody.call(withdrawVm, { params })).rejects.toMatchObject({
    code: 'UNAUTHENTICATED',
  })
  await expect(site.anybody.call(listHandOvers, {})).rejects.toMatchObject({
    code: 'UNAUTHENTICATED',
  })
  const left = newVm()
  await left.report(b)
  await expect(left.report(a)).rejects.toMatchObject({ code: 'FORBIDDEN' })
  await site.admin.call(revokeHost, { params: { hostId: 'b' }, body: { reason: 'stolen' } })
  await expect(vm.take(b)).rejects.toMatchObject({ code: 'HOST_STATUS' })

  // what a revoked host leaves is of a host of its cluster that has the files, and of none outside
  await expect(left.report(outside)).rejects.toMatchObject({ code: 'FORBIDDEN' })
  expect(await left.hostId()).toBe('b')
  await left.report(a)
  expect(await left.hostId()).toBe('a')
  const { events } = await site.admin.call(listEvents, { query: { limit: 1000 } })
  expect(events.findLast(({ type }) => type === 'vm.taken-over')).toMatchObject({
    ...{ severity: 'warning', subject: `vm:${left.vmId}`, detail: { from: 'b', to: 'a' } },
  })
})
