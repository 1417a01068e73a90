import { constants, generateKeyPairSync, privateDecrypt } from 'node:crypto'
import { beforeAll, describe, expect, test } from 'vitest'
import { utf8 } from '../../../src/core/bytes.js'
import {
  decryptSession,
  decryptWithContentKey,
  encryptToBindingKey,
  encryptToSession,
  generateSessionKeys,
  type SessionKeys,
} from '../../../src/tokens/index.js'
import { ecKey, part } from './forge.js'

const PLAINTEXT = utf8('{"keys":[{"item":0,"dek":"AAAA"}]}')

const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
const spki = spkiOf(rsa.publicKey)
let keys: SessionKeys
let toSession: string
let toTpm: string

beforeAll(async () => {
  keys = await generateSessionKeys()
  toSession = await encryptToSession(keys.session.publicJwk, PLAINTEXT)
  toTpm = await encryptToBindingKey(spki, PLAINTEXT)
})

/** What a TPM does with the key: RSA_Decrypt, OAEP with SHA-256, empty label. */
async function unwrap(encryptedKey: Uint8Array): Promise<Uint8Array> {
  const padding = constants.RSA_PKCS1_OAEP_PADDING
  return new Uint8Array(
    privateDecrypt({ key: rsa.privateKey, padding, oaepHash: 'sha256' }, encryptedKey),
  )
}

const openSession = (jwe: string) => decryptSession(jwe, keys.session.privateKey)
const openTpm = (jwe: string) => decryptWithContentKey(jwe, unwrap)

test('an answer to the session key opens with it and with no other', async () => {
  expect(await openSession(toSession)).toEqual(PLAINTEXT)
  const other = await generateSessionKeys()
  await expect(decryptSession(toSession, other.session.privateKey)).rejects.toMatchObject({
    code: 'JWE_DECRYPT',
  })
})

test('an answer to the binding key opens through the key of the TPM', async () => {
  expect(await openTpm(toTpm)).toEqual(PLAINTEXT)
})

test('no two answers are alike', async () => {
  expect(await encryptToSession(keys.session.publicJwk, PLAINTEXT)).not.toBe(toSession)
  expect(await encryptToBindingKey(spki, PLAINTEXT)).not.toBe(toTpm)
})

test('the content key that the TPM gave is zeros afterwards, opened or not', async () => {
  const given: Uint8Array[] = []
  const spy = async (encrypted: Uint8Array) => {
    const key = await unwrap(encrypted)
    given.push(key)
    return key
  }
  await decryptWithContentKey(toTpm, spy)
  await decryptWithContentKey(flip(toTpm, 3), spy).catch(() => undefined)
  expect(given).toEqual([new Uint8Array(32), new Uint8Array(32)])
})

test('a refusal of the TPM keeps its own error', async () => {
  const refusal = new Error('TPM_RC_POLICY_FAIL')
  await expect(decryptWithContentKey(toTpm, () => Promise.reject(refusal))).rejects.toBe(refusal)
})

describe('attacks on an answer to the session key', () => {
  const header = () => headerOf(toSession)
  const epk = () => header()['epk'] as object
  const attacks: readonly (readonly [claim: string, code: string, make: () => string])[] = [
    ['empty text', 'JWE_MALFORMED', () => ''],
    ['three parts', 'JWE_MALFORMED', () => toSession.split('.').slice(0, 3).join('.')],
    ['a megabyte', 'JWE_MALFORMED', () => toSession + 'A'.repeat(1 << 20)],
    ['a short tag', 'JWE_MALFORMED', () => replace(toSession, 4, 'AAAA')],
    ['a long IV', 'JWE_MALFORMED', () => replace(toSession, 2, 'A'.repeat(22))],
    ['an encrypted key', 'JWE_MALFORMED', () => replace(toSession, 1, 'AAAA')],
    ['alg dir', 'JWE_ALGORITHM', () => rehead(toSession, { ...header(), alg: 'dir' })],
    [
      'alg ECDH-ES+A256KW',
      'JWE_ALGORITHM',
      () => rehead(toSession, { ...header(), alg: 'ECDH-ES+A256KW' }),
    ],
    ['alg RSA1_5', 'JWE_ALGORITHM', () => rehead(toSession, { ...header(), alg: 'RSA1_5' })],
    [
      'alg PBES2',
      'JWE_ALGORITHM',
      () => rehead(toSession, { ...header(), alg: 'PBES2-HS256+A128KW', p2c: 1e9, p2s: 'AAAA' }),
    ],
    ['enc A128GCM', 'JWE_ALGORITHM', () => rehead(toSession, { ...header(), enc: 'A128GCM' })],
    [
      'enc A256CBC-HS512',
      'JWE_ALGORITHM',
      () => rehead(toSession, { ...header(), enc: 'A256CBC-HS512' }),
    ],
    ['an answer to a TPM', 'JWE_ALGORITHM', () => toTpm],
    ['zip', 'JWE_MALFORMED', () => rehead(toSession, { ...header(), zip: 'DEF' })],
    ['p2c', 'JWE_MALFORMED', () => rehead(toSession, { ...header(), p2c: 1e9 })],
    ['crit', 'JWE_MALFORMED', () => rehead(toSession, { ...header(), crit: ['x'], x: 1 })],
    ['apu', 'JWE_MALFORMED', () => rehead(toSession, { ...header(), apu: 'AAAA' })],
    ['no epk', 'JWE_MALFORMED', () => rehead(toSession, { alg: 'ECDH-ES', enc: 'A256GCM' })],
    [
      'an epk off the curve',
      'JWE_MALFORMED',
      () => rehead(toSession, { ...header(), epk: { ...epk(), x: 'A'.repeat(43) } }),
    ],
    [
      'an epk on another curve',
      'JWE_MALFORMED',
      () => rehead(toSession, { ...header(), epk: ecKey('P-384').jwk }),
    ],
    [
      'a private epk',
      'JWE_MALFORMED',
      () => rehead(toSession, { ...header(), epk: { ...epk(), d: 'A'.repeat(43) } }),
    ],
    ['another epk', 'JWE_DECRYPT', () => rehead(toSession, { ...header(), epk: ecKey().jwk })],
    ['the same header spelt otherwise', 'JWE_DECRYPT', () => respelt()],
    ['a bit of the IV flipped', 'JWE_DECRYPT', () => flip(toSession, 2)],
    ['a bit of the ciphertext flipped', 'JWE_DECRYPT', () => flip(toSession, 3)],
    ['a bit of the tag flipped', 'JWE_DECRYPT', () => flip(toSession, 4)],
    ['a ciphertext cut short', 'JWE_DECRYPT', () => replace(toSession, 3, 'AAAA')],
  ]

  test.each(attacks)('refuses %s with %s', async (_, code, make) => {
    await expect(openSession(make())).rejects.toMatchObject({ name: 'TokenError', code })
  })

  function respelt(): string {
    const { alg, enc, epk: key } = header()
    return rehead(toSession, { enc, epk: key, alg })
  }
})

