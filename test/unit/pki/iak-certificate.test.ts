import { generateKeyPairSync } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { failures } from '../../../src/core/finding.js'
import { parseCertificate, spkiOf, verifyIakCertificate } from '../../../src/pki/index.js'
import {
  authority,
  basicConstraints,
  type CertificateOptions,
  certificate,
  commonName,
  DAY_MS,
  ecKeys,
  extension,
  hardwareName,
  keyUsage,
  policies,
  sequence,
  type TestExtension,
} from '../../helpers/certificates.js'

const NOW = Date.now()
const maker = authority('Maker of machines')
const keys = ecKeys()
const RESIDENCY = '2.23.133.11.1.1'
const FIXED = '2.23.133.11.1.2'
const RESTRICTED = '2.23.133.11.1.3'

const PROFILE: Readonly<Record<string, TestExtension>> = {
  usage: keyUsage(0),
  constraints: basicConstraints(false),
  policies: policies(RESIDENCY, FIXED, RESTRICTED),
  name: hardwareName('49465800:0123'),
}

function iakCertificate(
  change: Partial<CertificateOptions> = {},
  parts: Readonly<Record<string, TestExtension | undefined>> = {},
): Uint8Array {
  const extensions = Object.values({ ...PROFILE, ...parts }).filter((one) => one !== undefined)
  return certificate({
    issuer: maker,
    subject: commonName('IAK'),
    publicKey: keys.publicKey,
    extensions,
    ...change,
  })
}

function verdict(octets: Uint8Array, key = parseCertificate(octets).publicKey) {
  return verifyIakCertificate({
    certificate: octets,
    iakPublicKeySpki: spkiOf(key),
    trust: {
      anchors: [parseCertificate(maker.der)],
      intermediates: [],
      revocation: { lists: [], mode: 'present' },
    },
    now: NOW,
  })
}

const codes = (...input: Parameters<typeof verdict>) =>
  failures(verdict(...input).findings).map(({ code }) => code)

describe('a certificate of an initial attestation key', () => {
  test('is accepted below a trusted authority, with the serial number of its TPM', () => {
    expect(codes(iakCertificate())).toEqual([])
    expect(verdict(iakCertificate()).serial).toBe('49465800:0123')
  })

  test('is accepted for a key that is RSA', () => {
    const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
    expect(codes(iakCertificate({ publicKey }))).toEqual([])
  })

  test.each<[string, string, () => Uint8Array]>([
    [
      'of an issuer that nobody trusts',
      'IAK_CERT_UNKNOWN_CA',
      () => iakCertificate({ issuer: authority('Stranger') }),
    ],
    ['after its end', 'IAK_CERT_EXPIRED', () => iakCertificate({ notAfterMs: NOW - 1000 })],
    [
      'before its beginning',
      'IAK_CERT_NOT_YET_VALID',
      () => iakCertificate({ notBeforeMs: NOW + DAY_MS }),
    ],
    [
      'of a key that may not sign',
      'IAK_CERT_KEY_USAGE',
      () => iakCertificate({}, { usage: keyUsage(4) }),
    ],
    [
      'of an authority',
      'IAK_CERT_CA',
      () => iakCertificate({}, { constraints: basicConstraints(true) }),
    ],
    [
      'of a device identity that signs anything',
      'IAK_CERT_POLICY',
      () => iakCertificate({}, { policies: policies(RESIDENCY, FIXED) }),
    ],
    [
      'of a key that nobody saw in a TPM',
      'IAK_CERT_POLICY',
      () => iakCertificate({}, { policies: undefined }),
    ],
    ['without the name of a TPM', 'IAK_CERT_SAN', () => iakCertificate({}, { name: undefined })],
    [
      'with the name of hardware that is no TPM 2.0',
      'IAK_CERT_SAN',
      () => iakCertificate({}, { name: hardwareName('1', '1.2.3.4') }),
    ],
    [
      'without any name that counts',
      'IAK_CERT_SAN_CRITICAL',
      () => iakCertificate({ subject: sequence() }),
    ],
    [
      'of a key that is too short',
      'IAK_CERT_KEY_TYPE',
      () =>
        iakCertificate({
          publicKey: generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey,
        }),
    ],
    [
      'with a critical extension that nobody knows',
      'IAK_CERT_CRITICAL_EXTENSION',
      () => iakCertificate({}, { other: extension('1.2.3.4', sequence(), true) }),
    ],
  ])('is refused %s (%s)', (_, code, make) => {
    expect(codes(make())).toEqual([code])
  })

  test('is refused for another key', () => {
    expect(codes(iakCertificate(), ecKeys().publicKey)).toEqual(['IAK_CERT_KEY_MISMATCH'])
  })
})
