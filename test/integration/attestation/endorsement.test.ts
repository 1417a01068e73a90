import { execFileSync } from 'node:child_process'
import { createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  activateEnrolment,
  createEnrolment,
  type EnrolmentRequest,
} from '../../../src/api/attestation.js'
import { listAttestationEvents } from '../../../src/api/attestation-events.js'
import type { Client } from '../../../src/api/client.js'
import {
  addAnchors,
  addEndorsementKey,
  addRevocationList,
  addRevokedKey,
  listAnchors,
  listEndorsementKeys,
  listRevocationLists,
  listRevokedKeys,
  removeAnchor,
  removeEndorsementKey,
  removeRevocationList,
  removeRevokedKey,
} from '../../../src/api/endorsement.js'
import { getHost, removeHost, revokeHost } from '../../../src/api/hosts.js'
import { fromBase64url, toBase64url, toHex } from '../../../src/core/bytes.js'
import { enrol } from '../../../src/host-agent/adapters/attester.js'
import { parseDer } from '../../../src/pki/der.js'
import { parseCertificate } from '../../../src/pki/index.js'
import { EK_TEMPLATES, nameOf, parsePublicArea, publicKeyOf } from '../../../src/tpm/index.js'
import { createLab, type Lab } from '../../../swtpm/index.js'
import {
  authority,
  basicConstraints,
  certificate,
  commonName,
  hardwareName,
  keyUsage,
  pemOf,
  policies,
  purposes,
  revocationList,
  type TestSigner,
  tpmName,
} from '../../helpers/certificates.js'
import { bootHost, type TestHost, ticketFor, trustHost } from '../../helpers/host.js'
import { openTestSite, type TestSite } from '../../helpers/site.js'

const IAK_HANDLE = 0x8108_0000
const root = authority('Maker root')
const issuer = authority('Maker issuer', { issuer: root, pathLength: 0, serial: 'abcd' })
const machines = authority('Maker of machines')
const pem = (octets: Uint8Array) => pemOf('CERTIFICATE', octets)
const pemList = (octets: Uint8Array) => pemOf('X509 CRL', octets)

let site: TestSite
let lab: Lab
let host: TestHost
let serials = 100

beforeAll(async () => {
  lab = await createLab()
  site = await openTestSite()
  host = await bootHost(lab, 'host')
})
afterAll(async () => {
  await host[Symbol.asyncDispose]()
  await site[Symbol.asyncDispose]()
  await lab[Symbol.asyncDispose]()
})

const add = (text: string, options: object = {}) =>
  site.admin.call(addAnchors, { body: { pem: text, ...options } })
const addList = (octets: Uint8Array) =>
  site.admin.call(addRevocationList, { body: { list: pemList(octets) } })

/** The endorsement key of the host, certified by the maker of this test. */
async function certified(
  from: TestHost = host,
  by = issuer,
): Promise<{ readonly ekPublic: string; readonly ekCertificate: string; readonly serial: number }> {
  serials += 1
  const ek = await from.identity.tpm.createPrimary('endorsement', EK_TEMPLATES.eccP384.publicArea)
  await from.identity.tpm.flush(ek)
  const octets = certificate({
    issuer: by,
    subject: commonName('TPM'),
    publicKey: publicKeyOf(parsePublicArea(ek.publicArea)),
    serial: serials,
    extensions: [keyUsage(4), purposes('2.23.133.8.1'), basicConstraints(false), tpmName()],
  })
  return {
    ekPublic: toBase64url(ek.publicArea),
    ekCertificate: toBase64url(octets),
    serial: serials,
  }
}

async function begin(change: Partial<EnrolmentRequest>, at: TestSite = site) {
  return at.anybody.call(createEnrolment, {
    body: {
      hostId: `h-${serials}`,
      ticket: await ticketFor(at),
      ekPublic: '',
      akPublic: toBase64url(host.identity.ak.publicArea),
      ...change,
    },
  })
}

