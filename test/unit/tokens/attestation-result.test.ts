import { createHmac, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { beforeAll, describe, expect, test } from 'vitest'
import {
  type AttestationResultExpectations,
  exportSigningKey,
  generateSigningKey,
  importJwks,
  peekAttestationResult,
  publicJwks,
  type SigningKey,
  signAttestationResult,
  type VerificationKeys,
  verifyAttestationResult,
} from '../../../src/tokens/index.js'
import { AUDIENCE, ecKey, forge, goodClaims, ISSUER, importPkcs8, NOW, part } from './forge.js'

let key: SigningKey
let raw: KeyObject
let jwks: VerificationKeys
let good: string

beforeAll(async () => {
  key = await generateSigningKey()
  raw = importPkcs8(await exportSigningKey(key))
  jwks = await importJwks(publicJwks([key]))
  good = await signAttestationResult(goodClaims(), key)
})

function verify(token: string, changes: Partial<AttestationResultExpectations> = {}) {
  return verifyAttestationResult(token, {
    jwks,
    issuer: ISSUER,
    audience: AUDIENCE,
    nowSeconds: NOW,
    skewSeconds: 5,
    ...changes,
  })
}

const header = () => ({ alg: 'ES256', kid: key.kid, typ: 'attest-result+jwt' })
const forged = (claims: object | string, changes: object = {}) =>
  forge({ ...header(), ...changes }, claims, raw)
const without = (name: string) => {
  const claims: Record<string, unknown> = goodClaims()
  delete claims[name]
  return claims
}
const deeper = (changes: object) => ({
  ...goodClaims(),
  sigillo: { ...goodClaims().sigillo, ...changes },
})

test('a token that the service signs gives its claims back', async () => {
  expect(await verify(good)).toEqual(goodClaims())
})

test('a token with a binding key fits well below the size limit', async () => {
  const sigillo = {
    ...goodClaims().sigillo,
    base_image: 'debian-12',
    binding_key: {
      name: 'A'.repeat(46),
      public: 'A'.repeat(600),
      spki: 'A'.repeat(400),
      pcr_bank: 'sha256' as const,
      pcrs: [0, 4, 7],
    },
    checks: Array.from({ length: 40 }, (_, i) => ({ check: `quote.check-${i}`, ok: true })),
  }
  const token = await signAttestationResult(goodClaims({ sigillo }), key)
  expect(token.length).toBeLessThan(6000)
  expect((await verify(token)).sigillo.binding_key?.pcrs).toEqual([0, 4, 7])
})

test('a token names its issuer and key before it is verified', () => {
  expect(peekAttestationResult(good)).toEqual({
    issuer: ISSUER,
    kid: key.kid,
    claims: goodClaims(),
  })
})

test.each([
  ['P-384', 'ES384', 'sha384'],
  ['Ed25519', 'EdDSA', null],
] as const)('a token of an issuer with a key on %s is accepted', async (kind, alg, digest) => {
  const { privateKey, publicKey } =
    kind === 'Ed25519'
      ? generateKeyPairSync('ed25519')
      : generateKeyPairSync('ec', { namedCurve: kind })
  const keys = await importJwks({ keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'k' }] })
  const token = forge({ ...header(), alg, kid: 'k' }, goodClaims(), privateKey, digest)
  expect((await verify(token, { jwks: keys })).sub).toBe('host-1')
})

