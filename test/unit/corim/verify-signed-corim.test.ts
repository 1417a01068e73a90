import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  X509Certificate,
} from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { fromHex } from '../../../src/core/bytes.js'
import { failures } from '../../../src/core/finding.js'
import { CborTag, parseCbor } from '../../../src/corim/cbor.js'
import { findSigningKey } from '../../../src/corim/cose-signature.js'
import {
  CORIM_LIMITS,
  type CorimVerdict,
  parseCorim,
  readCorimKey,
  readCorimSigner,
  verifyCorimValidity,
  verifySignedCorim,
} from '../../../src/corim/index.js'
import { parseSignedCorim } from '../../../src/corim/signed-corim.js'
import { createAuthority, issueServerCertificate } from '../../../src/pki/index.js'
import {
  cbor,
  corim,
  corimMap,
  map,
  NOW_MS,
  ONE_STATE,
  publicPem,
  type Signing,
  signedCorim,
  tagged,
  time,
  uri,
} from '../../helpers/corim.js'

const P256 = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const OTHER = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const P384 = generateKeyPairSync('ec', { namedCurve: 'P-384' })
const RSA = generateKeyPairSync('rsa', { modulusLength: 2048 })
const ED25519 = generateKeyPairSync('ed25519')
const ALL = [OTHER, P256, P384, RSA, ED25519].map(({ publicKey }) =>
  readCorimKey(publicPem(publicKey)),
)

function verified(changes: Partial<Signing> = {}, nowMs = NOW_MS, keys = ALL): CorimVerdict {
  return verifySignedCorim(signedCorim({ privateKey: P256.privateKey, ...changes }), {
    keys,
    nowMs,
  })
}

const codesOf = ({ findings }: CorimVerdict) => failures(findings).map(({ code }) => code)

describe('a signed manifest', () => {
  test.each([
    ['ES256', -7, P256],
    ['ES384', -35, P384],
    ['PS256', -37, RSA],
    ['EdDSA', -8, ED25519],
  ])('is accepted with %s', (name, algorithm, { privateKey }) => {
    const verdict = verified({ algorithm, privateKey })
    expect(codesOf(verdict)).toEqual([])
    expect(verdict.findings).toContainEqual({ check: 'corim.algorithm', ok: true, found: name })
    expect(verdict.manifest).toEqual(parseCorim(corim([ONE_STATE])))
    expect(verdict.signer?.meta).toEqual({
      name: 'ACME Ltd.',
      uri: 'https://acme.example',
      notBeforeMs: Date.parse('2026-01-01'),
      notAfterMs: Date.parse('2027-01-01'),
    })
  })

  test('is accepted inside the outer tags of older drafts', () => {
    const signed = signedCorim({ privateKey: P256.privateKey })
    const older = new Uint8Array([0xd9, 0x01, 0xf4, 0xd9, 0x01, 0xf6, ...signed])
    expect(verifySignedCorim(older, { keys: ALL, nowMs: NOW_MS }).manifest).toBeDefined()
  })

  test('may name its signer by CWT claims instead, or by both where they say the same', () => {
    const claims = map({ 1: 'ACME Ltd.', 2: 'x', 4: 1_798_761_600, 5: 1_767_225_600 })
    for (const headers of [{ 8: undefined, 15: claims }, { 15: claims }]) {
      const verdict = verified({ headers })
      expect(codesOf(verdict)).toEqual([])
      expect(verdict.signer?.claims?.name).toBe('ACME Ltd.')
    }
  })

  test('may have unprotected headers, which bear no trust', () => {
    const verdict = verified({ unprotected: map({ 4: Uint8Array.of(1), 258: 5 }) })
    expect(codesOf(verdict)).toEqual([])
    expect(verdict.signer?.kid).toBeUndefined()
  })

  test('may have critical headers that are understood', () => {
    const verdict = verified({ headers: { 2: [8, 4], 4: Uint8Array.of(7) } })
    expect(codesOf(verdict)).toEqual([])
    expect(verdict.signer?.kid).toEqual(Uint8Array.of(7))
  })
})

