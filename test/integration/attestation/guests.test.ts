import { createHash, randomUUID } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createEnrolment, getJwks, listAttestationAudit } from '../../../src/api/attestation.js'
import { listAttestationEvents } from '../../../src/api/attestation-events.js'
import { getVtpmAuthority, reportVm, type VmReport } from '../../../src/api/control-plane.js'
import {
  addAnchors,
  addRevokedKey,
  listAnchors,
  removeRevokedKey,
} from '../../../src/api/endorsement.js'
import {
  createGuestAttestation,
  type GuestEvidence,
  type GuestPolicy,
  getGuest,
  getGuestBundle,
  getGuestPolicy,
  listGuests,
  removeGuest,
  revokeGuest,
  setGuestPolicy,
} from '../../../src/api/guests.js'
import { revokeHost } from '../../../src/api/hosts.js'
import { revokeVtpmCertificate } from '../../../src/api/vtpm-revocations.js'
import { DEFAULT_GUEST_POLICY, verifyGuestBundle } from '../../../src/appraisal/index.js'
import { toBase64url, toHex } from '../../../src/core/bytes.js'
import { systemClock } from '../../../src/core/clock.js'
import type { ErrorCode } from '../../../src/core/error-codes.js'
import { type Finding, failures } from '../../../src/core/finding.js'
import { randomOctets } from '../../../src/core/random.js'
import type { Session } from '../../../src/host-agent/adapters/attester.js'
import { createAuthority } from '../../../src/host-agent/adapters/authority.js'
import {
  createAuthority as createCa,
  issueEkCertificate,
  parseCertificates,
} from '../../../src/pki/index.js'
import { importJwks, verifyGuestResult } from '../../../src/tokens/index.js'
import { attestationKeyTemplate, nameOf, parsePublicArea } from '../../../src/tpm/index.js'
import { createLab, type Lab } from '../../../swtpm/index.js'
import { attestGuest, bootGuest, moveVm, spokenFor, type TestGuest } from '../../helpers/guest.js'
import { bootHost, CLUSTER, type TestHost, ticketFor, trustHost } from '../../helpers/host.js'
import { openTestSite, type TestSite } from '../../helpers/site.js'
import { run } from '../cli/sigillo.js'

const VM_REPORT: VmReport = { name: 'web', state: 'running', disks: [], vtpm: true }

let site: TestSite
let lab: Lab
let hostA: TestHost
let hostB: TestHost
let onA: Session
let onB: Session
let guest: TestGuest
let certificate: Uint8Array

const authorityOf = (session: Session) =>
  createAuthority(site.anybody, async () => session, systemClock)

/** Tells the control plane that a VM is on the host of a session. */
const report = (session: Session, vmId: string) =>
  authorityOf(session).call(reportVm, { params: { vmId }, body: VM_REPORT })

const move = (from: Session, to: Session, vmId: string) =>
  moveVm({ from: authorityOf(from), to: authorityOf(to), vmId, report: VM_REPORT })

beforeAll(async () => {
  lab = await createLab()
  site = await openTestSite()
  await site.admin.call(addAnchors, { body: { pem: lab.anchorsPem, insecureTest: true } })
  const { pem } = await site.anybody.call(getVtpmAuthority, {})
  await site.admin.call(addAnchors, { body: { pem, forVms: true } })
  hostA = await bootHost(lab, 'a')
  hostB = await bootHost(lab, 'b')
  await trustHost(site, hostA, 'good')
  onA = await hostA.attest(site.anybody)
  await hostB.enrol(site.anybody, await ticketFor(site))
  onB = await hostB.attest(site.anybody)
  guest = await bootGuest(lab, 'g')
  certificate = await guest.certify(site.anybody, onA)
  await report(onA, guest.vmId)
})
afterAll(async () => {
  for (const one of [guest, hostA, hostB, site, lab]) await one?.[Symbol.asyncDispose]()
})

