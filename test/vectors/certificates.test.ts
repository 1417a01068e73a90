import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { failures } from '../../src/core/finding.js'
import { imageHashesOf, parseDbxFile } from '../../src/eventlog/index.js'
import {
  type Certificate,
  readCertificates,
  spkiOf,
  verifyEkCertificate,
} from '../../src/pki/index.js'
import {
  MEASURED_BOOT_VARIANTS,
  measuredBoot,
  saySkipped,
  sharedVectors,
} from '../helpers/vectors.js'

/** Certificates of real TPMs and of their makers, with the verdicts of the manifest. */
const shared = sharedVectors('attestation')
if (!shared) saySkipped('attestation (certificates)', 60)

const HIRS = 'nsacyber_HIRS/HIRS_AttestationCA/src/test/resources'
const GOOGLE = 'google_go-tpm-tools'
const NOW = Date.parse('2026-11-24')

const octetsOf = (...path: readonly string[]) =>
  new Uint8Array(readFileSync(join(shared ?? '', ...path)))
const read = (...path: readonly string[]) => readCertificates(octetsOf(...path)).all

function verdictOf(
  certificate: Certificate | undefined,
  anchors: readonly Certificate[],
  intermediates: readonly Certificate[] = [],
  now = NOW,
) {
  if (!certificate) throw new Error('no certificate')
  return verifyEkCertificate({
    certificate: certificate.der,
    ekPublicKeySpki: spkiOf(certificate.publicKey),
    trust: { anchors, intermediates, revocation: { lists: [], mode: 'present' } },
    now,
  })
}

const codes = (...input: Parameters<typeof verdictOf>) =>
  failures(verdictOf(...input).findings).map(({ code }) => code)

describe('the virtual TPMs of measured-boot', () => {
  const ca = (name: string) => readCertificates(measuredBoot('ca', `${name}.pem`)).all

  test.each(MEASURED_BOOT_VARIANTS)('have certificates below our own root (%s)', (variant) => {
    for (const name of ['ek-rsa-cert.der', 'ek-ecc384-cert.der']) {
      const [certificate] = readCertificates(measuredBoot(variant, name)).all
      expect(codes(certificate, ca('root'), [...ca('rsa'), ...ca('ec')])).toEqual([])
    }
  })

  test.each(MEASURED_BOOT_VARIANTS)(
    'have platform certificates, which are for no key (%s)',
    (variant) => {
      const [certificate] = readCertificates(measuredBoot(variant, 'platform-cert.der')).all
      const found = codes(certificate, ca('root'), [...ca('rsa'), ...ca('ec')])
      expect(found).toContain('EK_CERT_EKU')
    },
  )
})

describe.runIf(shared)('certificates of endorsement keys', () => {
  const root = () => read(GOOGLE, 'server/ca-certs/tpm_ek_root_1.cer')
  const intermediates = () =>
    [2, 3].flatMap((n) => read(GOOGLE, `server/ca-certs/tpm_ek_intermediate_${n}.crt`))
  const google = (name: string) => read(GOOGLE, 'internal/test/certificates', name)[0]

  test.each(['uca_tpm_rsa_enc_cert.pem', 'uca_tpm_ecc_enc_cert.pem'])(
    'of Google’s TPMs are accepted below its root (%s)',
    (name) => {
      expect(codes(google(name), root(), intermediates())).toEqual([])
      expect(codes(google(name), root())).toEqual(['EK_CERT_UNKNOWN_CA'])
    },
  )

  test.each(['uca_tpm_rsa_sign_cert.pem', 'uca_tpm_ecc_sign_cert.pem'])(
    'are not those of its attestation keys, which have the same purpose (%s)',
    (name) => {
      expect(codes(google(name), root(), intermediates())).toEqual(['EK_CERT_KEY_USAGE'])
    },
  )

  test.each(['rsa_enc', 'ecc_enc', 'rsa_sign', 'ecc_sign'])(
    'of its older authority have no profile (%s)',
    (kind) => {
      const anchors = read(GOOGLE, 'server/ca-certs/gcp_ek_ak_ca_root.crt')
      const between = read(GOOGLE, 'server/ca-certs/gcp_ek_ak_ca_intermediate_v3.crt')
      const found = codes(google(`pca_tpm_${kind}_cert.pem`), anchors, between)
      expect(found).toEqual(expect.arrayContaining(['EK_CERT_EKU', 'EK_CERT_SAN']))
      expect(found).not.toContain('EK_CERT_UNKNOWN_CA')
    },
  )

  test('with the header of TPM 1.2 are the same as without', () => {
    const [untouched] = read(HIRS, 'certificates/nuc-1/ek_cert_untouched.cer')
    const [removed] = read(HIRS, 'certificates/nuc-1/ek_cert_7_byte_header_removed.cer')
    expect(untouched?.der).toEqual(removed?.der)
  })

  test('with octets after them, and with a set out of order, are read', () => {
    const octets = octetsOf(HIRS, 'certificates/ek_cert_with_padded_bytes.cer')
    const [certificate] = readCertificates(octets).all
    expect(certificate?.der.length).toBeLessThan(octets.length)
    expect(codes(certificate, [])).toContain('EK_CERT_UNKNOWN_CA')
  })

  test('of TPM 1.2 are read and refused', () => {
    const [certificate] = read(HIRS, 'certificates/ek_cert_with_security_assertions.cer')
    const { tpm } = verdictOf(certificate, [])
    expect(tpm).toEqual({ manufacturer: 'id:49465800', model: 'SLB9635TT1.2', version: 'id:0313' })
    expect(codes(certificate, [])).toEqual(
      expect.arrayContaining(['EK_CERT_EKU', 'EK_CERT_KEY_USAGE']),
    )
  })

  test.each(['nuc-1/tpmcert.pem', 'nuc-2/tpmcert.pem', 'ab21ccf2-tpmcert.pem'])(
    'labelled as RSAES-OAEP are RSA; these are signed with SHA-1 and over (%s)',
    (name) => {
      const [certificate] = read(HIRS, 'certificates', name)
      expect(certificate?.publicKey.asymmetricKeyType).toBe('rsa')
      const anchors = read(HIRS, 'certificates/stMicroCaCerts/stmtpmekroot.crt')
      const between = read(HIRS, 'certificates/stMicroCaCerts/stmtpmekint02.crt')
      expect(codes(certificate, anchors, between)).toEqual(
        expect.arrayContaining(['CHAIN_SHA1', 'EK_CERT_EXPIRED']),
      )
    },
  )

  test('below an authority that bears the name of another are refused', () => {
    const [certificate] = read(HIRS, 'certificates/nuc-1/tpmcert.pem')
    const fake = read(HIRS, 'certificates/fakestmtpmekint02.pem')
    expect(verdictOf(certificate, fake).chain).toEqual([])
  })

  test('of a laboratory, too short and without a profile, are refused for each reason', () => {
    const [certificate] = read('nsacyber_HIRS/.ci/setup/certs/ek_cert.der')
    expect(codes(certificate, [])).toEqual([
      'EK_CERT_UNKNOWN_CA',
      'EK_CERT_KEY_TYPE',
      'EK_CERT_EKU',
      'EK_CERT_SAN',
    ])
  })

  test('are not platform certificates: those have attributes and no key', () => {
    const folders = [
      'google_go-attestation/attributecert/testdata',
      `${HIRS}/validation/platform_credentials`,
    ]
    const files = folders.flatMap((folder) =>
      readdirSync(join(shared ?? '', folder))
        .filter((name) => name.endsWith('.cer') && !name.startsWith('IntelSigningKey'))
        .map((name) => [folder, name] as const),
    )
    expect(files.length).toBeGreaterThan(15)
    for (const [folder, name] of files) {
      expect(() => read(folder, name), name).toThrow(
        expect.objectContaining({ code: 'CERT_UNREADABLE' }),
      )
    }
  })
})

