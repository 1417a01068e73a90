import { generateKeyPairSync } from 'node:crypto'
import { beforeAll, describe, expect, test } from 'vitest'
import { failures } from '../../../src/core/finding.js'
import {
  type Authority,
  createAuthority,
  issueEkCertificate,
  isVtpmCertificate,
  parseCertificate,
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

const issue = (subjectAltUris: readonly string[], by = authority) =>
  issueEkCertificate(by, {
    publicKey: spki,
    subjectName: VM,
    tpm: { manufacturer: 'id:00001014', model: 'swtpm', version: 'id:20191023' },
    kind: 'ek',
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
})
