import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { captureBaseImage } from '../../../src/api/base-images.js'
import { addAnchors } from '../../../src/api/endorsement.js'
import {
  acceptHostReboot,
  type EvidenceBundle,
  getEvidenceBundle,
  getHost,
} from '../../../src/api/hosts.js'
import {
  activatePolicyDraft,
  getPolicy,
  getPolicyDraft,
  listPolicyRevisions,
  type Policy,
  removePolicyDraft,
  setPolicyDraft,
  testPolicyDraft,
} from '../../../src/api/policies.js'
import { DEFAULT_POLICY, policyDigest, verifyBundle } from '../../../src/appraisal/index.js'
import { failures } from '../../../src/core/finding.js'
import { EVENT_TYPES, encodeEventLog, parseEventLog } from '../../../src/eventlog/index.js'
import { createLab, type Lab, withOtherBootLoader } from '../../../swtpm/index.js'
import {
  bootHost,
  CLUSTER,
  GOOD_BOOT,
  type TestHost,
  ticketFor,
  trustHost,
} from '../../helpers/host.js'
import { openTestSite, setPolicy, type TestSite } from '../../helpers/site.js'
import { sigillo } from '../cli/sigillo.js'

let site: TestSite
let lab: Lab
let good: TestHost
let other: TestHost

const params = { cluster: CLUSTER }
const refused = { code: 'ATTESTATION_REFUSED' }

beforeAll(async () => {
  lab = await createLab()
  site = await openTestSite()
  await site.admin.call(addAnchors, { body: { pem: lab.anchorsPem, insecureTest: true } })
  good = await bootHost(lab, 'good')
  const eventLog = withOtherBootLoader(GOOD_BOOT, 'grubx64.efi', Buffer.from('another'))
  other = await bootHost(lab, 'other', { eventLog })
  await trustHost(site, good, 'one')
  await trustHost(site, other, 'two')
})
afterAll(async () => {
  await good[Symbol.asyncDispose]()
  await other[Symbol.asyncDispose]()
  await site[Symbol.asyncDispose]()
  await lab[Symbol.asyncDispose]()
})

const viewOf = (host: TestHost) => site.admin.call(getHost, { params: { hostId: host.hostId } })
const codesOf = async (host: TestHost) =>
  (await viewOf(host)).lastVerdict?.findings.flatMap(({ ok, code }) => (ok ? [] : [code]))
const draft = (change: Partial<Policy>) =>
  site.admin.call(setPolicyDraft, { params, body: { ...DEFAULT_POLICY, ...change } })
const outcomes = async () => {
  const { hosts } = await site.admin.call(testPolicyDraft, { params })
  return Object.fromEntries(
    hosts.map(({ hostId, outcome, findings }) => [
      hostId,
      [outcome, ...findings.map(({ code }) => code)],
    ]),
  )
}

async function grubOf(host: TestHost): Promise<string[]> {
  return (await viewOf(host)).lastVerdict?.boot?.bootApplications.map(({ digest }) => digest) ?? []
}