describe('attacks on the form of a token', () => {
  const attacks: readonly (readonly [claim: string, code: string, make: () => string])[] = [
    ['empty text', 'TOKEN_MALFORMED', () => ''],
    ['two parts', 'TOKEN_MALFORMED', () => good.split('.').slice(0, 2).join('.')],
    ['four parts', 'TOKEN_MALFORMED', () => `${good}.`],
    ['a space at the end', 'TOKEN_MALFORMED', () => `${good} `],
    ['a line end at the end', 'TOKEN_MALFORMED', () => `${good}\n`],
    ['padding', 'TOKEN_MALFORMED', () => `${good}==`],
    ['stray bits in the signature', 'TOKEN_MALFORMED', () => respell(good)],
    ['base64 instead of base64url', 'TOKEN_MALFORMED', () => `${good.slice(0, -1)}+`],
    ['more than 8 KiB', 'TOKEN_TOO_LARGE', () => good + 'A'.repeat(8192)],
    ['a megabyte of dots', 'TOKEN_TOO_LARGE', () => '.'.repeat(1_000_000)],
    ['a header that is no object', 'TOKEN_MALFORMED', () => forge('[]', goodClaims(), raw)],
    ['a header that is no JSON', 'TOKEN_MALFORMED', () => forge('{', goodClaims(), raw)],
    [
      'a header member twice',
      'TOKEN_MALFORMED',
      () => forge(`{"alg":"none",${JSON.stringify(header()).slice(1)}`, goodClaims(), raw),
    ],
    ['jku', 'TOKEN_MALFORMED', () => forged(goodClaims(), { jku: 'https://evil.example' })],
    ['x5u', 'TOKEN_MALFORMED', () => forged(goodClaims(), { x5u: 'https://evil.example' })],
    ['x5c', 'TOKEN_MALFORMED', () => forged(goodClaims(), { x5c: ['AAAA'] })],
    ['crit', 'TOKEN_MALFORMED', () => forged(goodClaims(), { crit: ['exp'], exp: 1 })],
    ['b64 false', 'TOKEN_MALFORMED', () => forged(goodClaims(), { crit: ['b64'], b64: false })],
    ['zip', 'TOKEN_MALFORMED', () => forged(goodClaims(), { zip: 'DEF' })],
    ['no typ', 'TOKEN_MALFORMED', () => forge({ alg: 'ES256', kid: key.kid }, goodClaims(), raw)],
    ['typ JWT', 'TOKEN_TYPE', () => forged(goodClaims(), { typ: 'JWT' })],
    ['typ in capitals', 'TOKEN_TYPE', () => forged(goodClaims(), { typ: 'ATTEST-RESULT+JWT' })],
    ['the type of a proof', 'TOKEN_TYPE', () => forged(goodClaims(), { typ: 'dpop+jwt' })],
    ['a kid that is no text', 'TOKEN_MALFORMED', () => forged(goodClaims(), { kid: [key.kid] })],
    ['a kid of a path', 'TOKEN_KEY_UNKNOWN', () => forged(goodClaims(), { kid: '../../dev/null' })],
    ['the kid __proto__', 'TOKEN_KEY_UNKNOWN', () => forged(goodClaims(), { kid: '__proto__' })],
    ['an empty kid', 'TOKEN_KEY_UNKNOWN', () => forged(goodClaims(), { kid: '' })],
    ['alg none', 'TOKEN_ALGORITHM', () => unsigned('none')],
    ['alg None', 'TOKEN_ALGORITHM', () => unsigned('None')],
    ['alg of a number', 'TOKEN_ALGORITHM', () => forged(goodClaims(), { alg: 0 })],
    [
      'another algorithm of the list',
      'TOKEN_ALGORITHM',
      () => forged(goodClaims(), { alg: 'ES384' }),
    ],
    ['EdDSA for an EC key', 'TOKEN_ALGORITHM', () => forged(goodClaims(), { alg: 'EdDSA' })],
    ['HMAC with the public key as secret', 'TOKEN_ALGORITHM', () => hmacByPublicKey()],
    ['a key of the attacker in the header', 'TOKEN_MALFORMED', () => embeddedKey()],
    ['a signature of zeros', 'TOKEN_SIGNATURE', () => resign(good, Buffer.alloc(64))],
    ['an empty signature', 'TOKEN_SIGNATURE', () => resign(good, Buffer.alloc(0))],
    ['a signature in DER', 'TOKEN_SIGNATURE', () => resign(good, Buffer.alloc(70, 0x30))],
    [
      'the signature of another key',
      'TOKEN_SIGNATURE',
      () => forge(header(), goodClaims(), ecKey().privateKey),
    ],
    ['other claims under the old signature', 'TOKEN_SIGNATURE', () => swapClaims()],
    ['a bit of the signature flipped', 'TOKEN_SIGNATURE', () => flipped()],
  ]

  test.each(attacks)('refuses %s with %s', async (_, code, make) => {
    await expect(verify(make())).rejects.toMatchObject({ name: 'TokenError', code })
  })
})