describe.runIf(shared)('authorities of makers', () => {
  test('of keylime’s store are read, with sets out of order too', () => {
    const folder = 'keylime_keylime/tpm_cert_store'
    const names = readdirSync(join(shared ?? '', folder)).filter((name) => name.endsWith('.pem'))
    expect(names.length).toBeGreaterThan(40)
    for (const name of names) {
      expect(
        read(folder, name).every(({ isCa }) => isCa),
        name,
      ).toBe(true)
    }
  })

  test('of the mirror are 26 trusted ones and 143 below them, each with a path', () => {
    const folder = 'loicsikidi_tpm-ca-certificates'
    const roots = read(folder, 'MIRROR.tpm-ca-certificates.pem')
    const between = read(folder, 'MIRROR.tpm-intermediate-ca-certificates.pem')
    expect([roots.length, between.length]).toEqual([26, 143])
    const lost = between.filter((one) => verdictOf(one, roots, between).chain.length === 0)
    expect(lost.map(({ subject }) => subject)).toEqual([])
  })

  test('of Secure Boot are read', () => {
    const folder = `${GOOGLE}/server/secure-boot`
    const names = readdirSync(join(shared ?? '', folder)).filter((name) => name.endsWith('.crt'))
    expect(names.flatMap((name) => read(folder, name))).toHaveLength(names.length)
  })

  test.each([
    ['dbxupdate-2014-08-11.bin', 13, []],
    [
      'dbxupdate_x64-2020-10-12.bin',
      183,
      ['canonical-boothole.crt', 'cisco-boothole.crt', 'debian-boothole.crt'],
    ],
    ['dbxupdate_x64-2021-04-29.bin', 211, []],
  ] as const)('and hashes that %s forbids are read', (name, hashes, signers) => {
    const folder = `${GOOGLE}/server/secure-boot`
    const lists = parseDbxFile(octetsOf(folder, name))
    expect(new Set(imageHashesOf(lists)).size).toBe(hashes)
    const forbidden = lists
      .filter(({ typeName }) => typeName === 'EFI_CERT_X509')
      .flatMap(({ signatures }) => signatures.map(({ data }) => readCertificates(data).all[0]))
    expect(forbidden.map((one) => one?.fingerprint).sort()).toEqual(
      signers
        .flatMap((file) => read(folder, file))
        .map(({ fingerprint }) => fingerprint)
        .sort(),
    )
  })

  test('of device identities are a root and one below it', () => {
    const chain = readCertificates(
      octetsOf('keylime_keylime/test-data/files/idevid-test-ca/iak_idevid_chain.pem'),
    )
    expect([chain.roots.length, chain.intermediates.length]).toEqual([1, 1])
    expect(verdictOf(chain.intermediates[0], chain.roots).chain).toHaveLength(2)
  })
})
