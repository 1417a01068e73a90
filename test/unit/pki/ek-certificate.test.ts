import { generateKeyPairSync } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { failures } from '../../../src/core/finding.js'
import {
  parseCertificate,
  parseRevocationList,
  spkiOf,
  type Trust,
  verifyEkCertificate,
} from '../../../src/pki/index.js'
import {
  authority,
  basicConstraints,
  bitString,
  type CertificateOptions,
  certificate,
  commonName,
  DAY_MS,
  der,
  ecKeys,
  extension,
  integer,
  keyUsage,
  name,
  oid,
  purposes,
  RSA_SHA1,
  revocationList,
  sequence,
  TCG_ATTRIBUTES,
  type TestAuthority,
  type TestExtension,
  tpmName,
} from '../../helpers/certificates.js'

const NOW = Date.now()
const EK_PURPOSE = '2.23.133.8.1'
const root = authority('Root')
const issuer = authority('Issuer', { issuer: root, pathLength: 0, serial: 7 })
const ec = ecKeys()
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })

const PROFILE: Readonly<Record<string, TestExtension>> = {
  usage: keyUsage(4),
  purpose: purposes(EK_PURPOSE),
  constraints: basicConstraints(false),
  tpm: tpmName(),
}

/** A right certificate, with parts of its profile replaced, left out or added. */
function ekCertificate(
  change: Partial<CertificateOptions> = {},
  parts: Readonly<Record<string, TestExtension | undefined>> = {},
): Uint8Array {
  const extensions = Object.values({ ...PROFILE, ...parts }).filter((one) => one !== undefined)
  return certificate({
    issuer,
    subject: sequence(),
    publicKey: ec.publicKey,
    extensions,
    ...change,
  })
}

function trusting(
  anchors: readonly TestAuthority[],
  intermediates: readonly TestAuthority[] = [],
  revocation: Partial<Trust['revocation']> = {},
): Trust {
  const parsed = (list: readonly TestAuthority[]) => list.map((one) => parseCertificate(one.der))
  return {
    anchors: parsed(anchors),
    intermediates: parsed(intermediates),
    revocation: { lists: [], mode: 'present', ...revocation },
  }
}

function codes(octets: Uint8Array, trust = trusting([root], [issuer]), now = NOW) {
  const { publicKey } = parseCertificate(octets)
  const { findings } = verifyEkCertificate({
    certificate: octets,
    ekPublicKeySpki: spkiOf(publicKey),
    trust,
    now,
  })
  return failures(findings).map(({ code }) => code)
}

describe('a certificate of an endorsement key is accepted', () => {
  test('below an intermediate and a root, with its path and the name of its TPM', () => {
    const verdict = verifyEkCertificate({
      certificate: ekCertificate(),
      ekPublicKeySpki: spkiOf(ec.publicKey),
      trust: trusting([root], [issuer]),
      now: NOW,
    })
    expect(failures(verdict.findings)).toEqual([])
    expect(verdict.chain.map(({ subject }) => subject)).toEqual(['', 'CN=Issuer', 'CN=Root'])
    expect(verdict.tpm).toEqual({
      manufacturer: 'id:49465800',
      model: 'SLB9670',
      version: 'id:000D',
    })
  })

  test.each<[string, () => Uint8Array]>([
    ['of an RSA key', () => ekCertificate({ publicKey: rsa.publicKey }, { usage: keyUsage(2) })],
    [
      'of an RSA key that is labelled as RSAES-OAEP',
      () => {
        const bits = bitString(rsa.publicKey.export({ type: 'pkcs1', format: 'der' }))
        const label = sequence(oid('1.2.840.113549.1.1.7'), sequence())
        return ekCertificate({ publicKey: sequence(label, bits) }, { usage: keyUsage(2) })
      },
    ],
    ['with a maker that is written as 0x…', () => tpmOf('0x49465800')],
    ['with a maker in lower case', () => tpmOf('id:49465800'.toLowerCase())],
    [
      'with the attributes of the TPM in another order',
      () => ekCertificate({}, { tpm: tpmName([...TCG_ATTRIBUTES].reverse()) }),
    ],
    [
      'with a name whose letters differ in case from the issuer’s',
      () => ekCertificate({ issuer: { ...issuer, subject: commonName(' iSSUER ') } }),
    ],
    ['that was signed with RSA', () => ekCertificate({ issuer: rsaRoot })],
    [
      'with policies and where to find its list, neither of which is fetched',
      () =>
        ekCertificate(
          {},
          {
            crl: extension('2.5.29.31', sequence()),
            aia: extension('1.3.6.1.5.5.7.1.1', sequence()),
          },
        ),
    ],
  ])('%s', (_, make) => {
    expect(codes(make(), trusting([root, rsaRoot], [issuer]))).toEqual([])
  })

  test('while its anchor has expired: an anchor is trusted by being listed', () => {
    const old = authority('Old', { notAfterMs: NOW - DAY_MS })
    expect(codes(ekCertificate({ issuer: old }), trusting([old]))).toEqual([])
  })

  test.each([
    ['zeros', new Uint8Array(32)],
    ['0xff', new Uint8Array(32).fill(0xff)],
  ])('with %s after it, as TPMs keep it', (_, fill) => {
    expect(codes(Buffer.concat([ekCertificate(), fill]))).toEqual([])
  })
})