describe('attacks on the claims of a token', () => {
  const attacks: readonly (readonly [claim: string, code: string, make: () => object | string])[] =
    [
      ['claims that are no object', 'TOKEN_MALFORMED', () => '[]'],
      [
        'a claim twice',
        'TOKEN_MALFORMED',
        () => `{"sub":"host-2",${JSON.stringify(goodClaims()).slice(1)}`,
      ],
      [
        '__proto__',
        'TOKEN_MALFORMED',
        () => `{"__proto__":{},${JSON.stringify(goodClaims()).slice(1)}`,
      ],
      ['claims nested deep', 'TOKEN_MALFORMED', () => `{"a":${'['.repeat(50)}${']'.repeat(50)}}`],
      ['no cnf: a bearer token', 'TOKEN_UNBOUND', () => without('cnf')],
      ['cnf null', 'TOKEN_CLAIMS', () => ({ ...goodClaims(), cnf: null })],
      ['an empty cnf', 'TOKEN_CLAIMS', () => ({ ...goodClaims(), cnf: {} })],
      [
        'cnf with a key instead of a thumbprint',
        'TOKEN_CLAIMS',
        () => ({ ...goodClaims(), cnf: { jwk: {} } }),
      ],
      ['a short thumbprint', 'TOKEN_CLAIMS', () => ({ ...goodClaims(), cnf: { jkt: 'AAAA' } })],
      ['no iss', 'TOKEN_CLAIMS', () => without('iss')],
      ['no aud', 'TOKEN_CLAIMS', () => without('aud')],
      ['aud as text', 'TOKEN_CLAIMS', () => ({ ...goodClaims(), aud: AUDIENCE })],
      ['an empty aud', 'TOKEN_CLAIMS', () => ({ ...goodClaims(), aud: [] })],
      ['no sub', 'TOKEN_CLAIMS', () => without('sub')],
      ['a sub that is no name', 'TOKEN_CLAIMS', () => ({ ...goodClaims(), sub: '../host-1' })],
      ['a sub in capitals', 'TOKEN_CLAIMS', () => ({ ...goodClaims(), sub: 'HOST-1' })],
      ['no jti', 'TOKEN_CLAIMS', () => without('jti')],
      ['a short jti', 'TOKEN_CLAIMS', () => ({ ...goodClaims(), jti: '1' })],
      ['no exp', 'TOKEN_CLAIMS', () => without('exp')],
      ['exp as text', 'TOKEN_CLAIMS', () => ({ ...goodClaims(), exp: `${NOW + 300}` })],
      ['exp with a fraction', 'TOKEN_CLAIMS', () => ({ ...goodClaims(), exp: NOW + 0.5 })],
      ['no iat', 'TOKEN_CLAIMS', () => without('iat')],
      ['no nbf', 'TOKEN_CLAIMS', () => without('nbf')],
      [
        'exp too large for a number',
        'TOKEN_MALFORMED',
        () => JSON.stringify(goodClaims()).replace(`${NOW + 300}`, '1e999'),
      ],
      [
        'another profile',
        'TOKEN_CLAIMS',
        () => ({ ...goodClaims(), eat_profile: 'tag:sigillo,2026:attestation-result#2' }),
      ],
      [
        'a nonce of 7 characters',
        'TOKEN_CLAIMS',
        () => ({ ...goodClaims(), eat_nonce: 'AAAAAAA' }),
      ],
      [
        'a nonce of 89 characters',
        'TOKEN_CLAIMS',
        () => ({ ...goodClaims(), eat_nonce: 'A'.repeat(89) }),
      ],
      ['an unknown claim', 'TOKEN_CLAIMS', () => ({ ...goodClaims(), admin: true })],
      ['an unknown claim of ours', 'TOKEN_CLAIMS', () => deeper({ admin: true })],
      [
        'an unknown status',
        'TOKEN_CLAIMS',
        () => ({ ...goodClaims(), submods: { host: { ear_status: 'fine' } } }),
      ],
      ['no part that was appraised', 'TOKEN_CLAIMS', () => ({ ...goodClaims(), submods: {} })],
      ['insecure_test as text', 'TOKEN_CLAIMS', () => deeper({ insecure_test: 'false' })],
      ['a negative epoch', 'TOKEN_CLAIMS', () => deeper({ host_epoch: -1 })],
      [
        'a private session key',
        'TOKEN_CLAIMS',
        () => deeper({ session_jwk: { ...goodClaims().sigillo.session_jwk, d: 'A' } }),
      ],
      ['another issuer', 'TOKEN_ISSUER', () => goodClaims({ iss: 'https://other.example' })],
      ['an issuer with a slash more', 'TOKEN_ISSUER', () => goodClaims({ iss: `${ISSUER}/` })],
      ['another audience', 'TOKEN_AUDIENCE', () => goodClaims({ aud: ['https://other.example'] })],
      [
        'an audience that only begins alike',
        'TOKEN_AUDIENCE',
        () => goodClaims({ aud: [`${AUDIENCE}.evil.example`] }),
      ],
      ['a life of 301 s', 'TOKEN_LIFETIME', () => goodClaims({ exp: NOW + 301 })],
      ['a life of a year', 'TOKEN_LIFETIME', () => goodClaims({ exp: NOW + 31_536_000 })],
      ['an end before the start', 'TOKEN_LIFETIME', () => goodClaims({ exp: NOW - 1 })],
      [
        'a life moved back',
        'TOKEN_EXPIRED',
        () => goodClaims({ iat: NOW - 305, nbf: NOW - 305, exp: NOW - 5 }),
      ],
      [
        'iat in the future',
        'TOKEN_NOT_YET_VALID',
        () => goodClaims({ iat: NOW + 6, exp: NOW + 300 }),
      ],
      ['nbf in the future', 'TOKEN_NOT_YET_VALID', () => goodClaims({ nbf: NOW + 6 })],
    ]

  test.each(attacks)('refuses %s with %s, though signed', async (_, code, make) => {
    await expect(verify(forged(make()))).rejects.toMatchObject({ code })
  })
})