/** The laboratory's own issuer of certificates, as something that signs. */
function labIssuer(): TestSigner {
  const file = (name: string) => readFileSync(join(lab.directory, 'ca', name), 'utf8')
  const privateKey = createPrivateKey(file('issuer.key'))
  const { raw } = new X509Certificate(file('issuer.pem'))
  const subject = parseDer(new Uint8Array(raw)).children[0]?.children[5]
  if (!subject) throw new Error('no subject')
  return { subject: subject.whole, keys: { privateKey, publicKey: createPublicKey(privateKey) } }
}

describe('authorities', () => {
  test('are trusted where they are roots, and help where they are between', async () => {
    const { anchors } = await add(`${pem(root.der)}${pem(issuer.der)}`)
    expect(anchors.map(({ subject, role }) => [subject, role])).toEqual([
      ['CN=Maker root', 'anchor'],
      ['CN=Maker issuer', 'intermediate'],
    ])
    const { serial, ...claims } = await certified()
    await expect(begin(claims)).resolves.toMatchObject({ enrolmentId: expect.any(String) })
    const fingerprint = anchors[0]?.fingerprint ?? ''
    await site.admin.call(removeAnchor, { params: { fingerprint } })
    await expect(begin(claims)).rejects.toMatchObject({ code: 'EK_CERT_UNKNOWN_CA' })
    await add(pem(issuer.der), { trustIntermediates: true })
    await expect(begin(claims)).resolves.toBeDefined()
    await add(`${pem(root.der)}${pem(issuer.der)}`)
    const listed = await site.admin.call(listAnchors, {})
    expect(listed.anchors.map(({ role }) => role).sort()).toEqual(['anchor', 'intermediate'])
  })

  test.each([
    [
      'of no authority',
      () =>
        pem(
          certificate({ issuer: root, subject: commonName('x'), publicKey: root.keys.publicKey }),
        ),
      'CERT_NOT_CA',
    ],
    [
      'with a key',
      () => pem(root.der) + pemOf('EC PRIVATE KEY', new Uint8Array(9)),
      'CERT_PRIVATE_KEY',
    ],
    ['of nothing', () => '', 'CERT_PEM'],
    ['of half a certificate', () => pem(root.der.subarray(0, 100)), 'CERT_UNREADABLE'],
  ])('a file %s is refused whole', async (_, text, code) => {
    const before = await site.admin.call(listAnchors, {})
    await expect(add(text())).rejects.toMatchObject({ code })
    expect(await site.admin.call(listAnchors, {})).toEqual(before)
  })
})