const rsaRoot = authority('RSA root', { keys: rsa })
const tpmOf = (maker: string) =>
  ekCertificate({}, { tpm: tpmName([['2.23.133.2.1', maker], ...TCG_ATTRIBUTES.slice(1)]) })

describe('a certificate of an endorsement key is refused', () => {
  test.each<[string, string, () => Uint8Array]>([
    [
      'for another purpose',
      'EK_CERT_EKU',
      () => ekCertificate({}, { purpose: purposes('2.23.133.8.3') }),
    ],
    ['without a purpose', 'EK_CERT_EKU', () => ekCertificate({}, { purpose: undefined })],
    [
      'with a purpose that cannot be read',
      'EK_CERT_EKU',
      () => ekCertificate({}, { purpose: extension('2.5.29.37', Uint8Array.of(0x30, 0x05)) }),
    ],
    [
      'with the key usage of another kind of key',
      'EK_CERT_KEY_USAGE',
      () => ekCertificate({}, { usage: keyUsage(2) }),
    ],
    ['without a key usage', 'EK_CERT_KEY_USAGE', () => ekCertificate({}, { usage: undefined })],
    [
      'of an authority',
      'EK_CERT_CA',
      () => ekCertificate({}, { constraints: basicConstraints(true) }),
    ],
    ['without the name of a TPM', 'EK_CERT_SAN', () => ekCertificate({}, { tpm: undefined })],
    [
      'with half the name of a TPM',
      'EK_CERT_SAN',
      () => ekCertificate({}, { tpm: tpmName(TCG_ATTRIBUTES.slice(0, 2)) }),
    ],
    [
      'without any name that counts',
      'EK_CERT_SAN_CRITICAL',
      () => ekCertificate({}, { tpm: { ...tpmName(), critical: false } }),
    ],
    ['of a maker that the TCG does not know', 'EK_CERT_VENDOR', () => tpmOf('id:58585858')],
    ['of a maker that is no identifier', 'EK_CERT_VENDOR', () => tpmOf('Infineon')],
    [
      'with a critical extension that nobody knows',
      'EK_CERT_CRITICAL_EXTENSION',
      () => ekCertificate({}, { other: extension('1.2.3.4', sequence(), true) }),
    ],
    [
      'of an RSA key that is too short',
      'EK_CERT_KEY_TYPE',
      () =>
        ekCertificate(
          { publicKey: generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey },
          { usage: keyUsage(2) },
        ),
    ],
    [
      'of a curve that no profile has',
      'EK_CERT_KEY_TYPE',
      () => ekCertificate({ publicKey: ecKeys('secp256k1').publicKey }),
    ],
    [
      'of a key that signs only',
      'EK_CERT_KEY_TYPE',
      () => ekCertificate({ publicKey: generateKeyPairSync('ed25519').publicKey }),
    ],
    ['after its end', 'EK_CERT_EXPIRED', () => ekCertificate({ notAfterMs: NOW - 1000 })],
    [
      'before its beginning',
      'EK_CERT_NOT_YET_VALID',
      () => ekCertificate({ notBeforeMs: NOW + DAY_MS }),
    ],
    [
      'of an issuer that nobody trusts',
      'EK_CERT_UNKNOWN_CA',
      () => ekCertificate({ issuer: authority('Stranger') }),
    ],
    [
      'of an issuer that has the name of a trusted one',
      'CHAIN_SIGNATURE',
      () => ekCertificate({ issuer: authority('Issuer') }),
    ],
    [
      'signed with SHA-1',
      'CHAIN_SHA1',
      () => ekCertificate({ issuer: rsaRoot, algorithm: RSA_SHA1, hash: 'sha1' }),
    ],
    [
      'signed in a way that is not known',
      'CHAIN_ALGORITHM',
      () =>
        ekCertificate({
          issuer: rsaRoot,
          algorithm: sequence(oid('1.2.840.113549.1.1.4'), der(0x05)),
        }),
    ],
    [
      'signed in the way of another kind of key',
      'CHAIN_ALGORITHM',
      () => ekCertificate({ algorithm: sequence(oid('1.2.840.113549.1.1.11'), der(0x05)) }),
    ],
  ])('%s (%s)', (_, code, make) => {
    expect(codes(make(), trusting([root, rsaRoot], [issuer]))).toEqual([code])
  })

  test('for another key', () => {
    const { findings } = verifyEkCertificate({
      certificate: ekCertificate(),
      ekPublicKeySpki: spkiOf(ecKeys().publicKey),
      trust: trusting([root], [issuer]),
      now: NOW,
    })
    expect(failures(findings).map(({ code }) => code)).toEqual(['EK_CERT_KEY_MISMATCH'])
  })

  test('with any bit of what is signed changed', () => {
    const octets = ekCertificate()
    const { signed } = parseCertificate(octets)
    const start = signed.octets.byteOffset - parseCertificate(octets).der.byteOffset
    let refused = 0
    for (let bit = start * 8; bit < (start + signed.octets.length) * 8; bit += 1) {
      const changed = octets.slice()
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      if (isRefused(changed)) refused += 1
    }
    expect(refused).toBe(signed.octets.length * 8)
  })
})

