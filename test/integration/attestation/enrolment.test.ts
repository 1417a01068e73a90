import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  activateEnrolment,
  createEnrolment,
  type EnrolmentRequest,
  listAttestationAudit,
} from '../../../src/api/attestation.js'
import { addAnchors } from '../../../src/api/endorsement.js'
import {
  approveHost,
  createTicket,
  getHost,
  listHosts,
  listTickets,
  removeHost,
  revokeHost,
  revokeTicket,
} from '../../../src/api/hosts.js'
import { fromBase64url, toBase64url } from '../../../src/core/bytes.js'
import { type Authority, issueEkCertificate, openAuthority } from '../../../src/pki/index.js'
import { parsePublicArea, publicKeyOf } from '../../../src/tpm/index.js'
import { createLab, type Lab } from '../../../swtpm/index.js'
import { bootHost, CLUSTER, type TestHost, ticketFor, trustHost } from '../../helpers/host.js'
import { lying, openTestSite, type TestSite } from '../../helpers/site.js'

const DAY_MS = 86_400_000

let site: TestSite
let lab: Lab
let issuer: Authority
let host: TestHost
let other: TestHost
let hosts = 0

beforeAll(async () => {
  lab = await createLab()
  site = await openTestSite()
  await site.admin.call(addAnchors, { body: { pem: lab.anchorsPem, insecureTest: true } })
  const ca = (name: string) => readFileSync(join(lab.directory, 'ca', name), 'utf8')
  issuer = await openAuthority({
    certificatePem: ca('issuer.pem'),
    privateKeyPem: ca('issuer.key'),
  })
  host = await bootHost(lab, 'host')
  other = await bootHost(lab, 'other')
})
afterAll(async () => {
  await host[Symbol.asyncDispose]()
  await other[Symbol.asyncDispose]()
  await site[Symbol.asyncDispose]()
  await lab[Symbol.asyncDispose]()
})

function newName(): string {
  hosts += 1
  return `h-${hosts}`
}

/** What `host` would enrol with under a fresh name. */
async function honest(as: TestHost = host): Promise<EnrolmentRequest> {
  return as.identity.withEndorsementKey(async (ek, certificate) => ({
    hostId: newName(),
    ticket: await ticketFor(site),
    ekPublic: toBase64url(ek.publicArea),
    ...(certificate ? { ekCertificate: toBase64url(certificate) } : {}),
    akPublic: toBase64url(as.identity.ak.publicArea),
  }))
}

async function open(
  as: TestHost,
  challenge: { readonly credentialBlob: string; readonly encryptedSecret: string },
): Promise<string> {
  return as.identity.withEndorsementKey(async (ek) =>
    toBase64url(
      await as.identity.tpm.activateCredential(
        ek,
        as.identity.ak,
        fromBase64url(challenge.credentialBlob),
        fromBase64url(challenge.encryptedSecret),
      ),
    ),
  )
}

const begin = (body: EnrolmentRequest) => site.anybody.call(createEnrolment, { body })
const activate = (enrolmentId: string, secret: string) =>
  site.anybody.call(activateEnrolment, { params: { enrolmentId }, body: { secret } })

async function forget(hostId: string): Promise<void> {
  await site.admin.call(revokeHost, { params: { hostId }, body: { reason: 'end of a test' } })
  await site.admin.call(removeHost, { params: { hostId } })
}

/** The request is refused with `code`, and the audit names every check in `reasons`. */
async function expectRefused(change: Partial<EnrolmentRequest>, code: string): Promise<void> {
  const request = { ...(await honest()), ...change }
  await expect(begin(request)).rejects.toMatchObject({ code })
  const record = (await site.auditOf(request.hostId)).at(-1)
  expect(record).toMatchObject({ action: 'enrolment.refuse', outcome: 'refused' })
  expect(record?.detail).toMatchObject({ code })
  const { hosts: known } = await site.admin.call(listHosts, { query: {} })
  expect(known.map(({ hostId }) => hostId)).not.toContain(request.hostId)
}