describe('a manifest is not accepted', () => {
  test('where it is unsigned', () => {
    const verdict = verifySignedCorim(corim([ONE_STATE]), { keys: ALL, nowMs: NOW_MS })
    expect(codesOf(verdict)).toEqual(['CORIM_UNSIGNED'])
    expect(verdict).toEqual({ findings: verdict.findings })
  })

  test.each<[string, string, Partial<Signing>]>([
    [
      'signed by another key',
      'CORIM_SIGNATURE',
      { privateKey: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey },
    ],
    ['signed with ES256 by P-384', 'CORIM_SIGNATURE', { privateKey: P384.privateKey }],
    ['signed with an unknown algorithm', 'CORIM_ALGORITHM', { algorithm: -36 }],
    ['signed with RSASSA-PKCS1-v1_5', 'CORIM_ALGORITHM', { algorithm: -257 }],
    ['with a MAC algorithm', 'CORIM_ALGORITHM', { algorithm: 5 }],
    ['with an algorithm by name', 'CORIM_ALGORITHM', { headers: { 1: 'ES256' } }],
    ['without content type', 'CORIM_CONTENT_TYPE', { headers: { 3: undefined } }],
    [
      'with another content type',
      'CORIM_CONTENT_TYPE',
      { headers: { 3: 'application/corim-unsigned+cbor' } },
    ],
    ['with a content type by number', 'CORIM_CONTENT_TYPE', { headers: { 3: 60 } }],
    [
      'as a hash envelope',
      'CORIM_CONTENT_TYPE',
      { headers: { 3: undefined, 258: -16, 259: 'application/rim+cbor' } },
    ],
    ['with an unknown critical header', 'CORIM_CRITICAL', { headers: { 2: [99], 99: 1 } }],
    ['with a detached payload', 'CORIM_PAYLOAD', { payload: null }],
    ['without a signer', 'CORIM_META', { headers: { 8: undefined } }],
    [
      'with two signers',
      'CORIM_META',
      { headers: { 15: map({ 1: 'Other Ltd.', 4: 1_798_761_600, 5: 1_767_225_600 }) } },
    ],
    [
      'with two ends',
      'CORIM_META',
      { headers: { 15: map({ 1: 'ACME Ltd.', 4: 1_798_761_601, 5: 1_767_225_600 }) } },
    ],
    [
      'that expired',
      'CORIM_EXPIRED',
      { payload: corim([ONE_STATE], { 4: map({ 1: time('2026-11-23') }) }) },
    ],
    [
      'that is not valid yet',
      'CORIM_NOT_YET_VALID',
      { payload: corim([ONE_STATE], { 4: map({ 0: time('2026-11-25'), 1: time('2027-01-01') }) }) },
    ],
    [
      'with a certificate that is none',
      'CORIM_CERTIFICATE',
      { headers: { 33: Uint8Array.of(0x30, 0) } },
    ],
  ])('%s', (_, code, changes) => {
    const verdict = verified(changes)
    expect(codesOf(verdict)).toContain(code)
    expect(verdict.manifest).toBeUndefined()
  })

  test('after the end of its signature, and before its beginning', () => {
    expect(codesOf(verified({}, Date.parse('2027-01-01T00:00:00.001Z')))).toEqual(['CORIM_EXPIRED'])
    expect(codesOf(verified({}, Date.parse('2025-12-31')))).toEqual(['CORIM_NOT_YET_VALID'])
    expect(codesOf(verified({}, Date.parse('2027-01-01')))).toEqual([])
  })

  test('where no key is trusted', () => {
    expect(codesOf(verified({}, NOW_MS, []))).toEqual(['CORIM_SIGNATURE'])
  })

  test('where an algorithm stands in the unprotected headers alone', () => {
    const octets = signedCorim({
      privateKey: P256.privateKey,
      headers: { 1: undefined },
      unprotected: map({ 1: -7 }),
    })
    expect(() => verifySignedCorim(octets, { keys: ALL, nowMs: NOW_MS })).toThrow(
      expect.objectContaining({ code: 'CORIM_VALUE' }),
    )
  })

  test('with the signature of ES256 in DER', () => {
    const octets = signedCorim({ privateKey: P256.privateKey })
    const tag = parseCbor(octets, CORIM_LIMITS)
    if (!(tag instanceof CborTag) || !Array.isArray(tag.item)) throw new TypeError('not COSE')
    const [headers, unprotected, payload] = tag.item
    const der = cbor(tagged(18, [headers, unprotected, payload, new Uint8Array(70).fill(0x30)]))
    expect(codesOf(verifySignedCorim(der, { keys: ALL, nowMs: NOW_MS }))).toEqual([
      'CORIM_SIGNATURE',
    ])
  })
})