test('the clocks may differ by the skew and no more', async () => {
  const times = { iat: NOW - 300, nbf: NOW - 300, exp: NOW - 4 }
  expect((await verify(forged(goodClaims(times)))).exp).toBe(NOW - 4)
  await expect(verify(forged(goodClaims(times)), { skewSeconds: 4 })).rejects.toMatchObject({
    code: 'TOKEN_EXPIRED',
  })
})

test('a message says what was expected and found', async () => {
  const token = forged(goodClaims({ aud: ['https://other.example'] }))
  await expect(verify(token)).rejects.toThrow(
    `expected audience ${AUDIENCE}, found ["https://other.example"]`,
  )
})

test('untrusted text cannot fill a message', async () => {
  const token = forged(goodClaims(), { kid: `\u001b[31m${'k'.repeat(4000)}` })
  const error = await verify(token).catch((thrown: unknown) => thrown)
  expect(String(error).length).toBeLessThan(200)
  expect(String(error)).not.toContain('\u001b')
})

test('a time that is no number is a mistake of ours, not an accepted token', async () => {
  await expect(verify(good, { nowSeconds: Number.NaN })).rejects.toThrow(TypeError)
  await expect(verify(good, { skewSeconds: 61 })).rejects.toThrow(TypeError)
})

test('an issuer cannot sign what no one would accept', async () => {
  for (const claims of [goodClaims({ exp: NOW + 301 }), goodClaims({ sub: 'Not A Name' })]) {
    await expect(signAttestationResult(claims, key)).rejects.toThrow(TypeError)
  }
})

function respell(token: string): string {
  const last = token.at(-1) ?? ''
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
  return token.slice(0, -1) + alphabet[alphabet.indexOf(last) ^ 1]
}

function unsigned(alg: string): string {
  return `${part({ ...header(), alg })}.${part(goodClaims())}.`
}

function hmacByPublicKey(): string {
  const input = `${part({ ...header(), alg: 'HS256' })}.${part(goodClaims())}`
  const mac = createHmac('sha256', JSON.stringify(key.publicJwk)).update(input)
  return `${input}.${mac.digest('base64url')}`
}

function embeddedKey(): string {
  const attacker = ecKey()
  return forge({ ...header(), jwk: attacker.jwk }, goodClaims(), attacker.privateKey)
}

function resign(token: string, signature: Buffer): string {
  return [...token.split('.').slice(0, 2), signature.toString('base64url')].join('.')
}

function swapClaims(): string {
  const [head, , signature] = good.split('.')
  return `${head}.${part(goodClaims({ sub: 'host-2' }))}.${signature}`
}

function flipped(): string {
  const signature = Buffer.from(good.split('.')[2] ?? '', 'base64url')
  signature[10] = (signature[10] ?? 0) ^ 1
  return resign(good, signature)
}