describe('a host with a certified TPM', () => {
  test.each(['auto', 'rsa2048'] as const)(
    'is enrolled when its TPM opens the credential (%s)',
    async (endorsementKey) => {
      const name = endorsementKey === 'auto' ? 'ecc' : 'rsa'
      await using enrolled = await bootHost(lab, name, { endorsementKey })
      await expect(enrolled.enrol(site.anybody, await ticketFor(site))).resolves.toEqual({
        hostId: name,
        cluster: CLUSTER,
        state: 'enrolled',
      })
      const view = await site.admin.call(getHost, { params: { hostId: name } })
      expect(view).toMatchObject({ state: 'enrolled', endorsement: 'ca', insecureTest: true })
      expect(view.akName).toBe(Buffer.from(enrolled.identity.ak.name).toString('hex'))
      const actions = (await site.auditOf(name)).map(({ action }) => action)
      expect(actions).toEqual(['enrolment.begin', 'enrolment.activate'])
    },
  )

  test('cannot be enrolled by a secret that was guessed, and has one try only', async () => {
    const request = await honest()
    const challenge = await begin(request)
    const secret = await open(host, challenge)
    const wrong = { code: 'ENROLMENT_SECRET' }
    await expect(
      activate(challenge.enrolmentId, toBase64url(new Uint8Array(32))),
    ).rejects.toMatchObject(wrong)
    await expect(activate(challenge.enrolmentId, secret)).rejects.toMatchObject(wrong)
    const records = await site.auditOf(request.hostId)
    expect(records.map(({ outcome }) => outcome)).toEqual(['allowed', 'refused'])
  })

  test('cannot activate an enrolment twice, nor one that nobody began', async () => {
    const request = await honest()
    const challenge = await begin(request)
    const secret = await open(host, challenge)
    await activate(challenge.enrolmentId, secret)
    const wrong = { code: 'ENROLMENT_SECRET' }
    await expect(activate(challenge.enrolmentId, secret)).rejects.toMatchObject(wrong)
    await expect(activate('11111111-2222-4333-8444-555555555555', secret)).rejects.toMatchObject(
      wrong,
    )
    await forget(request.hostId)
  })

  test('has to activate in time', async () => {
    const request = await honest()
    const challenge = await begin(request)
    const secret = await open(host, challenge)
    site.clock.advance(301_000)
    await expect(activate(challenge.enrolmentId, secret)).rejects.toMatchObject({
      code: 'ENROLMENT_SECRET',
    })
  })

  test('is not enrolled under two names, and its name is not given to another', async () => {
    const request = await honest()
    await activate(...(await opened(request)))
    await expectRefused({}, 'EK_TAKEN')
    const stranger = { ...(await honest(other)), hostId: request.hostId }
    await expect(begin(stranger)).rejects.toMatchObject({ code: 'HOST_ID_TAKEN' })
    await forget(request.hostId)
  })

  test('is enrolled once in a race of 50', async () => {
    const hostId = newName()
    const ticket = await ticketFor(site, { uses: 50 })
    const request = { ...(await honest()), hostId, ticket }
    const challenges = await Promise.all(Array.from({ length: 50 }, () => begin(request)))
    const secrets: string[] = []
    for (const challenge of challenges) secrets.push(await open(host, challenge))
    const answers = await Promise.allSettled(
      challenges.map(({ enrolmentId }, index) => activate(enrolmentId, secrets[index] ?? '')),
    )
    const refused = answers.flatMap((answer) =>
      answer.status === 'rejected' ? [answer.reason.code] : [],
    )
    expect(refused).toEqual(Array.from({ length: 49 }, () => 'HOST_ID_TAKEN'))
    const { tickets } = await site.admin.call(listTickets, { query: {} })
    expect(tickets.map(({ usesLeft }) => usesLeft)).toContain(49)
    await forget(hostId)
  })

  const opened = async (request: EnrolmentRequest): Promise<[string, string]> => {
    const challenge = await begin(request)
    return [challenge.enrolmentId, await open(host, challenge)]
  }
})

