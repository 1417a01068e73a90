import { createHash, generateKeyPairSync, X509Certificate } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  createCluster,
  forgetVm,
  getVtpmAuthority,
  issueVtpmCertificate,
  listControlPlaneAudit,
  listEvents,
  listVms,
  reportVm,
  type VmReport,
  verifyControlPlaneAudit,
} from '../../../src/api/control-plane.js'
import { addAnchors } from '../../../src/api/endorsement.js'
import { takeHostKey } from '../../../src/api/host-keys.js'
import { revokeHost } from '../../../src/api/hosts.js'
import {
  checkVtpmState,
  listVtpmCertificates,
  listVtpmStates,
  noteVtpmState,
  reportVtpmProblem,
  type VtpmStateCause,
} from '../../../src/api/vtpm-states.js'
import { fromBase64url, toBase64url } from '../../../src/core/bytes.js'
import { type Authority, createAuthority } from '../../../src/host-agent/adapters/authority.js'
import { parseCertificates, verifyEkCertificate } from '../../../src/pki/index.js'
import { createLab, type Lab } from '../../../swtpm/index.js'
import { bootHost, CLUSTER, type TestHost, ticketFor, trustHost } from '../../helpers/host.js'
import { openTestSite, type TestSite } from '../../helpers/site.js'

const VM = '11111111-2222-4333-8444-555555555555'
const OTHER_VM = '99999999-2222-4333-8444-555555555555'
const REPORT: VmReport = { name: 'web1', state: 'stopped', provider: 'gold', disks: [], vtpm: true }

const PER_MINUTE = 3

let site: TestSite
let lab: Lab
let hosts: readonly TestHost[]
let a: Authority
let b: Authority

