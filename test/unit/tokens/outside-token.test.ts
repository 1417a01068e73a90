import { exportJWK, generateKeyPair, SignJWT, UnsecuredJWT } from 'jose'
import { beforeAll, expect, test } from 'vitest'
import { type OutsideKeys, readOutsideKeys, verifyOutsideToken } from '../../../src/tokens/index.js'

const NOW = 1_800_000_000
const EXPECTED = {
  ...{ issuer: 'https://login.example', audience: 'sigillo', nowSeconds: NOW, skewSeconds: 30 },
  algorithms: ['ES256', 'RS256'] as const,
  maxLifetimeSeconds: 3600,
  claims: new Map([['tenant', 'kvm']]),
}

let keys: OutsideKeys
let pair: Awaited<ReturnType<typeof generateKeyPair>>
let other: Awaited<ReturnType<typeof generateKeyPair>>

beforeAll(async () => {
  pair = await generateKeyPair('ES256', { extractable: true })
  other = await generateKeyPair('ES256')
  const jwk = await exportJWK(pair.publicKey)
  keys = readOutsideKeys({
    keys: [
      { ...jwk, kid: 'a' },
      { ...jwk, kid: 'b', alg: 'ES384' },
    ],
  })
})

const claims = (changes: object = {}) => ({
  ...{ iss: EXPECTED.issuer, aud: ['sigillo'], sub: 's', iat: NOW, exp: NOW + 300, tenant: 'kvm' },
  ...changes,
})
const token = (changes: object = {}, header: object = {}, by = pair.privateKey) =>
  new SignJWT(claims(changes)).setProtectedHeader({ alg: 'ES256', kid: 'a', ...header }).sign(by)

test('a token with everything as it is to be gives its claims', async () => {
  expect(await verifyOutsideToken(await token(), keys, EXPECTED)).toMatchObject({ sub: 's' })
})

test.each<[claim: string, code: string, make: () => Promise<string> | string]>([
  ['no signature', 'TOKEN_ALGORITHM', () => new UnsecuredJWT(claims()).encode()],
  ['an algorithm that is not allowed', 'TOKEN_ALGORITHM', () => hmac()],
  ['a key of another algorithm', 'TOKEN_ALGORITHM', () => token({}, { kid: 'b' })],
  ['a key that is not there', 'TOKEN_KEY_UNKNOWN', () => token({}, { kid: 'c' })],
  ['no key', 'TOKEN_KEY_UNKNOWN', () => token({}, { kid: undefined })],
  ['a signature by another key', 'TOKEN_SIGNATURE', () => token({}, {}, other.privateKey)],
  ['another type', 'TOKEN_TYPE', () => token({}, { typ: 'logout+jwt' })],
  ['another issuer', 'TOKEN_ISSUER', () => token({ iss: 'https://login.example/' })],
  ['another audience', 'TOKEN_AUDIENCE', () => token({ aud: 'other' })],
  ['an end before now', 'TOKEN_EXPIRED', () => token({ iat: NOW - 300, exp: NOW - 30 })],
  ['a beginning after now', 'TOKEN_NOT_YET_VALID', () => token({ nbf: NOW + 31 })],
  ['made after now', 'TOKEN_NOT_YET_VALID', () => token({ iat: NOW + 31 })],
  ['a life that is too long', 'TOKEN_LIFETIME', () => token({ exp: NOW + 3601 })],
  ['no subject', 'TOKEN_CLAIMS', () => token({ sub: undefined })],
  ['an empty subject', 'TOKEN_CLAIMS', () => token({ sub: '' })],
  ['no end', 'TOKEN_CLAIMS', () => token({ exp: undefined })],
  ['a claim that says otherwise', 'TOKEN_CLAIMS', () => token({ tenant: 'other' })],
  ['text that is no token', 'TOKEN_MALFORMED', () => 'a.b.c'],
  ['more than a token has', 'TOKEN_TOO_LARGE', () => token({ more: 'x'.repeat(16_384) })],
])('a token with %s is refused: %s', async (_, code, make) => {
  await expect(verifyOutsideToken(await make(), keys, EXPECTED)).rejects.toMatchObject({ code })
})

test('a key set with a key twice, or too many, is not read; secrets and keys to encrypt are left out', async () => {
  const jwk = await exportJWK(pair.publicKey)
  const twice = {
    keys: [
      { ...jwk, kid: 'a' },
      { ...jwk, kid: 'a' },
    ],
  }
  const many = { keys: Array.from({ length: 65 }, (_, at) => ({ ...jwk, kid: String(at) })) }
  for (const set of [twice, many, {}, [], undefined, { keys: ['a'] }]) {
    expect(() => readOutsideKeys(set)).toThrow(
      expect.objectContaining({ code: 'TOKEN_KEY_INVALID' }),
    )
  }
  const odd = [{ kty: 'oct', k: 'c2VjcmV0', kid: 'o' }, { ...jwk, kid: 'e', use: 'enc' }, jwk]
  expect(readOutsideKeys({ keys: odd }).size).toBe(0)
})

function hmac(): Promise<string> {
  const secret = new TextEncoder().encode('the public key, say, of the provider')
  return new SignJWT(claims()).setProtectedHeader({ alg: 'HS256', kid: 'a' }).sign(secret)
}