describe('attacks on an answer to the binding key', () => {
  const header = { alg: 'RSA-OAEP-256', enc: 'A256GCM' }
  const attacks: readonly (readonly [claim: string, code: string, make: () => string])[] = [
    ['an answer to the session key', 'JWE_ALGORITHM', () => toSession],
    ['alg RSA-OAEP', 'JWE_ALGORITHM', () => rehead(toTpm, { ...header, alg: 'RSA-OAEP' })],
    ['alg RSA1_5', 'JWE_ALGORITHM', () => rehead(toTpm, { ...header, alg: 'RSA1_5' })],
    ['enc A128GCM', 'JWE_ALGORITHM', () => rehead(toTpm, { ...header, enc: 'A128GCM' })],
    ['zip', 'JWE_MALFORMED', () => rehead(toTpm, { ...header, zip: 'DEF' })],
    ['a kid', 'JWE_MALFORMED', () => rehead(toTpm, { ...header, kid: 'a' })],
    [
      'a header member twice',
      'JWE_MALFORMED',
      () => replace(toTpm, 0, part('{"alg":"dir","alg":"RSA-OAEP-256","enc":"A256GCM"}')),
    ],
    ['a short encrypted key', 'JWE_MALFORMED', () => replace(toTpm, 1, 'AAAA')],
    ['a long encrypted key', 'JWE_MALFORMED', () => replace(toTpm, 1, 'AAAA'.repeat(200))],
    [
      'a header in another order',
      'JWE_DECRYPT',
      () => rehead(toTpm, { enc: header.enc, alg: header.alg }),
    ],
    ['a bit of the IV flipped', 'JWE_DECRYPT', () => flip(toTpm, 2)],
    ['a bit of the ciphertext flipped', 'JWE_DECRYPT', () => flip(toTpm, 3)],
    ['a bit of the tag flipped', 'JWE_DECRYPT', () => flip(toTpm, 4)],
  ]

  test.each(attacks)('refuses %s with %s', async (_, code, make) => {
    await expect(openTpm(make())).rejects.toMatchObject({ name: 'TokenError', code })
  })

  test('refuses a content key of another size', async () => {
    const short = async () => new Uint8Array(16)
    await expect(decryptWithContentKey(toTpm, short)).rejects.toMatchObject({ code: 'JWE_DECRYPT' })
  })
})

describe('keys to encrypt to', () => {
  test.each([
    ['text', utf8('no key')],
    [
      'an RSA key of 1024 bit',
      spkiOf(generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey),
    ],
    [
      'an RSA key with exponent 3',
      spkiOf(generateKeyPairSync('rsa', { modulusLength: 2048, publicExponent: 3 }).publicKey),
    ],
    ['an EC key', spkiOf(generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey)],
    ['an RSA key with octets behind it', new Uint8Array([...spki, 0])],
  ])('refuses %s as a binding key', async (_, octets) => {
    await expect(encryptToBindingKey(octets, PLAINTEXT)).rejects.toMatchObject({
      code: 'TOKEN_KEY_INVALID',
    })
  })

  test('refuses a session key off the curve', async () => {
    const jwk = { ...keys.session.publicJwk, x: keys.session.publicJwk.y }
    await expect(encryptToSession(jwk, PLAINTEXT)).rejects.toMatchObject({
      code: 'TOKEN_KEY_INVALID',
    })
  })

  test('refuses an answer too large to be read', async () => {
    const large = new Uint8Array(256 * 1024)
    await expect(encryptToSession(keys.session.publicJwk, large)).rejects.toMatchObject({
      code: 'JWE_MALFORMED',
    })
  })
})

function spkiOf(key: typeof rsa.publicKey): Uint8Array {
  return new Uint8Array(key.export({ format: 'der', type: 'spki' }))
}

function headerOf(jwe: string): Record<string, unknown> {
  return JSON.parse(Buffer.from(jwe.split('.')[0] ?? '', 'base64url').toString())
}

function replace(jwe: string, index: number, text: string): string {
  return jwe.split('.').with(index, text).join('.')
}

function rehead(jwe: string, header: object): string {
  return replace(jwe, 0, part(header))
}

function flip(jwe: string, index: number): string {
  const octets = Buffer.from(jwe.split('.')[index] ?? '', 'base64url')
  octets[0] = (octets[0] ?? 0) ^ 1
  return replace(jwe, index, octets.toString('base64url'))
}