describe('the draft of a policy', () => {
  test('says who would fall out, and changes nothing until it is activated', async () => {
    const applications = await grubOf(good)
    const rules = { bootApplications: applications.map((digest) => ({ digest })) }
    const view = await draft(rules)
    expect(await outcomes()).toEqual({ good: ['accepted'], other: ['refused', 'BOOT_APPLICATION'] })
    await other.attest(site.anybody)
    const after = await site.admin.call(activatePolicyDraft, {
      params,
      body: { digest: view.digest },
    })
    expect(after).toMatchObject({ revision: 1, digest: view.digest, policy: rules })
    await good.attest(site.anybody)
    await expect(other.attest(site.anybody)).rejects.toMatchObject(refused)
    expect(await codesOf(other)).toEqual(['BOOT_APPLICATION'])
    await expect(site.admin.call(getPolicyDraft, { params })).rejects.toMatchObject({
      code: 'NOT_FOUND',
    })
    const { revisions } = await site.admin.call(listPolicyRevisions, { params })
    expect(revisions).toMatchObject([{ revision: 1, activatedBy: 'admin', digest: view.digest }])
  })

  test('cannot judge what the hosts did not quote', async () => {
    await draft({ pcrs: [...DEFAULT_POLICY.pcrs, 15] })
    expect(await outcomes()).toEqual({ good: ['unknown'], other: ['unknown'] })
    const { hosts } = await site.admin.call(testPolicyDraft, { params })
    expect(hosts[0]?.reason).toBe('PCR 15 was not quoted')
    await draft({ bank: 'sha384' })
    expect(await outcomes()).toEqual({ good: ['unknown'], other: ['unknown'] })
  })

  test('is activated only as it was read, and can be thrown away', async () => {
    const { digest } = await draft({ requireSecureBoot: false })
    await draft({ requireSecureBoot: false, tokenTtlSeconds: 60 })
    const activate = site.admin.call(activatePolicyDraft, { params, body: { digest } })
    await expect(activate).rejects.toMatchObject({ code: 'CONFLICT' })
    await site.admin.call(removePolicyDraft, { params })
    await expect(site.admin.call(testPolicyDraft, { params })).rejects.toMatchObject({
      code: 'NOT_FOUND',
    })
    await expect(draft({ pinnedPcrs: [15] })).rejects.toMatchObject({ code: 'POLICY_INVALID' })
    const sha1 = '00'.repeat(20)
    const application = draft({ bootApplications: [{ digest: sha1 }] })
    await expect(application).rejects.toMatchObject({ code: 'POLICY_INVALID' })
    await expect(draft({ dbxAtLeast: [sha1] })).rejects.toMatchObject({ code: 'POLICY_INVALID' })
    const allow = [{ path: '/bin/*', digests: ['00'.repeat(20)] }]
    const ima = { allow, exclude: [], allowViolations: false, signers: [] }
    await expect(draft({ pcrs: [0, 10], pinnedPcrs: [0], bindingPcrs: [0], ima })).rejects.toThrow(
      /SHA-1/,
    )
  })
})

describe('the rules of a policy, on real boots:', () => {
  const cases: readonly [string, Partial<Policy>, readonly string[]][] = [
    ['a kernel of a pattern', { kernels: ['/vmlinuz*'] }, []],
    ['another kernel', { kernels: ['/vmlinuz-6.99*'] }, ['BOOT_KERNEL']],
    ['a command line', { commandLines: ['*console=*'] }, []],
    [
      'another command line',
      { commandLines: ['* lockdown=confidentiality'] },
      ['BOOT_COMMAND_LINE'],
    ],
    ['hashes that dbx does not have', { dbxAtLeast: ['00'.repeat(32)] }, ['BOOT_DBX']],
    ['another firmware', { firmwareVersions: ['EDK II 9*'] }, ['BOOT_FIRMWARE']],
    ['a smaller log', { maxEventLogOctets: 1024 }, ['EVENTLOG_TOO_LARGE']],
    ['no base image', { pinnedPcrs: [] }, []],
    ['a safe clock', { requireSafeClock: true }, []],
  ]
  test.each(cases)('%s', async (_, change, codes) => {
    await draft(change)
    const result = (await outcomes())['good']
    expect(result).toEqual(codes.length === 0 ? ['accepted'] : ['refused', ...codes])
  })

  test('a rebooted host waits for an administrator, where the policy says so', async () => {
    await setPolicy(site, CLUSTER, { ...DEFAULT_POLICY, reboot: 'refuse' })
    await good.attest(site.anybody)
    await good.tpm.boot(GOOD_BOOT)
    await good.reopen()
    await expect(good.attest(site.anybody)).rejects.toMatchObject(refused)
    expect(await codesOf(good)).toEqual(['HOST_REBOOTED'])
    await site.admin.call(acceptHostReboot, { params: { hostId: 'good' }, body: {} })
    await good.attest(site.anybody)
    expect((await viewOf(good)).state).toBe('trusted')
    await setPolicy(site, CLUSTER, DEFAULT_POLICY)
  })

  test('a host that was suspended waits for an administrator or a reboot, unless the policy allows it', async () => {
    const suspend = async () => {
      await good.tpm.suspend()
      // the PCRs begin anew, and whoever runs first extends what a good boot would have measured
      await good.tpm.boot(GOOD_BOOT)
      await good.reopen()
    }
    await good.attest(site.anybody)
    await suspend()
    await expect(good.attest(site.anybody)).rejects.toMatchObject(refused)
    expect(await codesOf(good)).toEqual(['HOST_SUSPENDED'])
    await good.tpm.boot(GOOD_BOOT)
    await good.reopen()
    await good.attest(site.anybody)
    await suspend()
    await setPolicy(site, CLUSTER, { ...DEFAULT_POLICY, suspend: 'allow' })
    await good.attest(site.anybody)
    await setPolicy(site, CLUSTER, DEFAULT_POLICY)
  })

  test('a host may start more applications than a token has room for', async () => {
    const log = parseEventLog(GOOD_BOOT)
    const last = log.events.findLastIndex(
      ({ type }) => type === EVENT_TYPES.EV_EFI_BOOT_SERVICES_APPLICATION,
    )
    const application = log.events[last]
    if (!application) throw new Error('no application')
    const events = log.events.toSpliced(last, 0, ...Array.from({ length: 70 }, () => application))
    await using many = await bootHost(lab, 'many', { eventLog: encodeEventLog({ ...log, events }) })
    await trustHost(site, many, 'many')
    const bootApplications = (await grubOf(many)).map((digest) => ({ digest }))
    await setPolicy(site, CLUSTER, { ...DEFAULT_POLICY, bootApplications })
    await many.attest(site.anybody)
    expect((await viewOf(many)).lastVerdict?.findings.length).toBeGreaterThan(90)
    await setPolicy(site, CLUSTER, DEFAULT_POLICY)
  })

  test('a base image counts until its end', async () => {
    await using third = await bootHost(lab, 'third', {
      eventLog: withOtherBootLoader(GOOD_BOOT, 'grubx64.efi', Buffer.from('a third')),
    })
    await third.enrol(site.anybody, await ticketFor(site))
    await third.attest(site.anybody).catch(() => undefined)
    const notAfter = new Date(site.clock.nowMs() + 60_000).toISOString()
    await site.admin.call(captureBaseImage, { body: { name: 'short', hostId: 'third', notAfter } })
    await third.attest(site.anybody)
    site.clock.advance(61_000)
    await expect(third.attest(site.anybody)).rejects.toMatchObject(refused)
    expect(await codesOf(third)).toContain('BASE_IMAGE_PCR')
  })
})