describe('a certificate in the headers', () => {
  const made = (async () => {
    const authority = await createAuthority({
      commonName: 'lab',
      keyType: 'p256',
      validityDays: 10,
      now: NOW_MS,
    })
    return issueServerCertificate(authority, {
      dnsNames: ['signer'],
      ipAddresses: [],
      validityDays: 5,
      now: NOW_MS,
    })
  })()
  const signing = async () => {
    const { certificatePem, privateKeyPem } = await made
    const privateKey = createPrivateKey(privateKeyPem)
    return {
      privateKey,
      der: new Uint8Array(new X509Certificate(certificatePem).raw),
      keys: [readCorimKey(publicPem(createPublicKey(privateKeyPem)))],
    }
  }

  test('is told, and may be the first of a chain', async () => {
    const { privateKey, der, keys } = await signing()
    for (const chain of [der, [der, Uint8Array.of(1, 2)]]) {
      const octets = signedCorim({ privateKey, headers: { 33: chain } })
      const verdict = verifySignedCorim(octets, { keys, nowMs: NOW_MS })
      expect(codesOf(verdict)).toEqual([])
      expect(readCorimSigner(octets).certificates[0]).toEqual(der)
    }
  })

  test('is refused where it is of another key', async () => {
    const { der } = await signing()
    const verdict = verified({ headers: { 33: der } })
    expect(codesOf(verdict)).toEqual(['CORIM_CERTIFICATE'])
    expect(verdict.manifest).toBeUndefined()
  })

  test('is refused outside its dates', async () => {
    const { privateKey, der, keys } = await signing()
    const octets = signedCorim({ privateKey, headers: { 33: der } })
    for (const nowMs of [NOW_MS - 86_400_000, NOW_MS + 6 * 86_400_000]) {
      const verdict = verifySignedCorim(octets, { keys, nowMs })
      expect(codesOf(verdict)).toEqual(['CORIM_CERTIFICATE'])
    }
  })
})

test.each<[string, Partial<Signing>]>([
  ['a header in both maps', { unprotected: map({ 3: 'application/rim+cbor' }) }],
  ['unprotected headers that are no map', { unprotected: [] }],
  ['an empty list of critical headers', { headers: { 2: [] } }],
  ['a critical header that is not there', { headers: { 2: [99] } }],
  ['a key id that is text', { headers: { 4: 'kid' } }],
  ['a key id of 257 octets', { headers: { 4: new Uint8Array(257) } }],
  ['an empty chain', { headers: { 33: [] } }],
  ['a chain of eleven', { headers: { 33: Array.from({ length: 11 }, () => Uint8Array.of(0)) } }],
  ['a certificate of 16 KiB and one octet', { headers: { 33: new Uint8Array(16_385) } }],
  ['a signer without name', { headers: { 8: cbor(map({ 0: map({ 1: uri('tag:a') }) })) } }],
  ['a signer with an unknown member', { headers: { 8: cbor(map({ 0: map({ 0: 'A', 2: 1 }) })) } }],
  ['claims without issuer', { headers: { 15: map({ 4: 1 }) } }],
  ['claims with an end that is text', { headers: { 15: map({ 1: 'A', 4: '2027' }) } }],
])('cannot be read with %s', (_, changes) => {
  expect(() => verified(changes)).toThrow(expect.objectContaining({ code: 'CORIM_VALUE' }))
})

test.each<[string, string, Uint8Array]>([
  ['is no manifest', 'CORIM_TYPE', cbor('text')],
  ['is a signed manifest', 'CORIM_TYPE', signedCorim({ privateKey: P256.privateKey })],
  [
    'has a profile that is not understood',
    'CORIM_PROFILE',
    corim([ONE_STATE], { 3: uri('tag:a') }),
  ],
  ['is not CBOR', 'CORIM_CBOR', Uint8Array.of(0xff)],
])('a payload that %s is refused although it is signed', (_, code, payload) => {
  expect(() => verified({ payload })).toThrow(expect.objectContaining({ code }))
})