describe('refused at once, with the reason in the audit and no host made:', () => {
  test('an attestation key that is in another TPM', async () => {
    const strange = toBase64url(other.identity.ak.publicArea)
    const client = lying(site.anybody, createEnrolment, (body: EnrolmentRequest) => ({
      ...body,
      hostId: newName(),
      akPublic: strange,
    }))
    const before = await site.admin.call(listHosts, { query: {} })
    await expect(host.enrol(client, await ticketFor(site))).rejects.toMatchObject({
      code: expect.stringMatching(/^TPM_/),
    })
    expect(await site.admin.call(listHosts, { query: {} })).toEqual(before)
  })

  test.each([
    ['without `restricted`', 0x0001_0000, 'AK_RESTRICTED'],
    ['that left a TPM', 0x0000_0002, 'AK_ATTRIBUTES'],
    ['that can decrypt', 0x0002_0000, 'AK_ATTRIBUTES'],
  ] as const)('an attestation key %s', async (_, bit, reason) => {
    const area = Uint8Array.from(host.identity.ak.publicArea)
    const view = new DataView(area.buffer)
    view.setUint32(4, view.getUint32(4) ^ bit)
    await expectRefused({ akPublic: toBase64url(area) }, reason)
  })

  test('octets after the attestation key', async () => {
    const area = toBase64url(Uint8Array.of(...host.identity.ak.publicArea, 0))
    await expect(begin({ ...(await honest()), akPublic: area })).rejects.toMatchObject({
      code: 'DECODE_TRAILING',
    })
  })

  test('a certificate of an authority that is not trusted', async () => {
    await using elsewhere = await createLab()
    await using stranger = await bootHost(elsewhere, 's')
    const request = await honest(stranger)
    await expect(begin(request)).rejects.toMatchObject({ code: 'EK_CERT_UNKNOWN_CA' })
    expect(JSON.stringify((await site.auditOf(request.hostId)).at(-1)?.detail)).toContain(
      '(EK_CERT_UNKNOWN_CA)',
    )
  })

  test('the certificate of another endorsement key', async () => {
    const { ekCertificate } = await honest(other)
    await expectRefused(
      ekCertificate === undefined ? {} : { ekCertificate },
      'EK_CERT_KEY_MISMATCH',
    )
  })

  test.each([
    ['expired', { now: Date.now() - 400 * DAY_MS }, 'EK_CERT_EXPIRED'],
    ['not valid yet', { now: Date.now() + 400 * DAY_MS }, 'EK_CERT_NOT_YET_VALID'],
    ['for a platform', { kind: 'platform' }, 'EK_CERT_EKU'],
  ] as const)('a certificate that is %s', async (_, change, reason) => {
    const { ekPublic } = await honest()
    const key = publicKeyOf(parsePublicArea(fromBase64url(ekPublic)))
    const certificate = await issueEkCertificate(issuer, {
      publicKey: new Uint8Array(key.export({ type: 'spki', format: 'der' })),
      subjectName: 'test',
      tpm: { manufacturer: 'id:00001014', model: 'swtpm', version: 'id:20191023' },
      kind: 'ek',
      subjectAltUris: [],
      validityDays: 30,
      now: Date.now(),
      ...change,
    })
    await expectRefused({ ekCertificate: toBase64url(certificate) }, reason)
  })

  test('octets that are no certificate', async () => {
    await expect(begin({ ...(await honest()), ekCertificate: 'AAAA' })).rejects.toMatchObject({
      code: 'CERT_UNREADABLE',
    })
  })

  test('a ticket that is unknown, expired, used up, revoked or for another host', async () => {
    await expectRefused({ ticket: `sgl_en_${'A'.repeat(43)}` }, 'TICKET_INVALID')
    await expectRefused({ ticket: '' }, 'TICKET_INVALID')
    await expectRefused(
      { ticket: await ticketFor(site, { hostId: 'somebody-else' }) },
      'TICKET_INVALID',
    )
    const { ticket, details } = await site.admin.call(createTicket, { body: { cluster: CLUSTER } })
    await site.admin.call(revokeTicket, { params: { ticketId: details.ticketId } })
    await expectRefused({ ticket }, 'TICKET_INVALID')
    const short = await ticketFor(site, { ttlSeconds: 60 })
    site.clock.advance(61_000)
    await expectRefused({ ticket: short }, 'TICKET_INVALID')
    const once = { ...(await honest()), hostId: newName() }
    const challenge = await begin(once)
    await activate(challenge.enrolmentId, await open(host, challenge))
    await forget(once.hostId)
    await expectRefused({ ticket: once.ticket }, 'TICKET_INVALID')
  })
})

