import { createHash } from 'node:crypto'
import { beforeAll, describe, expect, test } from 'vitest'
import {
  createDpopProof,
  type DpopExpectations,
  generateSessionKeys,
  jwkThumbprint,
  parsePublicJwk,
  type SessionKey,
  verifyDpopProof,
} from '../../../src/tokens/index.js'
import { ecKey, forge, NOW, part, type TestKey } from './forge.js'

const URL = 'https://authority.example:8440/key-provider/v1/providers/main/unwrap'
const TOKEN = 'aaaa.bbbb.cccc'
const ATH = createHash('sha256').update(TOKEN).digest('base64url')

let session: SessionKey
let mine: TestKey
let jkt: string

beforeAll(async () => {
  session = (await generateSessionKeys()).dpop
  mine = ecKey()
  jkt = jwkThumbprint(parsePublicJwk(mine.jwk))
})

function verify(proof: string, changes: Partial<DpopExpectations> = {}) {
  return verifyDpopProof(proof, {
    method: 'POST',
    url: URL,
    accessToken: TOKEN,
    expectedJkt: jkt,
    nowSeconds: NOW,
    maxAgeSeconds: 30,
    ...changes,
  })
}

const header = () => ({ typ: 'dpop+jwt', alg: 'ES256', jwk: mine.jwk })
const claims = (changes: object = {}) => ({
  jti: 'abcdefghijklmnop',
  htm: 'POST',
  htu: URL,
  iat: NOW,
  ath: ATH,
  ...changes,
})
const proof = (claimChanges: object = {}, headerChanges: object = {}) =>
  forge({ ...header(), ...headerChanges }, claims(claimChanges), mine.privateKey)

test('a proof that a host makes is verified, and its identity given for the record', async () => {
  const input = {
    key: session,
    method: 'POST',
    url: `${URL}?a=b#c`,
    accessToken: TOKEN,
    nowSeconds: NOW,
  }
  const made = await createDpopProof(input)
  const expectedJkt = jwkThumbprint(session.publicJwk)
  const verified = await verify(made, { expectedJkt })
  expect(verified).toEqual({
    jti: expect.stringMatching(/^[\w-]{22}$/),
    jkt: expectedJkt,
    iat: NOW,
  })
  const again = await verify(await createDpopProof(input), { expectedJkt })
  expect(again.jti).not.toBe(verified.jti)
})

/** @see RFC 9449, figure 12 */
test('the example of RFC 9449 is verified', async () => {
  const example = [
    'eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUk',
    'lDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUw',
    'Q2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1Ijoia',
    'HR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjo',
    'iZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRi',
    'mPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA',
  ].join('')
  const verified = await verify(example, {
    method: 'GET',
    url: 'https://resource.example.org/protectedresource',
    accessToken: 'Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU',
    expectedJkt: '0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I',
    nowSeconds: 1_562_262_618,
  })
  expect(verified.jti).toBe('e1j3V_bKic8-LAEB')
})

test.each([
  'HTTPS://Authority.Example:8440/key-provider/v1/providers/main/unwrap',
  'https://AUTHORITY.example:08440/key-provider/v1/providers/main/unwrap',
])('scheme, host and port are compared as such: %s', async (htu) => {
  expect((await verify(proof({ htu }))).jti).toBe('abcdefghijklmnop')
})

test('a default port is no port', async () => {
  const htu = 'https://authority.example/a'
  await verify(proof({ htu }), { url: 'https://authority.example:443/a' })
  await verify(proof({ htu: 'http://[::1]:80/a' }), { url: 'http://[::1]/a' })
})

test('a query of the request is left out of the comparison', async () => {
  await verify(proof(), { url: `${URL}?limit=1` })
})