beforeAll(async () => {
  lab = await createLab()
  site = await openTestSite({
    settings: { SIGILLO_CONTROL_PLANE_HOST_REQUESTS_PER_MINUTE: String(PER_MINUTE) },
  })
  await site.admin.call(addAnchors, { body: { pem: lab.anchorsPem, insecureTest: true } })
  await site.admin.call(createCluster, { body: { name: CLUSTER } })
  hosts = [await bootHost(lab, 'a'), await bootHost(lab, 'b')]
  const [first, second] = hosts as [TestHost, TestHost]
  await trustHost(site, first, 'good')
  await second.enrol(site.anybody, await ticketFor(site))
  a = await attested(first)
  b = await attested(second)
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

const report = (as: Authority, change: object = {}) =>
  as.call(reportVm, { params: { vmId: VM }, body: { ...REPORT, ...change } })

const newKey = () =>
  new Uint8Array(
    generateKeyPairSync('ec', { namedCurve: 'P-384' }).publicKey.export({
      type: 'spki',
      format: 'der',
    }),
  )
const spki = newKey()
const otherSpki = newKey()

const certify = (as: Authority, vmId = VM, key = spki) =>
  as.call(issueVtpmCertificate, {
    body: {
      vmId,
      kind: 'ek',
      publicKey: toBase64url(key),
      tpm: { manufacturer: 'id:00001014', model: 'swtpm', version: 'id:20191023' },
    },
  })

test('a host that asks for keys too often waits, and other hosts are served', async () => {
  const take = (as: Authority) =>
    as.call(takeHostKey, { body: { provider: 'nowhere', use: { kind: 'host', id: 'a-machine' } } })
  for (let count = 0; count < PER_MINUTE; count += 1) {
    await expect(take(a)).rejects.toMatchObject({ code: 'NOT_FOUND' })
  }
  await expect(take(a)).rejects.toMatchObject({ code: 'RATE_LIMITED' })
  await expect(take(b)).rejects.toMatchObject({ code: 'NOT_FOUND' })
})

describe('the inventory', () => {
  test('is what hosts say of their own VMs, and of nobody else’s', async () => {
    await report(a)
    await report(a, { state: 'running' })
    await expect(report(b)).rejects.toMatchObject({ code: expect.any(String) })
    await expect(b.call(forgetVm, { params: { vmId: VM } })).rejects.toBeDefined()
    const { vms } = await site.admin.call(listVms, { query: {} })
    expect(vms).toMatchObject([
      { vmId: VM, hostId: 'a', cluster: CLUSTER, report: { state: 'running' } },
    ])
    const { events } = await site.admin.call(listEvents, { query: {} })
    expect(events.length).toBeGreaterThan(0)
  })

  test('takes nothing from somebody without a token', async () => {
    await expect(
      site.anybody.call(reportVm, { params: { vmId: VM }, body: REPORT }),
    ).rejects.toMatchObject({ code: 'UNAUTHENTICATED' })
    await expect(
      site.admin.call(reportVm, { params: { vmId: VM }, body: REPORT }),
    ).rejects.toMatchObject({ code: 'UNAUTHENTICATED' })
  })
})

describe('states of virtual TPMs', () => {
  const digest = (text: string) => createHash('sha256').update(text).digest('hex')
  const params = { vmId: VM }
  const note = (
    as: Authority,
    generation: number,
    text: string,
    cause: VtpmStateCause = 'recorded',
  ) => as.call(noteVtpmState, { params, body: { generation, digest: digest(text), cause } })
  const standing = async (text: string) =>
    (await a.call(checkVtpmState, { params, query: { digest: digest(text) } })).standing
  const newEvents = async (after: number) =>
    (await site.admin.call(listEvents, { query: { after: String(after) } })).events
  const newest = async () => (await newEvents(0)).at(-1)?.seq ?? 0

  test('are known in their order', async () => {
    expect(await standing('one')).toBe('none')
    await note(a, 1, 'one')
    await note(a, 1, 'one')
    await note(a, 2, 'two')
    expect(await standing('two')).toBe('newest')
    expect(await standing('one')).toBe('superseded')
    expect(await standing('three')).toBe('unknown')
  })

  test('do not go back, and the attempt is an event', async () => {
    const before = await newest()
    for (const [generation, text] of [
      [3, 'one'],
      [2, 'three'],
      [1, 'one'],
    ] as const) {
      await expect(note(a, generation, text)).rejects.toMatchObject({ code: 'VTPM_STATE_ROLLBACK' })
    }
    expect(await standing('two')).toBe('newest')
    expect((await newEvents(before)).map(({ type, severity }) => `${type} ${severity}`)).toEqual(
      Array(3).fill('vtpm.state-rolled-back error'),
    )
  })

  test('go back when somebody answers for it, which is an event and audited', async () => {
    const before = await newest()
    await note(a, 3, 'one', 'accepted')
    expect(await standing('one')).toBe('newest')
    expect(await newEvents(before)).toMatchObject([
      { type: 'vtpm.state-accepted', detail: { generation: 3, hostId: 'a' } },
    ])
    const { records } = await site.admin.call(listControlPlaneAudit, {
      query: { subject: `vm:${VM}` },
    })
    expect(records.map(({ action }) => action)).toContain('vtpm.state-accepted')
  })

  test('that were refused are told of', async () => {
    const before = await newest()
    const body = { code: 'VTPM_STATE_CORRUPT', message: 'it does not verify' }
    await a.call(reportVtpmProblem, { params, body })
    expect(await newEvents(before)).toMatchObject([
      { type: 'vtpm.state-refused', severity: 'error', detail: { code: 'VTPM_STATE_CORRUPT' } },
    ])
  })

  test('are of the host that has the VM, and of nobody else', async () => {
    for (const call of [
      () => note(b, 4, 'four'),
      () => b.call(checkVtpmState, { params, query: { digest: digest('one') } }),
      () => b.call(reportVtpmProblem, { params, body: { code: 'X_Y', message: 'no' } }),
    ]) {
      await expect(call()).rejects.toMatchObject({ code: 'FORBIDDEN' })
    }
  })

  test('are listed in pages, the newest first', async () => {
    const first = await site.admin.call(listVtpmStates, { params, query: { limit: 2 } })
    expect(first.states.map(({ generation }) => generation)).toEqual([3, 2])
    const { next = '' } = first
    const rest = await site.admin.call(listVtpmStates, { params, query: { after: next } })
    expect(rest.states).toMatchObject([{ generation: 1, digest: digest('one'), hostId: 'a' }])
    expect(rest.next).toBeUndefined()
  })

  test('are forgotten with their VM', async () => {
    await a.call(forgetVm, { params })
    expect(await standing('one')).toBe('none')
    await report(a)
  })
})

describe('a certificate of a virtual TPM', () => {
  test('is for the key that was sent, under the authority of the site, and names the host', async () => {
    const certificate = fromBase64url((await certify(a)).certificate)
    const { pem } = await site.anybody.call(getVtpmAuthority, {})
    const { findings } = verifyEkCertificate({
      certificate,
      trust: {
        anchors: parseCertificates(pem),
        intermediates: [],
        revocation: { lists: [], mode: 'present' },
      },
      ekPublicKeySpki: spki,
      now: site.clock.nowMs(),
    })
    expect(findings.filter(({ ok }) => !ok)).toEqual([])
    const names = new X509Certificate(certificate).subjectAltName
    expect(names).toContain('a')
    expect(names).toContain(VM)
  })

  test('is listed for its VM, in pages', async () => {
    const one = fromBase64url((await certify(a)).certificate)
    const { certificates } = await site.admin.call(listVtpmCertificates, { query: { vmId: VM } })
    expect(certificates.map(({ pem }) => new X509Certificate(pem).fingerprint256)).toContain(
      new X509Certificate(one).fingerprint256,
    )
    const first = await site.admin.call(listVtpmCertificates, { query: { vmId: VM, limit: 1 } })
    const after = first.next ?? ''
    const rest = await site.admin.call(listVtpmCertificates, { query: { vmId: VM, after } })
    expect([...first.certificates, ...rest.certificates]).toEqual(certificates)
    const others = await site.admin.call(listVtpmCertificates, { query: { vmId: OTHER_VM } })
    expect(others.certificates).toEqual([])
  })

  test('is not issued for a VM of another host', async () => {
    await expect(certify(b)).rejects.toMatchObject({
      code: expect.stringMatching(/FORBIDDEN|CONFLICT/),
    })
    await expect(certify(b, OTHER_VM)).rejects.toMatchObject({ code: 'FORBIDDEN' })
    await expect(certify(b, OTHER_VM, otherSpki)).resolves.toBeDefined()
  })

  test('is not issued to a host that was revoked, though its token has not ended', async () => {
    await site.admin.call(revokeHost, { params: { hostId: 'b' }, body: { reason: 'stolen' } })
    await expect(certify(b, OTHER_VM, otherSpki)).rejects.toMatchObject({ code: 'HOST_STATUS' })
    await expect(report(b, { name: 'x' })).rejects.toBeDefined()
    expect(await site.admin.call(verifyControlPlaneAudit, {})).toMatchObject({ intact: true })
  })
})