describe('revocation lists', () => {
  test('refuse enrolment, and are gone when they are removed', async () => {
    const { serial, ...claims } = await certified()
    const { list } = await addList(revocationList(issuer, { serials: [serial] }))
    expect(list).toMatchObject({ issuer: 'CN=Maker issuer', certificates: 1 })
    await expect(begin(claims)).rejects.toMatchObject({ code: 'CERT_REVOKED' })
    const params = { fingerprint: list.issuerFingerprint }
    await site.admin.call(removeRevocationList, { params })
    await expect(begin(claims)).resolves.toBeDefined()
    expect(await site.admin.call(listRevocationLists, {})).toEqual({ lists: [] })
    await expect(site.admin.call(removeRevocationList, { params })).rejects.toMatchObject({
      code: 'NOT_FOUND',
    })
  })

  test('end the trust in hosts that are enrolled, at once', async () => {
    const { insecureTest } = (await add(lab.anchorsPem, { insecureTest: true })).anchors[0] ?? {}
    expect(insecureTest).toBe(true)
    await using trusted = await bootHost(lab, 'trusted')
    await trustHost(site, trusted, 'good')
    const state = async () =>
      (await site.admin.call(getHost, { params: { hostId: 'trusted' } })).state
    expect(await state()).toBe('trusted')
    const serial = await trusted.identity.withEndorsementKey(
      async (_, octets) => parseCertificate(octets ?? new Uint8Array()).serial,
    )
    const { revokedHosts } = await addList(revocationList(labIssuer(), { serials: [serial] }))
    expect(revokedHosts).toEqual(['trusted'])
    expect(await state()).toBe('revoked')
    await expect(trusted.attest(site.anybody)).rejects.toMatchObject({
      code: 'ATTESTATION_REFUSED',
    })
    const { events } = await site.admin.call(listAttestationEvents, { query: { limit: 100 } })
    expect(events.filter(({ type }) => type === 'host.revoked')).toMatchObject([
      { hostId: 'trusted', detail: { reason: expect.stringContaining('revoked') } },
    ])
  })

  test.each([
    [
      'of an authority that is not known',
      () => revocationList(authority('Stranger')),
      'CRL_ISSUER',
    ],
    ['that another key signed', () => revocationList(authority('Maker issuer')), 'CHAIN_SIGNATURE'],
    ['that cannot be read', () => root.der, 'CRL_UNREADABLE'],
  ])('%s are refused', async (_, make, code) => {
    await expect(addList(make())).rejects.toMatchObject({ code })
  })

  test('older than the one that is there are refused', async () => {
    await addList(revocationList(issuer))
    const old = revocationList(issuer, { thisUpdateMs: Date.now() - 20 * 86_400_000 })
    await expect(addList(old)).rejects.toMatchObject({ code: 'CRL_STALE' })
  })

  test('have to be there and current where the site says so', async () => {
    await using strict = await openTestSite({
      settings: { SIGILLO_ATTESTATION_REVOCATION: 'required' },
    })
    const call = (list: Uint8Array) =>
      strict.admin.call(addRevocationList, { body: { list: pemList(list) } })
    await strict.admin.call(addAnchors, { body: { pem: pem(root.der) + pem(issuer.der) } })
    const { serial, ...claims } = await certified()
    await expect(begin(claims, strict)).rejects.toMatchObject({ code: 'CRL_MISSING' })
    await call(revocationList(root))
    await call(revocationList(issuer))
    await expect(begin(claims, strict)).resolves.toBeDefined()
    strict.clock.advance(40 * 86_400_000)
    await expect(begin(claims, strict)).rejects.toMatchObject({ code: 'CRL_STALE' })
  })
})

describe('a revoked key', () => {
  const revoke = (key: string) =>
    site.admin.call(addRevokedKey, { body: { key, reason: 'the TPM was replaced' } })

  test.each(['akName', 'ekFingerprint'] as const)(
    'ends the trust in its host at once, and never enrols again (%s)',
    async (kind) => {
      await using lost = await bootHost(lab, `lost-${kind.toLowerCase()}`, {
        ekCertificates: false,
      })
      const { hostId } = lost
      await lost.enrol(site.anybody, await ticketFor(site))
      const view = () => site.admin.call(getHost, { params: { hostId } })
      const { [kind]: key } = await view()
      expect((await revoke(key)).revokedHosts).toEqual([hostId])
      expect((await view()).state).toBe('revoked')
      await expect(lost.attest(site.anybody)).rejects.toMatchObject({ code: 'ATTESTATION_REFUSED' })
      await site.admin.call(removeHost, { params: { hostId } })
      const again = async () => lost.enrol(site.anybody, await ticketFor(site))
      await expect(again()).rejects.toMatchObject({ code: 'TPM_KEY_REVOKED' })
      expect((await site.auditOf(hostId)).at(-1)).toMatchObject({
        action: 'enrolment.refuse',
        detail: { code: 'TPM_KEY_REVOKED' },
      })
      const { keys } = await site.admin.call(listRevokedKeys, { query: {} })
      expect(keys).toMatchObject([{ key, reason: 'the TPM was replaced' }])
      await site.admin.call(removeRevokedKey, { params: { key } })
      await expect(again()).resolves.toMatchObject({ state: 'awaiting-approval' })
    },
  )

  test('refuses an enrolment that began before', async () => {
    await using late = await bootHost(lab, 'late-key', { ekCertificates: false })
    const revoking: Client = {
      ...site.anybody,
      async call(operation, input, headers) {
        if (operation.id === activateEnrolment.id)
          await revoke(toHex(nameOf(parsePublicArea(late.identity.ak.publicArea))))
        return site.anybody.call(operation, input, headers)
      },
    }
    const ticket = await ticketFor(site)
    await expect(late.enrol(revoking, ticket)).rejects.toMatchObject({ code: 'TPM_KEY_REVOKED' })
  })
})