/** Codes of the checks that failed, as the audit has them for the newest refusal of a VM. */
async function refusalOf(vmId: string): Promise<readonly string[]> {
  const query = { subject: `vm:${vmId}`, limit: 1000 }
  const { records } = await site.admin.call(listAttestationAudit, { query })
  const last = records.filter(({ outcome }) => outcome === 'refused').at(-1)
  const { findings = [] } = (last?.detail ?? {}) as { findings?: readonly string[] }
  return findings.map((line) => /\(([A-Z_]+)\)$/.exec(line)?.[1] ?? line)
}

/** Evidence in answer to a new challenge, with the word of host A unless told. */
async function freshEvidence(
  changed: Partial<GuestEvidence> = {},
  session: Session | 'none' = onA,
): Promise<GuestEvidence> {
  const challenge = await guest.challenge(site.anybody, certificate)
  const evidence = await guest.evidence(challenge, certificate, changed)
  return session === 'none' ? evidence : spokenFor(evidence, session, challenge.verifier)
}

async function expectRefused(evidence: GuestEvidence, ...codes: readonly ErrorCode[]) {
  const sent = site.anybody.call(createGuestAttestation, { body: evidence })
  await expect(sent).rejects.toMatchObject({ code: 'ATTESTATION_REFUSED' })
  expect(await refusalOf(evidence.vmId)).toEqual([...codes])
}

const policyWith = (changed: Partial<GuestPolicy>) => ({ ...DEFAULT_GUEST_POLICY, ...changed })
const setPolicy = (policy: GuestPolicy) =>
  site.admin.call(setGuestPolicy, { params: { cluster: CLUSTER }, body: policy })

async function verify(token: string, changed: { readonly vmId?: string } = {}) {
  return verifyGuestResult(token, {
    jwks: await importJwks(await site.anybody.call(getJwks, {})),
    issuer: `${site.url}/attestation`,
    audience: site.url,
    nowSeconds: Math.floor(Date.now() / 1000),
    skewSeconds: 5,
    vmId: guest.vmId,
    ...changed,
  })
}

describe('a guest on an attested host', () => {
  test('gets one token that says which VM it is and which host it runs on', async () => {
    const { token, expiresAt } = await attestGuest(site.anybody, guest, certificate, onA)
    const { vm, host } = await verify(token)
    expect(vm.sub).toBe(`urn:uuid:${guest.vmId}`)
    expect(vm.submods.vm.ear_status).toBe('affirming')
    expect(vm.submods.host).toEqual(host.submods.host)
    expect(vm.sigillo.host).toEqual({ id: 'a', token: onA.token })
    expect(host.sub).toBe('a')
    expect(vm.exp).toBeLessThanOrEqual(host.exp)
    expect(Date.parse(expiresAt)).toBe(vm.exp * 1000)
    expect(vm.sigillo.insecure_test).toBe(true)
    expect(vm.submods.vm.ear_trustworthiness_vector).not.toHaveProperty('executables')
    await expect(
      verify(token, { vmId: '00000000-0000-4000-8000-000000000000' }),
    ).rejects.toMatchObject({ code: 'TOKEN_VM' })
  })

  test('is shown to administrators, with an event when it came', async () => {
    const params = { vmId: guest.vmId }
    const view = await site.admin.call(getGuest, { params })
    expect(view).toMatchObject({
      hostId: 'a',
      cluster: CLUSTER,
      state: 'attested',
      host: { trusted: true, state: 'trusted' },
      verdict: { accepted: true },
    })
    expect(view.ekFingerprint).toBe(createHash('sha256').update(guest.ek.publicArea).digest('hex'))
    const { guests } = await site.admin.call(listGuests, { query: { hostId: 'a' } })
    expect(guests.map(({ vmId }) => vmId)).toEqual([guest.vmId])
    expect((await site.admin.call(listGuests, { query: { hostId: 'b' } })).guests).toEqual([])
    const { events } = await site.admin.call(listAttestationEvents, { query: { limit: 1000 } })
    expect(events.filter(({ type }) => type === 'guest.attested')).toMatchObject([
      { hostId: 'a', detail: { vmId: guest.vmId } },
    ])
  })

  test('may have another attestation key each time: it needs no memory', async () => {
    await using other = await bootGuest(lab, 'g2')
    const first = await other.certify(site.anybody, onA)
    await attestGuest(site.anybody, other, first, onA)
    const again = await attestGuest(site.anybody, other, first, onA)
    expect((await verify(again.token, { vmId: other.vmId })).vm.sigillo.vm.id).toBe(other.vmId)
  })

  test('leaves evidence that can be judged again anywhere', async () => {
    const bundle = await site.admin.call(getGuestBundle, { params: { vmId: guest.vmId } })
    const { pem } = await site.anybody.call(getVtpmAuthority, {})
    const jwks = await importJwks(await site.anybody.call(getJwks, {}))
    const trust = {
      vtpm: {
        anchors: parseCertificates(pem),
        intermediates: [],
        revocation: { lists: [], mode: 'present' as const },
      },
      host: { jwks },
    }
    expect(failures(await verifyGuestBundle(bundle, trust))).toEqual([])
    const { host: _, ...evidence } = bundle.evidence
    const alone = failures(await verifyGuestBundle({ ...bundle, evidence }, trust))
    expect(alone.map(({ code }) => code)).toContain('GUEST_HOST_MISSING')
    expect(
      failures(await verifyGuestBundle({ ...bundle, evidence }, { ...trust, host: 'not-asked' })),
    ).toEqual([])
  })
})