describe('a TPM without a certificate', () => {
  test('waits for an administrator who names its endorsement key', async () => {
    await using bare = await bootHost(lab, 'bare', { ekCertificates: false })
    const { state } = await bare.enrol(site.anybody, await ticketFor(site))
    expect(state).toBe('awaiting-approval')
    await expect(bare.attest(site.anybody)).rejects.toMatchObject({ code: 'ATTESTATION_REFUSED' })
    expect(JSON.stringify((await site.auditOf('bare')).at(-1)?.detail)).toContain(
      '(HOST_NOT_APPROVED)',
    )

    const params = { hostId: 'bare' }
    const approve = (ekFingerprint: string) =>
      site.admin.call(approveHost, { params, body: { ekFingerprint } })
    await expect(approve('00'.repeat(32))).rejects.toMatchObject({ code: 'CONFLICT' })
    const { ekFingerprint } = await site.admin.call(getHost, { params })
    await expect(approve(ekFingerprint)).resolves.toMatchObject({
      state: 'enrolled',
      endorsement: 'approved',
    })
    await expect(approve(ekFingerprint)).rejects.toMatchObject({ code: 'CONFLICT' })
    await bare.attest(site.anybody).catch(() => undefined)
    const view = await site.admin.call(getHost, { params })
    expect(view.lastVerdict?.findings.find(({ check }) => check === 'quote.signature')?.ok).toBe(
      true,
    )
  })
})

describe('a site in production', () => {
  test('takes no anchors of a laboratory', async () => {
    await using production = await openTestSite({ mode: 'production', services: ['attestation'] })
    const add = (insecureTest: boolean) =>
      production.admin.call(addAnchors, { body: { pem: lab.anchorsPem, insecureTest } })
    await expect(add(true)).rejects.toMatchObject({ code: 'ANCHOR_INSECURE' })
    const { records } = await production.admin.call(listAttestationAudit, { query: {} })
    expect(records.at(-1)).toMatchObject({
      ...{ actor: 'operator:admin', action: 'anchor.add', outcome: 'refused' },
      detail: { code: 'ANCHOR_INSECURE' },
    })
    await expect(add(false)).resolves.toMatchObject({ anchors: [{ insecureTest: false }, {}] })
  })

  test('trusts no host of a laboratory that it was before', async () => {
    await using changing = await openTestSite({ services: ['attestation'] })
    await changing.admin.call(addAnchors, { body: { pem: lab.anchorsPem, insecureTest: true } })
    await using former = await bootHost(lab, 'former')
    await trustHost(changing, former, 'good')
    await changing.stop()
    await changing.start({ mode: 'production' })
    await expect(former.attest(changing.anybody)).rejects.toMatchObject({
      code: 'ATTESTATION_REFUSED',
    })
    const detail = JSON.stringify((await changing.auditOf('former')).at(-1)?.detail)
    expect(detail).toContain('ANCHOR_INSECURE')
  })

  test('keeps a bounded number of enrolments waiting', async () => {
    await using small = await openTestSite({
      services: ['attestation'],
      settings: { SIGILLO_ATTESTATION_MAX_PENDING_ENROLMENTS: '2' },
    })
    await small.admin.call(addAnchors, { body: { pem: lab.anchorsPem, insecureTest: true } })
    const ticket = await ticketFor(small, { uses: 10 })
    const request = async () =>
      small.anybody.call(createEnrolment, { body: { ...(await honest()), ticket } })
    await request()
    await request()
    await expect(request()).rejects.toMatchObject({ code: 'ENROLMENTS_PENDING' })
    small.clock.advance(301_000)
    await expect(request()).resolves.toBeDefined()
  })
})
