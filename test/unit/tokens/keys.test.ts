import { generateKeyPairSync } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import {
  exportSigningKey,
  generateSessionKeys,
  generateSigningKey,
  importJwks,
  importSigningKey,
  jwkThumbprint,
  parsePublicJwk,
  publicJwks,
} from '../../../src/tokens/index.js'
import { ecKey } from './forge.js'

test.each(['ES256', 'ES384', 'EdDSA'] as const)(
  'a signing key of %s survives export and import with its kid',
  async (alg) => {
    const key = await generateSigningKey(alg)
    const again = await importSigningKey(await exportSigningKey(key))
    expect(again).toMatchObject({ kid: key.kid, alg, publicJwk: key.publicJwk })
    expect((await importJwks(publicJwks([key]))).get(key.kid)?.alg).toBe(alg)
  },
)

test('the kid of a key on P-256 is the thumbprint of its public half', async () => {
  const { kid, publicJwk } = await generateSigningKey()
  expect(kid).toBe(jwkThumbprint(parsePublicJwk(publicJwk)))
})

test('a published key set holds public halves only', async () => {
  const key = await generateSigningKey()
  const { keys } = publicJwks([key])
  expect(Object.keys(keys[0] ?? {}).sort()).toEqual(['alg', 'crv', 'kid', 'kty', 'use', 'x', 'y'])
  expect((await importJwks({ keys })).get(key.kid)?.alg).toBe('ES256')
})

test('the keys of a session are two and cannot be exported', async () => {
  const { dpop, session } = await generateSessionKeys()
  expect(dpop.publicJwk).not.toEqual(session.publicJwk)
  expect([dpop.privateKey.extractable, session.privateKey.extractable]).toEqual([false, false])
})

/** @see RFC 9449, figures 2 and 12: the key of the example and `jkt` of its token */
test('the thumbprint of the example of RFC 9449 is the one printed there', async () => {
  const jwk = parsePublicJwk({
    kty: 'EC',
    crv: 'P-256',
    x: 'l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs',
    y: '9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA',
  })
  expect(jwkThumbprint(jwk)).toBe('0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I')
})

test.each([
  ['text', new TextEncoder().encode('no key')],
  ['an RSA key', pkcs8(generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey)],
  ['a key on secp256k1', pkcs8(ecKey('secp256k1').privateKey)],
])('refuses %s as a signing key', async (_, octets) => {
  await expect(importSigningKey(octets)).rejects.toMatchObject({ code: 'TOKEN_KEY_INVALID' })
})

describe('public keys of others', () => {
  const { jwk } = ecKey()
  test.each([
    ['nothing', null],
    ['an array', [jwk]],
    ['a private member', { ...jwk, d: jwk.x }],
    ['an unknown member', { ...jwk, kid: 'a' }],
    ['no y', { kty: 'EC', crv: 'P-256', x: jwk.x }],
    ['a point off the curve', { ...jwk, x: jwk.y, y: jwk.x }],
    ['the point at zero', { ...jwk, x: 'A'.repeat(43), y: 'A'.repeat(43) }],
    ['a short coordinate', { ...jwk, x: jwk.x.slice(0, 42) }],
    ['a padded coordinate', { ...jwk, x: `${jwk.x}=` }],
    ['a coordinate with a leading zero octet', { ...jwk, x: `AA${jwk.x}` }],
    ['a number as coordinate', { ...jwk, x: 1 }],
    ['a key on P-384', ecKey('P-384').jwk],
    ['a key on secp256k1', ecKey('secp256k1').jwk],
    ['a symmetric key', { kty: 'oct', k: 'AAAA' }],
  ])('refuses %s', (_, value) => {
    expect(() => parsePublicJwk(value)).toThrow(
      expect.objectContaining({ code: 'TOKEN_KEY_INVALID' }),
    )
  })
})

describe('key sets', () => {
  const jwk = { ...ecKey().jwk, kid: 'a' }
  test.each([
    ['nothing', undefined],
    ['a list', [jwk]],
    ['no keys', { keys: [] }],
    ['too many keys', { keys: Array.from({ length: 33 }, (_, i) => ({ ...jwk, kid: `k${i}` })) }],
    ['one kid twice', { keys: [jwk, { ...ecKey().jwk, kid: 'a' }] }],
    ['no kid', { keys: [ecKey().jwk] }],
    ['a kid with a line end', { keys: [{ ...jwk, kid: 'a\nb' }] }],
    ['a private key', { keys: [{ ...jwk, d: jwk.x }] }],
    ['a symmetric key', { keys: [{ kty: 'oct', k: 'AAAA', kid: 'a' }] }],
    ['an RSA key', { keys: [{ kty: 'RSA', n: 'AAAA', e: 'AQAB', kid: 'a' }] }],
    ['an algorithm of another kind', { keys: [{ ...jwk, alg: 'ES384' }] }],
    ['a key for encryption', { keys: [{ ...jwk, use: 'enc' }] }],
    ['a point off the curve', { keys: [{ ...jwk, x: jwk.y, y: jwk.x }] }],
    ['text among the keys', { keys: ['a'] }],
  ])('refuses a set with %s', async (_, value) => {
    await expect(importJwks(value)).rejects.toMatchObject({ code: 'TOKEN_KEY_INVALID' })
  })
})

function pkcs8(key: ReturnType<typeof ecKey>['privateKey']): Uint8Array {
  return new Uint8Array(key.export({ format: 'der', type: 'pkcs8' }))
}