describe('refuses', () => {
  test('evidence that comes a second time', async () => {
    const evidence = await freshEvidence()
    await site.anybody.call(createGuestAttestation, { body: evidence })
    await expectRefused(evidence, 'NONCE_USED')
  })

  test('evidence without the word of a host', async () => {
    await expectRefused(await freshEvidence({}, 'none'), 'GUEST_HOST_MISSING')
  })

  test('a VM of another host: the statement of an attested host that does not have it', async () => {
    await expectRefused(await freshEvidence({}, onB), 'GUEST_HOST')
  })

  test('the statement of another host beside the token of this one', async () => {
    const evidence = await freshEvidence()
    const other = await spokenFor(evidence, onB, `${site.url}/attestation`)
    const host = { token: onA.token, placement: other.host?.placement ?? '' }
    await expectRefused({ ...evidence, host }, 'PLACEMENT_KEY')
  })

  test('the statement for another nonce, and that about another VM', async () => {
    const [one, two] = [await freshEvidence(), await freshEvidence()]
    await expectRefused({ ...one, ...(two.host ? { host: two.host } : {}) }, 'PLACEMENT_CLAIMS')
    await using other = await bootGuest(lab, 'g3')
    const theirs = await other.certify(site.anybody, onA)
    const challenge = await other.challenge(site.anybody, theirs)
    const evidence = await other.evidence(challenge, theirs)
    const { host } = await freshEvidence()
    await expectRefused({ ...evidence, ...(host ? { host } : {}) }, 'PLACEMENT_CLAIMS')
  })

  test('a nonce that was given to another VM', async () => {
    await using other = await bootGuest(lab, 'g4')
    const theirs = await other.certify(site.anybody, onA)
    const { nonce } = await other.challenge(site.anybody, theirs)
    const challenge = await guest.challenge(site.anybody, certificate)
    const evidence = await guest.evidence({ ...challenge, nonce }, certificate)
    const spoken = await spokenFor(evidence, onA, challenge.verifier)
    await expectRefused(spoken, 'NONCE_UNKNOWN', 'GUEST_CREDENTIAL')
  })

  test('a nonce that is too old', async () => {
    const evidence = await freshEvidence()
    site.clock.advance(61_000)
    try {
      await expectRefused(evidence, 'NONCE_EXPIRED', 'PLACEMENT_TIME')
    } finally {
      site.clock.advance(-61_000)
    }
  })

  test('a quote by a key that was not shown to be in the virtual TPM', async () => {
    const secret = toBase64url(randomOctets(32))
    await expectRefused(await freshEvidence({ secret }), 'GUEST_CREDENTIAL')
    // The right secret, and another key than the credential was made for
    const evidence = await freshEvidence()
    const akPublic = toBase64url(attestationKeyTemplate('rsa-2048'))
    const sent = site.anybody.call(createGuestAttestation, { body: { ...evidence, akPublic } })
    await expect(sent).rejects.toMatchObject({ code: 'ATTESTATION_REFUSED' })
    expect(await refusalOf(guest.vmId)).toEqual(
      expect.arrayContaining(['GUEST_CREDENTIAL', 'PLACEMENT_CLAIMS']),
    )
  })

  test('PCR values and a log that were not quoted', async () => {
    const evidence = await freshEvidence()
    const pcrs = evidence.pcrs.map((one) =>
      one.pcr === 9 ? { ...one, digest: '00'.repeat(32) } : one,
    )
    await expectRefused({ ...evidence, pcrs }, 'QUOTE_PCR_DIGEST')
    const eventLog = toBase64url(randomOctets(64))
    await expectRefused({ ...evidence, eventLog }, 'QUOTE_NONCE')
  })

  test('a virtual TPM that another authority certified, before it even gives a nonce', async () => {
    const ca = await createCa({
      commonName: 'Another',
      keyType: 'p256',
      validityDays: 1,
      now: Date.now(),
    })
    const forged = await issueEkCertificate(ca, {
      publicKey: guest.ekPublicSpki,
      subjectName: guest.vmId,
      tpm: { manufacturer: 'id:00001014', model: 'swtpm', version: 'id:20191023' },
      kind: 'ek',
      subjectAltUris: [`urn:uuid:${guest.vmId}`, 'urn:sigillo:host:a'],
      validityDays: 1,
      now: Date.now(),
    })
    await expect(guest.challenge(site.anybody, forged)).rejects.toMatchObject({
      code: 'ATTESTATION_REFUSED',
    })
    expect(await refusalOf(guest.vmId)).toEqual(['EK_CERT_UNKNOWN_CA'])
    const evidence = await freshEvidence()
    await expectRefused({ ...evidence, ekCertificate: toBase64url(forged) }, 'EK_CERT_UNKNOWN_CA')
  })

  test('a virtual TPM that was replaced by one of another VM', async () => {
    await using other = await bootGuest(lab, 'g5')
    const theirs = await other.certify(site.anybody, onA)
    const challenge = await other.challenge(site.anybody, theirs)
    const evidence = await other.evidence(challenge, theirs, { vmId: guest.vmId })
    const spoken = await spokenFor(evidence, onA, challenge.verifier)
    await expectRefused(spoken, 'NONCE_UNKNOWN', 'GUEST_VM')
  })

  test('keys that were revoked, until they are allowed again', async () => {
    const key = toHex(nameOf(parsePublicArea(guest.ak.publicArea)))
    await site.admin.call(addRevokedKey, { body: { key, reason: 'leaked' } })
    await expectRefused(await freshEvidence(), 'TPM_KEY_REVOKED')
    await site.admin.call(removeRevokedKey, { params: { key } })
    await attestGuest(site.anybody, guest, certificate, onA)
  })
})