function isRefused(octets: Uint8Array): boolean {
  try {
    return codes(octets).length > 0
  } catch (error) {
    expect(error).toMatchObject({ code: expect.stringMatching(/^CERT_/) })
    return true
  }
}

describe('a path is refused', () => {
  test('through an authority that is none', () => {
    const no = authority('No', { issuer: root, extensions: [basicConstraints(false)] })
    expect(codes(ekCertificate({ issuer: no }), trusting([root], [no]))).toEqual(['CHAIN_NOT_CA'])
  })

  test('through an authority that may not sign certificates', () => {
    const no = authority('No', { issuer: root, extensions: [basicConstraints(true), keyUsage(6)] })
    expect(codes(ekCertificate({ issuer: no }), trusting([root], [no]))).toEqual([
      'CHAIN_KEY_USAGE',
    ])
  })

  test('with more authorities than one of them allows', () => {
    const narrow = authority('Narrow', { issuer: root, pathLength: 0 })
    const below = authority('Below', { issuer: narrow })
    const trust = trusting([root], [narrow, below])
    expect(codes(ekCertificate({ issuer: below }), trust)).toEqual(['CHAIN_PATH_LENGTH'])
  })

  test('that is longer than five certificates', () => {
    const chain = [root]
    for (let index = 1; index < 5; index += 1) {
      chain.push(authority(`Level ${index}`, { issuer: chain.at(-1) ?? root }))
    }
    const last = chain.at(-1) ?? root
    expect(codes(ekCertificate({ issuer: last }), trusting([root], chain.slice(1)))).toEqual([
      'CHAIN_TOO_LONG',
    ])
  })

  test('that is a circle', () => {
    const keys = { a: ecKeys(), b: ecKeys() }
    const a = authority('A', { keys: keys.a, issuer: { subject: commonName('B'), keys: keys.b } })
    const b = authority('B', { keys: keys.b, issuer: { subject: commonName('A'), keys: keys.a } })
    expect(codes(ekCertificate({ issuer: a }), trusting([root], [a, b]))).toEqual([
      'EK_CERT_UNKNOWN_CA',
    ])
  })

  test('that many authorities of one name make costly', () => {
    const many = Array.from({ length: 70 }, () => authority('Many'))
    expect(codes(ekCertificate({ issuer: authority('Many') }), trusting(many))).toHaveLength(1)
  })

  test('through an authority whose key is named otherwise', () => {
    const id = (octet: number) => new Uint8Array(20).fill(octet)
    const named = authority('Named', {
      extensions: [basicConstraints(true), extension('2.5.29.14', der(0x04, id(1)))],
    })
    const wrong = extension('2.5.29.35', sequence(der(0x80, id(2))))
    expect(codes(ekCertificate({ issuer: named }, { wrong }), trusting([named]))).toEqual([
      'EK_CERT_UNKNOWN_CA',
    ])
  })

  test('through an authority whose key is weak', () => {
    const weak = authority('Weak', { keys: generateKeyPairSync('rsa', { modulusLength: 1024 }) })
    expect(codes(ekCertificate({ issuer: weak }), trusting([weak]))).toEqual(['CHAIN_KEY_WEAK'])
  })

  test('through an authority that constrains names', () => {
    const constrained = authority('Constrained', {
      extensions: [basicConstraints(true), extension('2.5.29.30', sequence(), true)],
    })
    expect(codes(ekCertificate({ issuer: constrained }), trusting([constrained]))).toEqual([
      'CHAIN_NAME_CONSTRAINTS',
    ])
  })

  test('through an intermediate that has expired', () => {
    const old = authority('Old', { issuer: root, notAfterMs: NOW - DAY_MS })
    expect(codes(ekCertificate({ issuer: old }), trusting([root], [old]))).toEqual([
      'EK_CERT_EXPIRED',
    ])
  })

  test('where intermediates are known and no anchor is', () => {
    expect(codes(ekCertificate(), trusting([], [issuer, root]))).toEqual(['EK_CERT_UNKNOWN_CA'])
  })
})