describe('a bundle of evidence', () => {
  async function bundleOf(host: TestHost): Promise<EvidenceBundle> {
    const bundleId = (await viewOf(host)).lastVerdict?.bundleId ?? ''
    return site.admin.call(getEvidenceBundle, { params: { hostId: host.hostId, bundleId } })
  }

  test('leads anybody to the verdict of the service, accepted or refused', async () => {
    await good.attest(site.anybody)
    const accepted = await bundleOf(good)
    expect(failures(await verifyBundle(accepted))).toEqual([])
    expect(policyDigest(accepted.policy)).toBe(
      (await site.admin.call(getPolicy, { params })).digest,
    )

    await good.tpm.extend(9, Buffer.from('x'))
    await expect(good.attest(site.anybody)).rejects.toMatchObject(refused)
    const bundle = await bundleOf(good)
    const findings = await verifyBundle(bundle)
    expect(failures(findings).map(({ code }) => code)).toEqual([
      'EVENTLOG_REPLAY',
      'BASE_IMAGE_PCR',
    ])
    expect(findings.at(-1)).toMatchObject({ check: 'bundle.verdict', ok: true })

    const forged = { ...bundle, verdict: { ...bundle.verdict, accepted: true } }
    expect((await verifyBundle(forged)).at(-1)).toMatchObject({ ok: false, code: 'BUNDLE_VERDICT' })
    await good.tpm.boot(GOOD_BOOT)
    await good.reopen()
  })

  test('is verified by the program, which refuses one that was changed', async () => {
    await good.attest(site.anybody)
    const file = join(good.stateDirectory, 'bundle.json')
    const bundle = await bundleOf(good)
    await writeFile(file, JSON.stringify(bundle))
    const verified = await sigillo('verify', 'bundle', file, '--json')
    expect(verified).toMatchObject({ status: 0, err: '' })
    expect(JSON.parse(verified.out)).toMatchObject({ accepted: true, hostId: 'good' })
    const pcrs = bundle.evidence.pcrs.map(({ pcr }) => ({ pcr, digest: 'ab'.repeat(32) }))
    await writeFile(file, JSON.stringify({ ...bundle, evidence: { ...bundle.evidence, pcrs } }))
    expect(await sigillo('verify', 'bundle', file)).toMatchObject({ status: 3 })
    await writeFile(file, '{"format":"another"}')
    expect(await sigillo('verify', 'bundle', file)).toMatchObject({ status: 1 })
  })

  test('is kept as long as it is one of the newest of its host', async () => {
    const first = (await bundleOf(good)).bundleId
    for (let time = 0; time < 3; time += 1) await good.attest(site.anybody)
    const old = { params: { hostId: 'good', bundleId: first } }
    await expect(site.admin.call(getEvidenceBundle, old)).rejects.toMatchObject({
      code: 'NOT_FOUND',
    })
  })
})