describe('a virtual TPM whose certificate was taken back', () => {
  const revoke = (octets: Uint8Array, reason: 'superseded' | 'key-compromise') =>
    site.admin.call(revokeVtpmCertificate, {
      params: { fingerprint: createHash('sha256').update(octets).digest('hex') },
      body: { reason },
    })

  test('is refused at once, and attests with a new one unless its key is compromised', async () => {
    await using other = await bootGuest(lab, 'g7')
    const first = await other.certify(site.anybody, onA)
    await attestGuest(site.anybody, other, first, onA)
    const challenge = await other.challenge(site.anybody, first)
    const evidence = await other.evidence(challenge, first)
    const verifyVm = ['verify', 'vm', other.vmId, '--json', '--site', site.folder] as const
    expect(await run('main', ...verifyVm)).toMatchObject({ status: 0 })

    await revoke(first, 'superseded')
    await expectRefused(await spokenFor(evidence, onA, challenge.verifier), 'CERT_REVOKED')
    await expect(other.challenge(site.anybody, first)).rejects.toMatchObject({
      code: 'ATTESTATION_REFUSED',
    })
    expect(await refusalOf(other.vmId)).toEqual(['CERT_REVOKED'])
    const verified = await run('main', ...verifyVm)
    const { findings } = JSON.parse(verified.out) as { findings: readonly Finding[] }
    expect(failures(findings)).toMatchObject([{ check: 'now.certificate', code: 'CERT_REVOKED' }])
    expect(verified.status).toBe(3)

    const second = await other.certify(site.anybody, onA)
    await attestGuest(site.anybody, other, second, onA)
    await revoke(second, 'key-compromise')
    await expect(other.certify(site.anybody, onA)).rejects.toMatchObject({
      code: 'VTPM_KEY_COMPROMISED',
    })
  })
})