describe('an endorsement key on the list', () => {
  test('is trusted whoever certified it, until it is taken off', async () => {
    const { serial, ...claims } = await certified(host, authority('Nobody'))
    await expect(begin(claims)).rejects.toMatchObject({ code: 'EK_CERT_UNKNOWN_CA' })
    const text = pem(fromBase64url(claims.ekCertificate))
    const { fingerprint } = await site.admin.call(addEndorsementKey, {
      body: { pem: text, note: 'rack 4' },
    })
    await expect(begin(claims)).resolves.toBeDefined()
    await expect(begin({ ekPublic: claims.ekPublic })).resolves.toBeDefined()
    const { keys } = await site.admin.call(listEndorsementKeys, {})
    expect(keys).toMatchObject([{ fingerprint, note: 'rack 4' }])
    await site.admin.call(removeEndorsementKey, { params: { fingerprint } })
    await expect(begin(claims)).rejects.toMatchObject({ code: 'EK_CERT_UNKNOWN_CA' })
  })

  test('enrols a TPM without a certificate, without anybody’s approval', async () => {
    await using bare = await bootHost(lab, 'bare', { ekCertificates: false })
    const text = await bare.identity.withEndorsementKey(async (ek) =>
      publicKeyOf(parsePublicArea(ek.publicArea))
        .export({ type: 'spki', format: 'pem' })
        .toString(),
    )
    await site.admin.call(addEndorsementKey, { body: { pem: text, note: 'spare' } })
    await expect(bare.enrol(site.anybody, await ticketFor(site))).resolves.toMatchObject({
      state: 'enrolled',
    })
    const view = await site.admin.call(getHost, { params: { hostId: 'bare' } })
    expect(view).toMatchObject({ endorsement: 'pinned', insecureTest: false })
  })

  test('does not count for a certificate that was revoked', async () => {
    const { serial, ...claims } = await certified()
    await site.admin.call(addEndorsementKey, {
      body: { pem: pem(fromBase64url(claims.ekCertificate)), note: 'lost' },
    })
    await addList(revocationList(issuer, { serials: [serial] }))
    await expect(begin(claims)).rejects.toMatchObject({ code: 'CERT_REVOKED' })
  })

  test('is not a text that is neither a certificate nor a key', async () => {
    const body = { pem: 'hello', note: 'x' }
    await expect(site.admin.call(addEndorsementKey, { body })).rejects.toMatchObject({
      code: 'CERT_UNREADABLE',
    })
  })
})