test('a payload is not read before its signature was verified', () => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  expect(codesOf(verified({ privateKey, payload: Uint8Array.of(0xff) }))).toEqual([
    'CORIM_SIGNATURE',
  ])
})

test('every flipped bit of a signed manifest is refused', () => {
  const octets = signedCorim({ privateKey: ED25519.privateKey, algorithm: -8 })
  const keys = [readCorimKey(publicPem(ED25519.publicKey))]
  expect(verifySignedCorim(octets, { keys, nowMs: NOW_MS }).manifest).toBeDefined()
  for (let bit = 0; bit < octets.length * 8; bit += 1) {
    const flipped = Uint8Array.from(octets)
    flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7))
    let accepted: unknown
    try {
      accepted = verifySignedCorim(flipped, { keys, nowMs: NOW_MS }).manifest
    } catch (error) {
      expect(error).toHaveProperty('code', expect.stringMatching(/^CORIM_/))
    }
    expect(accepted, `bit ${bit}`).toBeUndefined()
  }
})

test('the signature of RFC 9052, appendix C.2.1, is verified', () => {
  const cose = fromHex(
    'd28443a10126a10442313154546869732069732074686520636f6e74656e742e58408eb33e4ca31d1c465ab05aac34cc6b23d58fef5c083106c4d25a91aef0b0117e2af9a291aa32e14ab834dc56ed2a223444547e01f11d3b0916e5a4c345cacb36',
  )
  const coordinate = (hex: string) => Buffer.from(hex, 'hex').toString('base64url')
  const key = createPublicKey({
    format: 'jwk',
    key: {
      kty: 'EC',
      crv: 'P-256',
      x: coordinate('bac5b11cad8f99f9c72b05cf4b9e26d244dc189f745228255a219a86d6a09eff'),
      y: coordinate('20138bf82dc1b6d562be0fa54ab7804a3a64b6d72ccfed6b6fb6ed28bbfc117e'),
    },
  })
  const tag = parseCbor(cose, CORIM_LIMITS)
  if (!(tag instanceof CborTag)) throw new TypeError('no tag')
  const signed = parseSignedCorim(tag.item, CORIM_LIMITS)
  expect(findSigningKey(signed, [key])).toBe(key)
  expect(findSigningKey({ ...signed, payload: Uint8Array.of(0) }, [key])).toBeUndefined()
})

test('payloads of every length of head are signed as they are', () => {
  for (const octets of [0, 23, 24, 255, 256, 65_535, 65_536]) {
    const payload = new Uint8Array(octets).fill(0xff)
    const signature = () => verified({ payload })
    // the payload is no manifest, which is found only after its signature was good
    expect(signature).toThrow(expect.objectContaining({ code: 'CORIM_CBOR' }))
  }
})

describe('a key', () => {
  test.each([
    ['private', P256.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()],
    ['of P-521', publicPem(generateKeyPairSync('ec', { namedCurve: 'P-521' }).publicKey)],
    ['of X25519', publicPem(generateKeyPairSync('x25519').publicKey)],
    [
      'of RSA with 1024 bits',
      publicPem(generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey),
    ],
    ['without text', ''],
    ['that is none', '-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n'],
  ])('%s is refused', (_, pem) => {
    expect(() => readCorimKey(pem)).toThrow(expect.objectContaining({ code: 'CORIM_KEY' }))
  })
})

test('the signer of an unsigned manifest cannot be read', () => {
  expect(() => readCorimSigner(corim([ONE_STATE]))).toThrow(
    expect.objectContaining({ code: 'CORIM_TYPE' }),
  )
})

test('an unsigned manifest has dates too', () => {
  const octets = cbor(tagged(501, corimMap([ONE_STATE], { 4: map({ 1: time('2026-01-01') }) })))
  expect(verifyCorimValidity(parseCorim(octets), NOW_MS)).toMatchObject({ code: 'CORIM_EXPIRED' })
  expect(verifyCorimValidity(parseCorim(corim([ONE_STATE])), NOW_MS).ok).toBe(true)
})