describe('an administrator', () => {
  const cli = (...args: readonly string[]) => run('main', ...args, '--site', site.folder)

  test('verifies a VM at the service, check by check', async () => {
    const { status, out } = await cli('verify', 'vm', guest.vmId, '--max-age', '300')
    expect(out).toContain('ok      host.certificate: a')
    expect(out).toContain('ok      now.host: a: trusted')
    expect(status).toBe(0)
    const tooOld = await cli('verify', 'vm', guest.vmId, '--max-age', '0', '--json')
    const { accepted, findings } = JSON.parse(tooOld.out)
    expect({ accepted, status: tooOld.status }).toEqual({ accepted: false, status: 3 })
    expect(findings.filter((one: { ok: boolean }) => !one.ok)).toMatchObject([
      { check: 'age', code: 'GUEST_TOO_OLD' },
    ])
  })

  test('verifies its evidence from files alone, by authorities of their own choice', async () => {
    const file = (name: string, text: string) => {
      const path = join(site.folder, name)
      writeFileSync(path, text)
      return path
    }
    const bundle = file('vm.json', (await cli('guest', 'bundle', guest.vmId)).out)
    const authority = file('vtpm.pem', (await cli('vtpm', 'authority')).out)
    const jwks = file('jwks.json', JSON.stringify(await site.anybody.call(getJwks, {})))
    const offline = (...args: readonly string[]) => run('main', 'verify', 'vm', ...args)
    const good = ['--bundle', bundle, '--authority', authority]
    expect(await offline(...good, '--jwks', jwks)).toMatchObject({ status: 0 })
    const list = file('vtpm.crl', (await cli('vtpm', 'crl')).out)
    expect(await offline(...good, '--no-host', '--crl', list)).toMatchObject({ status: 0 })
    const unasked = await offline(...good, '--no-host')
    expect(unasked.out).toContain('now.certificate: not checked: no revocation list')
    const other = await offline('--bundle', bundle, '--authority', site.caFile, '--no-host')
    expect(other.out).toContain('EK_CERT_UNKNOWN_CA')
    expect(other.status).toBe(3)
    expect(await offline('--bundle', bundle)).toMatchObject({ status: 2 })
  })

  test('drafts what guests must prove from a VM that is as it should be', async () => {
    const { out } = await cli('guest', 'policy', 'draft', guest.vmId, '--name', 'debian')
    expect(JSON.parse(out)).toMatchObject({
      pinnedPcrs: [4, 7, 9],
      baseImages: [{ name: 'debian' }],
    })
    expect((await cli('guest', 'policy', 'show', CLUSTER)).out).toContain('identity only')
    expect((await cli('guest', 'list')).out).toContain(guest.vmId)
  })
})

