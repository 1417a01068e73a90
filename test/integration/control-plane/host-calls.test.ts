import { spawnSync } from 'node:child_process'
import { createHash, generateKeyPairSync, X509Certificate } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Agent, request } from 'undici'
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
  getVtpmRevocationList,
  revokeVtpmCertificate,
  VTPM_REVOCATION_LIST_FILE,
} from '../../../src/api/vtpm-revocations.js'
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
let anybody: Agent

beforeAll(async () => {
  lab = await createLab()
  site = await openTestSite({
    settings: {
      SIGILLO_CONTROL_PLANE_HOST_REQUESTS_PER_MINUTE: String(PER_MINUTE),
      SIGILLO_CONTROL_PLANE_VTPM_REVOCATION_LIST_URL: 'http://crl.example/vtpm.crl',
    },
  })
  anybody = new Agent({ connect: { ca: site.caPem } })
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
  await anybody.close()
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
const sha256 = (octets: Uint8Array) => createHash('sha256').update(octets).digest('hex')
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
  /** Of this VM: hosts have events of their own, when they are slow. */
  const newEvents = async (after: number) =>
    (await site.admin.call(listEvents, { query: { after: String(after) } })).events.filter(
      ({ subject }) => subject === `vm:${VM}`,
    )
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

describe('certificates of virtual TPMs are taken back', () => {
  const vmId = '22222222-2222-4333-8444-555555555555'
  const keys = [newKey(), newKey()] as const

  const reported = (certificates: readonly string[], key: Uint8Array | undefined) =>
    a.call(reportVm, {
      params: { vmId },
      body: {
        ...REPORT,
        vtpm: key !== undefined,
        ...(key && {
          vtpmIdentity: { keys: [sha256(key)], certificates: [...certificates] },
        }),
      },
    })
  const issue = async (key: typeof spki) => {
    site.clock.advance(1000)
    const der = fromBase64url((await certify(a, vmId, key)).certificate)
    return { der, fingerprint: sha256(der) }
  }
  const takenBack = async () => {
    const query = { vmId, revoked: true }
    const { certificates } = await site.admin.call(listVtpmCertificates, { query })
    return new Map(certificates.map((one) => [one.fingerprint, one.revocation?.reason]))
  }
  /** What openssl says of a certificate by the list that anybody fetches. */
  const verified = async (der: Uint8Array) => {
    const { pem: authority } = await site.anybody.call(getVtpmAuthority, {})
    const list = await fetchList()
    const file = (name: string, text: string | Uint8Array) => {
      writeFileSync(join(site.folder, name), text)
      return join(site.folder, name)
    }
    const files = [
      ...['-CAfile', file('ca.pem', authority), '-CRLfile', file('vtpm.crl', list.octets)],
      file('one.pem', new X509Certificate(der).toString()),
    ]
    const { stdout, stderr } = spawnSync(
      'openssl',
      ['verify', '-crl_check', '-attime', String(Math.ceil(site.clock.nowMs() / 1000)), ...files],
      { encoding: 'utf8' },
    )
    const crl = ['crl', '-inform', 'DER', '-in', join(site.folder, 'vtpm.crl'), '-noout']
    const text = spawnSync(
      'openssl',
      [...crl, '-CAfile', join(site.folder, 'ca.pem'), '-crlnumber', '-text'],
      {
        encoding: 'utf8',
      },
    )
    expect(text.stderr).toContain('verify OK')
    return { answer: `${stdout}${stderr}`, text: text.stdout }
  }
  const fetchList = async () => {
    const answer = await request(`${site.url}${VTPM_REVOCATION_LIST_FILE.path}`, {
      dispatcher: anybody,
    })
    return {
      type: answer.headers['content-type'],
      octets: new Uint8Array(await answer.body.arrayBuffer()),
    }
  }

  test('when newer ones are in their place, and not before', async () => {
    const first = await issue(keys[0])
    await reported([first.fingerprint], keys[0])
    const second = await issue(keys[0])
    // not in it yet: the change may still be undone
    await reported([first.fingerprint], keys[0])
    expect(await takenBack()).toEqual(new Map())
    expect((await verified(first.der)).answer).toContain('one.pem: OK')
    const before = await site.anybody.call(getVtpmRevocationList, {})
    await reported([second.fingerprint], keys[0])
    expect(await takenBack()).toEqual(new Map([[first.fingerprint, 'superseded']]))
    const after = await site.anybody.call(getVtpmRevocationList, {})
    expect(after.number).toBeGreaterThan(before.number)
    expect(after.certificates).toBe(before.certificates + 1)

    const old = await verified(first.der)
    expect(old.answer).toContain('certificate revoked')
    expect(old.text).toMatch(/X509v3 CRL Reason Code:\s+Superseded/)
    expect(old.text).toMatch(/^crlNumber=0x[0-9A-F]+$/m)
    expect((await verified(second.der)).answer).toContain('one.pem: OK')
  })

  test('when their virtual TPM is removed, also where it has another by the time that is told', async () => {
    const { certificates } = await site.admin.call(listVtpmCertificates, {
      query: { vmId, revoked: false },
    })
    const [second] = certificates
    const third = await issue(keys[1])
    await reported([third.fingerprint], keys[1])
    expect((await takenBack()).get(second?.fingerprint ?? '')).toBe('cessation-of-operation')
    // one that is being made while the host tells of what was before
    await reported([], undefined)
    expect((await takenBack()).get(third.fingerprint)).toBe('cessation-of-operation')
    const fourth = await issue(keys[0])
    await reported([], undefined)
    await reported([fourth.fingerprint], keys[0])
    expect((await takenBack()).has(fourth.fingerprint)).toBe(false)
  })

  test('by an administrator, for good where the key is compromised', async () => {
    const fifth = await issue(keys[0])
    const params = { fingerprint: fifth.fingerprint }
    const revoke = (reason: 'superseded' | 'key-compromise') =>
      site.admin.call(revokeVtpmCertificate, { params, body: { reason } })
    expect((await revoke('superseded')).revoked).toEqual([fifth.fingerprint])
    await expect(revoke('superseded')).rejects.toMatchObject({ code: 'CONFLICT' })
    const sixth = await issue(keys[0])
    const { revoked } = await revoke('key-compromise')
    expect(revoked).toContain(fifth.fingerprint)
    expect(revoked).toContain(sixth.fingerprint)
    expect((await takenBack()).get(sixth.fingerprint)).toBe('key-compromise')
    await expect(issue(keys[0])).rejects.toMatchObject({ code: 'VTPM_KEY_COMPROMISED' })
    const unknown = { params: { fingerprint: '00'.repeat(32) }, body: { reason: 'superseded' } }
    await expect(site.admin.call(revokeVtpmCertificate, unknown as never)).rejects.toMatchObject({
      code: 'NOT_FOUND',
    })
    await expect(
      site.anybody.call(revokeVtpmCertificate, { params, body: { reason: 'superseded' } }),
    ).rejects.toMatchObject({ code: 'UNAUTHENTICATED' })
  })

  test('when their VM is deleted: each is audited, with the number of the list', async () => {
    const last = await issue(keys[1])
    await reported([last.fingerprint], keys[1])
    await a.call(forgetVm, { params: { vmId } })
    expect((await takenBack()).get(last.fingerprint)).toBe('cessation-of-operation')
    const { number } = await site.anybody.call(getVtpmRevocationList, {})
    const query = { subject: `vm:${vmId}`, limit: 100 }
    const { records } = await site.admin.call(listControlPlaneAudit, { query })
    expect(records.at(-1)).toMatchObject({
      ...{ actor: 'host:a', action: 'vtpm.revoke-certificate', outcome: 'done' },
      detail: { certificate: last.fingerprint, reason: 'cessation-of-operation', list: number },
    })
    const { events } = await site.admin.call(listEvents, { query: { limit: 1000 } })
    expect(events.filter(({ type }) => type === 'vtpm.certificates-revoked').at(-1)).toMatchObject({
      ...{ subject: `vm:${vmId}`, severity: 'info' },
      detail: { certificates: [{ fingerprint: last.fingerprint }] },
    })
    const { seq } = events.at(-1) ?? { seq: 0 }

    // put back from a copy: told once
    await reported([last.fingerprint], keys[1])
    await reported([last.fingerprint], keys[1])
    const after = await site.admin.call(listEvents, { query: { after: String(seq) } })
    const returned = after.events.filter(({ type }) => type === 'vtpm.certificates-returned')
    expect(returned).toMatchObject([
      { severity: 'warning', detail: { certificates: [last.fingerprint] } },
    ])
    const again = await issue(keys[1])
    await reported([again.fingerprint], keys[1])
    expect((await takenBack()).has(again.fingerprint)).toBe(false)
    await a.call(forgetVm, { params: { vmId } })
  })

  test('by a list at the address that certificates have', async () => {
    const { der } = await issue(newKey())
    const dump = spawnSync('openssl', ['x509', '-inform', 'DER', '-noout', '-text'], {
      ...{ input: der, encoding: 'utf8' },
    })
    expect(dump.stdout).toContain('URI:http://crl.example/vtpm.crl')
    expect((await fetchList()).type).toBe('application/pkix-crl')
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

test('the list of what was taken back is signed anew before it ends, with all that was on it', async () => {
  const before = await site.anybody.call(getVtpmRevocationList, {})
  expect(before.certificates).toBeGreaterThan(0)
  site.clock.advance(4 * 24 * 3600 * 1000)
  await expect
    .poll(async () => (await site.anybody.call(getVtpmRevocationList, {})).number, {
      ...{ timeout: 60_000, interval: 200 },
    })
    .toBeGreaterThan(before.number)
  const after = await site.anybody.call(getVtpmRevocationList, {})
  expect(after.certificates).toBe(before.certificates)
  expect(Date.parse(after.nextUpdate)).toBeGreaterThan(Date.parse(before.nextUpdate))
})
