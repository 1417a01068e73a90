import { createHash, generateKeyPairSync } from 'node:crypto'
import { beforeAll, describe, expect, test } from 'vitest'
import { failures } from '../../../src/core/finding.js'
import { bitStringOctets, objectIdentifier, parseDer, TAG } from '../../../src/pki/der.js'
import { hasUsage, purposesOf } from '../../../src/pki/extensions.js'
import {
  type Authority,
  createAuthority,
  describeTpm,
  encodeEkRequest,
  issueEkCertificate,
  isVtpmCertificate,
  parseCertificate,
  readTpmSpecification,
  readVtpmNames,
  spkiOf,
  verifyVtpmCertificate,
  vtpmUris,
} from '../../../src/pki/index.js'

const NOW = Date.UTC(2026, 10, 25)
const VM = '5f0c8f0a-1b2c-4d3e-8f90-123456789abc'
const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
const spki = spkiOf(publicKey)

let authority: Authority

beforeAll(async () => {
  authority = await createAuthority({
    commonName: 'vTPM authority',
    keyType: 'p256',
    validityDays: 10,
    now: NOW,
  })
})

const TPM = { manufacturer: 'id:00001014', model: 'swtpm', version: 'id:20191023' }
const SPECIFICATION = { family: '2.0', level: 0, revision: 164 }

const issue = (
  subjectAltUris: readonly string[],
  by = authority,
  changed: {
    readonly kind?: 'platform'
    readonly tpm?: typeof TPM
    readonly key?: Uint8Array
  } = {},
) =>
  issueEkCertificate(by, {
    publicKey: changed.key ?? spki,
    subjectName: VM,
    tpm: changed.tpm ?? { ...TPM, specification: SPECIFICATION },
    kind: changed.kind ?? 'ek',
    subjectAltUris,
    validityDays: 5,
    now: NOW,
  })

const verify = (certificate: Uint8Array) =>
  verifyVtpmCertificate({
    certificate,
    ekPublicKeySpki: spki,
    trust: {
      anchors: [parseCertificate(authority.certificateDer)],
      intermediates: [],
      revocation: { lists: [], mode: 'present' },
    },
    now: NOW,
  })

const codes = (certificate: Uint8Array) =>
  failures(verify(certificate).findings).map(({ code }) => code)

describe('the certificate of a virtual TPM', () => {
  test('names one VM and one host, however long their names', async () => {
    const hostId = `h${'o'.repeat(61)}t`
    const certificate = await issue(vtpmUris({ vmId: VM, hostId }))
    const verdict = verify(certificate)
    expect(failures(verdict.findings)).toEqual([])
    expect(verdict.names).toEqual({ vmId: VM, hostId })
  })

  test('is refused where it names none, several, or what is no name', async () => {
    const host = 'urn:sigillo:host:a'
    for (const uris of [
      [],
      [`urn:uuid:${VM}`],
      [host],
      [`urn:uuid:${VM}`, host, 'urn:sigillo:host:b'],
      [`urn:uuid:${VM}`, `urn:uuid:${VM}`, host],
      [`urn:uuid:${VM.toUpperCase()}`, host],
      [`urn:uuid:${VM}`, 'urn:sigillo:host:A b'],
    ]) {
      const certificate = await issue(uris)
      expect(codes(certificate)).toEqual(['VTPM_CERT_NAMES'])
      expect(readVtpmNames(parseCertificate(certificate))).toBeUndefined()
    }
  })

  test('is refused by another authority of the same name', async () => {
    const other = await createAuthority({
      commonName: 'vTPM authority',
      keyType: 'p256',
      validityDays: 10,
      now: NOW,
    })
    const certificate = await issue(vtpmUris({ vmId: VM, hostId: 'a' }), other)
    expect(codes(certificate)).toEqual(['EK_CERT_UNKNOWN_CA'])
  })

  test('is told from that of a TPM of a host', async () => {
    expect(isVtpmCertificate(parseCertificate(await issue(['urn:sigillo:host:?'])))).toBe(true)
    expect(isVtpmCertificate(parseCertificate(await issue([])))).toBe(false)
  })

  test('describes its TPM as the profile of the TCG asks: maker, specification, use of the key', async () => {
    const certificate = parseCertificate(await issue([]))
    expect(describeTpm(certificate)).toEqual(TPM)
    expect(readTpmSpecification(certificate)).toEqual(SPECIFICATION)
    expect(readTpmSpecification(parseCertificate(await issue([], authority, { tpm: TPM })))).toBe(
      undefined,
    )
    const critical = [...certificate.extensions].flatMap(([oid, one]) => (one.critical ? oid : []))
    // basicConstraints and keyUsage; not the subjectAltName, as there is a subject
    expect(critical.sort()).toEqual(['2.5.29.15', '2.5.29.19'])
    const values = parseDer(certificate.extensions.get('2.5.29.17')?.value ?? new Uint8Array())
    const [, value] = values.children[0]?.children[0]?.children[0]?.children[0]?.children ?? []
    expect(value?.tag).toBe(TAG.utf8String)
  })

  test('has a platform certificate beside it, which is for no endorsement key and names the VM as platform', async () => {
    const key = spkiOf(generateKeyPairSync('ec', { namedCurve: 'P-384' }).publicKey)
    const certificate = parseCertificate(await issue([], authority, { kind: 'platform', key }))
    expect(purposesOf(certificate.extensions)).toEqual(['2.23.133.8.4'])
    expect(hasUsage(certificate.extensions, 'keyAgreement')).toBe(true)
    expect(describeTpm(certificate)).toBeUndefined()
    const text = Buffer.from(certificate.extensions.get('2.5.29.17')?.value ?? []).toString(
      'latin1',
    )
    for (const part of ['Sigillo', 'virtual machine', VM]) expect(text).toContain(part)
    expect(codes(await issue([], authority, { kind: 'platform' }))).toContain('EK_CERT_EKU')
  })
})

describe('a request for the certificate of an endorsement key', () => {
  test('has in the place of a signature what says that there is none', () => {
    const request = encodeEkRequest({
      ...{ publicKey: spki, subjectName: VM, subjectAltUris: [`urn:uuid:${VM}`] },
      tpm: { ...TPM, specification: SPECIFICATION },
    })
    const [info, algorithm, value] = parseDer(request).children
    const [oid, parameters] = algorithm?.children ?? []
    expect(oid && objectIdentifier(oid)).toBe('1.3.6.1.5.5.7.6.2')
    expect(Buffer.from(parameters?.whole ?? []).toString('hex')).toBe('0500')
    const noSignature = parseDer(bitStringOctets(value ?? parseDer(new Uint8Array())))
    expect(noSignature.tag).toBe(TAG.octetString)
    const digest = createHash('sha1')
      .update(info?.whole ?? '')
      .digest()
    expect(Buffer.from(noSignature.content).equals(digest)).toBe(true)
  })
})