describe('a VM and a host are never one another', () => {
  test('a TPM of a host does not pass as a virtual TPM', async () => {
    await using host = await bootGuest(lab, 'g6')
    const [labIssuer] = parseCertificates(lab.anchorsPem)
    expect(labIssuer?.isCa).toBe(true)
    const ofLab = await hostA.identity.withEndorsementKey(async (_, der) => der)
    await expect(host.challenge(site.anybody, ofLab ?? new Uint8Array())).rejects.toMatchObject({
      code: 'ATTESTATION_REFUSED',
    })
    expect(await refusalOf(host.vmId)).toEqual(
      expect.arrayContaining(['EK_CERT_UNKNOWN_CA', 'VTPM_CERT_NAMES', 'GUEST_VM']),
    )
  })

  test('a virtual TPM does not enrol as a host, whoever trusts its authority', async () => {
    const body = async () => ({
      hostId: 'c',
      ticket: await ticketFor(site),
      ekPublic: toBase64url(guest.ek.publicArea),
      ekCertificate: toBase64url(certificate),
      akPublic: toBase64url(guest.ak.publicArea),
    })
    await expect(site.anybody.call(createEnrolment, { body: await body() })).rejects.toMatchObject({
      code: 'EK_CERT_UNKNOWN_CA',
    })
    const { ekCertificate: _, ...bare } = await body()
    await expect(site.anybody.call(createEnrolment, { body: bare })).rejects.toMatchObject({
      code: 'EK_CERT_VTPM',
    })
  })

  test('no authority endorses both', async () => {
    const { pem } = await site.anybody.call(getVtpmAuthority, {})
    await expect(site.admin.call(addAnchors, { body: { pem } })).rejects.toMatchObject({
      code: 'CONFLICT',
    })
    const ofLab = { pem: lab.anchorsPem, insecureTest: true, forVms: true }
    await expect(site.admin.call(addAnchors, { body: ofLab })).rejects.toMatchObject({
      code: 'CONFLICT',
    })
    const { anchors } = await site.admin.call(listAnchors, { query: {} })
    expect(anchors.filter(({ role }) => role === 'vtpm')).toHaveLength(1)
  })
})

describe('what guests must prove', () => {
  const image = async () => {
    const { evidence } = await site.admin.call(getGuestBundle, { params: { vmId: guest.vmId } })
    const pcrs = evidence.pcrs.map(({ pcr, digest }) => ({ pcr, digests: [digest] }))
    return { name: 'debian', pcrs }
  }

  test('is nothing but who they are until a policy says more', async () => {
    const { policy, revision } = await site.admin.call(getGuestPolicy, {
      params: { cluster: CLUSTER },
    })
    expect({ policy, revision }).toEqual({ policy: DEFAULT_GUEST_POLICY, revision: 0 })
  })

  test('may be a base image by name: the token has it', async () => {
    await attestGuest(site.anybody, guest, certificate, onA)
    const { revision } = await setPolicy(
      policyWith({
        pinnedPcrs: [4, 7, 9],
        baseImages: [await image()],
        requireEventLog: true,
        requireSecureBoot: true,
      }),
    )
    const { token } = await attestGuest(site.anybody, guest, certificate, onA)
    const { vm } = await verify(token)
    expect(vm.sigillo.base_image).toBe('debian')
    expect(vm.sigillo.policy.revision).toBe(revision)
    expect(vm.submods.vm.ear_trustworthiness_vector).toEqual({
      'instance-identity': 2,
      configuration: 2,
      executables: 3,
    })
  })

  test('refuses a guest with another initial RAM disk, and tells which PCR', async () => {
    const { name, pcrs } = await image()
    const other = pcrs.map((one) => (one.pcr === 9 ? { pcr: 9, digests: ['ab'.repeat(32)] } : one))
    await setPolicy(policyWith({ pinnedPcrs: [4, 7, 9], baseImages: [{ name, pcrs: other }] }))
    await expectRefused(await freshEvidence(), 'BASE_IMAGE_PCR')
    const { state, verdict } = await site.admin.call(getGuest, { params: { vmId: guest.vmId } })
    expect(state).toBe('refused')
    expect(verdict.findings.filter(({ ok }) => !ok)).toMatchObject([
      { check: 'base-image', pcr: 9 },
    ])
    const { events } = await site.admin.call(listAttestationEvents, { query: { limit: 1000 } })
    expect(events.at(-1)).toMatchObject({ type: 'guest.refused', detail: { vmId: guest.vmId } })
    await setPolicy(DEFAULT_GUEST_POLICY)
    await attestGuest(site.anybody, guest, certificate, onA)
  })

  test('cannot contradict itself', async () => {
    const wrong = [
      policyWith({ pcrs: [0], pinnedPcrs: [9] }),
      policyWith({ pinnedPcrs: [9], baseImages: [{ name: 'x', pcrs: [] }] }),
      policyWith({ baseImages: [{ name: 'x', pcrs: [{ pcr: 9, digests: ['ab'.repeat(20)] }] }] }),
    ]
    for (const policy of wrong)
      await expect(setPolicy(policy)).rejects.toMatchObject({ code: 'POLICY_INVALID' })
  })
})