describe('attacks on a proof', () => {
  const attacks: readonly (readonly [claim: string, code: string, make: () => string])[] = [
    ['empty text', 'DPOP_MALFORMED', () => ''],
    ['two proofs in one header', 'DPOP_MALFORMED', () => `${proof()}, ${proof()}`],
    ['more than 4 KiB', 'DPOP_MALFORMED', () => proof() + 'A'.repeat(4096)],
    ['claims that are no object', 'DPOP_MALFORMED', () => forge(header(), '"x"', mine.privateKey)],
    [
      'a claim twice',
      'DPOP_MALFORMED',
      () => forge(header(), `{"htm":"GET",${JSON.stringify(claims()).slice(1)}`, mine.privateKey),
    ],
    ['typ JWT', 'DPOP_TYPE', () => proof({}, { typ: 'JWT' })],
    ['the type of a token', 'DPOP_TYPE', () => proof({}, { typ: 'attest-result+jwt' })],
    ['no typ', 'DPOP_TYPE', () => proof({}, { typ: undefined })],
    ['alg none', 'DPOP_KEY', () => `${part({ ...header(), alg: 'none' })}.${part(claims())}.`],
    ['alg HS256', 'DPOP_KEY', () => proof({}, { alg: 'HS256' })],
    ['alg ES384', 'DPOP_KEY', () => proof({}, { alg: 'ES384' })],
    ['a kid', 'DPOP_MALFORMED', () => proof({}, { kid: 'a' })],
    ['jku', 'DPOP_MALFORMED', () => proof({}, { jku: 'https://evil.example' })],
    ['crit', 'DPOP_MALFORMED', () => proof({}, { crit: ['b64'], b64: false })],
    [
      'no key',
      'DPOP_MALFORMED',
      () => forge({ typ: 'dpop+jwt', alg: 'ES256' }, claims(), mine.privateKey),
    ],
    ['a private key', 'DPOP_KEY', () => proof({}, { jwk: { ...mine.jwk, d: mine.jwk.x } })],
    ['a symmetric key', 'DPOP_KEY', () => proof({}, { jwk: { kty: 'oct', k: 'AAAA' } })],
    [
      'a key off the curve',
      'DPOP_KEY',
      () => proof({}, { jwk: { ...mine.jwk, x: mine.jwk.y, y: mine.jwk.x } }),
    ],
    ['the key of another host', 'DPOP_KEY', () => byAnother()],
    [
      'the right key named, another signing',
      'DPOP_SIGNATURE',
      () => forge(header(), claims(), ecKey().privateKey),
    ],
    ['other claims under the old signature', 'DPOP_SIGNATURE', () => swapped()],
    ['no signature', 'DPOP_SIGNATURE', () => `${part(header())}.${part(claims())}.`],
    ['another method', 'DPOP_METHOD', () => proof({ htm: 'GET' })],
    ['the method in small letters', 'DPOP_METHOD', () => proof({ htm: 'post' })],
    ['another path', 'DPOP_URI', () => proof({ htu: URL.replace('unwrap', 'wrap') })],
    ['another host', 'DPOP_URI', () => proof({ htu: URL.replace('authority', 'evil') })],
    ['another port', 'DPOP_URI', () => proof({ htu: URL.replace('8440', '8441') })],
    ['http for https', 'DPOP_URI', () => proof({ htu: URL.replace('https', 'http') })],
    [
      'a user in the URI',
      'DPOP_URI',
      () => proof({ htu: URL.replace('//', '//authority.example@') }),
    ],
    ['dot segments', 'DPOP_URI', () => proof({ htu: URL.replace('/main/', '/main/x/../') })],
    ['an escaped slash', 'DPOP_URI', () => proof({ htu: URL.replace('main/', 'main%2f') })],
    ['an escaped letter', 'DPOP_URI', () => proof({ htu: URL.replace('main', '%6dain') })],
    ['a slash at the end', 'DPOP_URI', () => proof({ htu: `${URL}/` })],
    ['two slashes', 'DPOP_URI', () => proof({ htu: URL.replace('/main', '//main') })],
    ['a backslash', 'DPOP_URI', () => proof({ htu: URL.replace('/main', '\\main') })],
    ['a line end', 'DPOP_URI', () => proof({ htu: `${URL}\n` })],
    ['a query', 'DPOP_URI', () => proof({ htu: `${URL}?a` })],
    ['a fragment', 'DPOP_URI', () => proof({ htu: `${URL}#a` })],
    ['no URI', 'DPOP_URI', () => proof({ htu: ['a'] })],
    ['a proof of 31 s ago', 'DPOP_TIME', () => proof({ iat: NOW - 31 })],
    ['a proof of 31 s ahead', 'DPOP_TIME', () => proof({ iat: NOW + 31 })],
    ['iat as text', 'DPOP_TIME', () => proof({ iat: `${NOW}` })],
    ['iat with a fraction', 'DPOP_TIME', () => proof({ iat: NOW + 0.5 })],
    [
      'the hash of another token',
      'DPOP_TOKEN_HASH',
      () => proof({ ath: createHash('sha256').update('x').digest('base64url') }),
    ],
    [
      'a hash in hexadecimal',
      'DPOP_TOKEN_HASH',
      () => proof({ ath: createHash('sha256').update(TOKEN).digest('hex') }),
    ],
    ['no hash', 'DPOP_MALFORMED', () => proof({ ath: undefined })],
    ['no jti', 'DPOP_MALFORMED', () => proof({ jti: undefined })],
    ['a jti of 15 characters', 'DPOP_MALFORMED', () => proof({ jti: 'a'.repeat(15) })],
    ['a jti of 129 characters', 'DPOP_MALFORMED', () => proof({ jti: 'a'.repeat(129) })],
    ['a jti with a space', 'DPOP_MALFORMED', () => proof({ jti: 'abcdefgh ijklmnop' })],
    ['an unknown claim', 'DPOP_MALFORMED', () => proof({ nonce: 'n' })],
  ]

  test.each(attacks)('refuses %s with %s', async (_, code, make) => {
    await expect(verify(make())).rejects.toMatchObject({ name: 'TokenError', code })
  })
})

test('refuses a key off the curve, even one that a token is bound to', async () => {
  const jwk = { kty: 'EC', crv: 'P-256', x: mine.jwk.y, y: mine.jwk.x } as const
  const expectedJkt = jwkThumbprint(jwk)
  await expect(verify(proof({}, { jwk }), { expectedJkt })).rejects.toMatchObject({
    code: 'DPOP_KEY',
  })
})

test('a window wider than 30 s is a mistake of ours', async () => {
  await expect(verify(proof(), { maxAgeSeconds: 31 })).rejects.toThrow(TypeError)
  await expect(verify(proof(), { nowSeconds: Number.NaN })).rejects.toThrow(TypeError)
})

function byAnother(): string {
  const other = ecKey()
  return forge({ ...header(), jwk: other.jwk }, claims(), other.privateKey)
}

function swapped(): string {
  const [head, , signature] = proof().split('.')
  return `${head}.${part(claims({ jti: 'ponmlkjihgfedcba' }))}.${signature}`
}
