import { createPublicKey, generateKeyPairSync } from 'node:crypto'
import { expect, test } from 'vitest'
import { parseEndorsementKey } from '../../../../src/host-agent/vm/endorsement-key.js'

const hex = (base64url = '') => Buffer.from(base64url, 'base64url').toString('hex')

test('an RSA key is read from its modulus', () => {
  const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const spki = parseEndorsementKey(hex(publicKey.export({ format: 'jwk' }).n))
  const read = createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' })
  expect(read.equals(publicKey)).toBe(true)
})

test('a P-384 key is read from its point', () => {
  const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-384' })
  const { x, y } = publicKey.export({ format: 'jwk' })
  const spki = parseEndorsementKey(`x=${hex(x)},y=${hex(y)},id=secp384r1`)
  const read = createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' })
  expect(read.equals(publicKey)).toBe(true)
})

test.each([
  ['nothing', ''],
  ['a modulus of 1024 bits', 'ab'.repeat(128)],
  ['a modulus of half an octet more', `${'ab'.repeat(256)}a`],
  ['other characters', 'xy'.repeat(256)],
  ['another curve', `x=${'11'.repeat(48)},y=${'11'.repeat(48)},id=secp256r1`],
  ['a point that is not on the curve', `x=${'11'.repeat(48)},y=${'11'.repeat(48)},id=secp384r1`],
  ['a second line', `${'ab'.repeat(256)}\n`],
])('refuses %s', (_, text) => {
  expect(() => parseEndorsementKey(text)).toThrow(expect.objectContaining({ code: 'DECODE_VALUE' }))
})