describe('a VM that moves', () => {
  test('speaks through its new host with a new certificate, and its old host speaks for it no more', async () => {
    await using moving = await bootGuest(lab, 'g9')
    const first = await moving.certify(site.anybody, onA)
    await attestGuest(site.anybody, moving, first, onA)
    const { vmId } = moving
    await report(onA, vmId)
    await move(onA, onB, vmId)
    // The virtual TPM goes along; certificates have seconds, and the next one has to be newer
    site.clock.advance(2_000)
    const second = await moving.certify(site.anybody, onB)
    const { token } = await attestGuest(site.anybody, moving, second, onB)
    expect((await verify(token, { vmId: moving.vmId })).vm.sigillo.host.id).toBe('b')
    await expect(attestGuest(site.anybody, moving, first, onA)).rejects.toMatchObject({
      code: 'ATTESTATION_REFUSED',
    })
    expect(await refusalOf(moving.vmId)).toEqual(['GUEST_MOVED'])
    const { events } = await site.admin.call(listAttestationEvents, { query: { limit: 1000 } })
    expect(events.filter(({ type }) => type === 'guest.moved')).toMatchObject([
      { hostId: 'b', detail: { vmId: moving.vmId, from: 'a' } },
    ])
  })
})

test('guests are listed in pages', async () => {
  const list = (query: Record<string, unknown>) => site.admin.call(listGuests, { query })
  const { guests } = await list({})
  expect(guests.length).toBeGreaterThan(1)
  const first = await list({ limit: 1 })
  expect(first.next).toBeDefined()
  const rest = await list({ after: first.next })
  expect([...first.guests, ...rest.guests]).toEqual(guests)
})

describe('a host cannot have certified', () => {
  test('the virtual TPM of a VM of another host, reported or not', async () => {
    await expect(guest.certify(site.anybody, onB)).rejects.toMatchObject({ code: 'FORBIDDEN' })
    await using made = await bootGuest(lab, 'g8')
    await made.certify(site.anybody, onA)
    await expect(made.certify(site.anybody, onB)).rejects.toMatchObject({ code: 'FORBIDDEN' })
  })

  test('a key of another VM for a VM of its own', async () => {
    const vmId = randomUUID()
    await report(onB, vmId)
    await expect(guest.certify(site.anybody, onB, vmId)).rejects.toMatchObject({
      code: 'FORBIDDEN',
    })
  })
})

describe('revocation', () => {
  test('of a VM ends it until it is forgotten', async () => {
    const params = { vmId: guest.vmId }
    await site.admin.call(revokeGuest, { params, body: { reason: 'stolen' } })
    await expectRefused(await freshEvidence(), 'GUEST_REVOKED')
    await expect(
      site.admin.call(revokeGuest, { params, body: { reason: 'x' } }),
    ).rejects.toMatchObject({ code: 'CONFLICT' })
    await site.admin.call(removeGuest, { params })
    await expect(site.admin.call(getGuest, { params })).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await attestGuest(site.anybody, guest, certificate, onA)
  })

  test('of the host, meanwhile, ends what its VMs prove', async () => {
    const evidence = await freshEvidence()
    await site.admin.call(revokeHost, { params: { hostId: 'a' }, body: { reason: 'stolen' } })
    await expectRefused(evidence, 'HOST_STATUS')
    const { host } = await site.admin.call(getGuest, { params: { vmId: guest.vmId } })
    expect(host).toEqual({ trusted: false, state: 'revoked' })
  })
})