describe('a machine with a device identity', () => {
  /** Makes an initial attestation key in the TPM as its maker does, and certifies it. */
  async function delivered(machine: TestHost, by = machines) {
    const tcti = `swtpm:path=${machine.tpm.socket}`
    await machine.identity.tpm[Symbol.asyncDispose]()
    const tool = (program: string, ...args: string[]) =>
      execFileSync(`tpm2_${program}`, ['-T', tcti, ...args], {
        cwd: machine.stateDirectory,
        stdio: 'pipe',
      })
    const attributes = 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign|noda'
    tool(
      'createprimary',
      '-C',
      'e',
      '-G',
      'ecc256:ecdsa-sha256:null',
      '-a',
      attributes,
      '-c',
      'iak.ctx',
    )
    tool('evictcontrol', '-C', 'o', '-c', 'iak.ctx', `0x${IAK_HANDLE.toString(16)}`)
    tool('flushcontext', '-t')
    await machine.reopen()
    const iak = await machine.identity.tpm.openPersistent(IAK_HANDLE)
    if (!iak) throw new Error('no key')
    const octets = certificate({
      issuer: by,
      subject: commonName('IAK'),
      publicKey: publicKeyOf(parsePublicArea(iak.publicArea)),
      extensions: [
        keyUsage(0),
        basicConstraints(false),
        policies('2.23.133.11.1.1', '2.23.133.11.1.3'),
        hardwareName('00001014:42'),
      ],
    })
    await machine.identity.tpm.flush(iak)
    return { handle: IAK_HANDLE, certificate: octets }
  }

  test('is enrolled by it, without a certificate of its endorsement key', async () => {
    await add(pem(machines.der))
    await using machine = await bootHost(lab, 'machine', { ekCertificates: false })
    const device = await delivered(machine)
    const ticket = await ticketFor(site)
    const request = { hostId: 'machine', ticket, device }
    await expect(enrol(site.anybody, machine.identity, request)).resolves.toMatchObject({
      state: 'enrolled',
    })
    const view = await site.admin.call(getHost, { params: { hostId: 'machine' } })
    expect(view).toMatchObject({ endorsement: 'device', tpm: 'TPM 2.0 00001014:42' })
    await site.admin.call(revokeHost, { params: { hostId: 'machine' }, body: { reason: 'end' } })
  })

  test('is refused where nobody trusts its maker, and where its word is for another', async () => {
    await using machine = await bootHost(lab, 'machine-2', { ekCertificates: false })
    const strange = await delivered(machine, authority('Stranger'))
    const enrolAs = async (hostId: string, device: typeof strange) =>
      enrol(site.anybody, machine.identity, { hostId, ticket: await ticketFor(site), device })
    await expect(enrolAs('machine-2', strange)).rejects.toMatchObject({
      code: 'IAK_CERT_UNKNOWN_CA',
    })
    await expect(enrolAs('machine-2', { ...strange, handle: 0x8108_0001 })).rejects.toMatchObject({
      code: 'DEVICE_KEY_MISSING',
    })
  })

  test('is refused where its word was for another ticket, name or key', async () => {
    await using machine = await bootHost(lab, 'machine-3', { ekCertificates: false })
    const device = await delivered(machine)
    const requests: EnrolmentRequest[] = []
    const recording = {
      call: async (_: unknown, { body }: { readonly body: EnrolmentRequest }) => {
        requests.push(body)
        throw new Error('recorded')
      },
    } as unknown as Parameters<typeof enrol>[0]
    const ticket = await ticketFor(site, { uses: 5 })
    const request = { hostId: 'machine-3', ticket, device }
    await expect(enrol(recording, machine.identity, request)).rejects.toThrow('recorded')
    const [honest] = requests
    if (!honest) throw new Error('nothing recorded')
    const send = (change: Partial<EnrolmentRequest>) =>
      site.anybody.call(createEnrolment, { body: { ...honest, ...change } })
    await expect(send({ hostId: 'somebody' })).rejects.toMatchObject({ code: 'CERTIFY_NONCE' })
    await expect(send({ ticket: await ticketFor(site) })).rejects.toMatchObject({
      code: 'CERTIFY_NONCE',
    })
    const akPublic = toBase64url(host.identity.ak.publicArea)
    await expect(send({ akPublic })).rejects.toMatchObject({ code: 'CERTIFY_NAME' })
    await expect(send({})).resolves.toBeDefined()
  })
})

describe('a site that accepts some endorsements only', () => {
  const strict = (...endorsement: ('ca' | 'pinned' | 'device' | 'approved')[]) =>
    openTestSite({ settings: { SIGILLO_ATTESTATION_ENDORSEMENT: endorsement.join(',') } })

  test('refuses a TPM without a certificate where nobody may approve', async () => {
    await using only = await strict('ca')
    const { ekPublic } = await certified()
    await expect(begin({ ekPublic }, only)).rejects.toMatchObject({ code: 'EK_CERT_MISSING' })
  })

  test('refuses a certificate where keys have to be listed', async () => {
    await using only = await strict('pinned')
    await only.admin.call(addAnchors, { body: { pem: pem(root.der) + pem(issuer.der) } })
    const { serial, ...claims } = await certified()
    await expect(begin(claims, only)).rejects.toMatchObject({ code: 'EK_PIN_UNKNOWN' })
  })
})