describe('revocation lists', () => {
  const listed = (from: TestAuthority, ...serials: (number | string)[]) =>
    parseRevocationList(revocationList(from, { serials }))

  test('refuse a certificate that is on the list of its issuer', () => {
    const trust = trusting([root], [issuer], { lists: [listed(issuer, 5, 99)] })
    expect(codes(ekCertificate({ serial: 99 }), trust)).toEqual(['CERT_REVOKED'])
    expect(codes(ekCertificate({ serial: 98 }), trust)).toEqual([])
  })

  test('refuse everything below an authority that is on one', () => {
    const trust = trusting([root], [issuer], { lists: [listed(root, 7)] })
    expect(codes(ekCertificate(), trust)).toEqual(['CERT_REVOKED'])
  })

  test('of another authority with the same name say nothing', () => {
    const other = authority('Issuer')
    const trust = trusting([root], [issuer], { lists: [listed(other, 1)] })
    expect(codes(ekCertificate({ serial: 1 }), trust)).toEqual([])
  })

  test('are refused when they are over, and when they are from the future', () => {
    const list = (options: object) =>
      trusting([root], [issuer], { lists: [parseRevocationList(revocationList(issuer, options))] })
    expect(codes(ekCertificate(), list({ nextUpdateMs: NOW - 1000 }))).toEqual(['CRL_STALE'])
    expect(codes(ekCertificate(), list({ thisUpdateMs: NOW + DAY_MS }))).toEqual(['CRL_STALE'])
  })

  test('have to be there for every authority where the site says so', () => {
    const required = (...lists: ReturnType<typeof listed>[]) =>
      trusting([root], [issuer], { lists, mode: 'required' })
    expect(codes(ekCertificate(), required())).toEqual(['CRL_MISSING', 'CRL_MISSING'])
    expect(codes(ekCertificate(), required(listed(issuer)))).toEqual(['CRL_MISSING'])
    expect(codes(ekCertificate(), required(listed(issuer), listed(root)))).toEqual([])
  })

  test('the newest of several counts', () => {
    const old = revocationList(issuer, { serials: [1], thisUpdateMs: NOW - 10 * DAY_MS })
    const trust = trusting([root], [issuer], {
      lists: [parseRevocationList(old), listed(issuer)],
    })
    expect(codes(ekCertificate({ serial: 1 }), trust)).toEqual([])
  })
})

describe('octets are no certificate', () => {
  const octets = ekCertificate()
  test.each<[string, string, Uint8Array]>([
    ['nothing', 'CERT_UNREADABLE', new Uint8Array()],
    ['half of one', 'CERT_UNREADABLE', octets.subarray(0, octets.length / 2)],
    ['another one after it', 'CERT_UNREADABLE', Buffer.concat([octets, octets])],
    ['more than 64 KiB', 'CERT_TOO_LARGE', new Uint8Array(65 * 1024)],
    ['text', 'CERT_UNREADABLE', Buffer.from('hello')],
    ['a sequence of nothing', 'CERT_UNREADABLE', sequence()],
    ['depth without end', 'CERT_UNREADABLE', deep(40)],
    [
      'a stripped one of TPM 1.2',
      'CERT_STRIPPED',
      Buffer.from([0x10, 0x01, 0x01, 0, 4, 0, 0, 0, 0]),
    ],
    [
      'version 1',
      'CERT_UNREADABLE',
      sequence(
        sequence(integer(1), sequence(), name(), sequence(), name(), sequence()),
        sequence(),
        der(0x03, Uint8Array.of(0)),
      ),
    ],
    ['an extension twice', 'CERT_UNREADABLE', ekCertificate({}, { again: purposes(EK_PURPOSE) })],
  ])('%s', (_, code, input) => {
    expect(() => parseCertificate(input)).toThrow(expect.objectContaining({ code }))
  })
})

function deep(levels: number): Uint8Array {
  return levels === 0 ? sequence() : sequence(deep(levels - 1))
}
