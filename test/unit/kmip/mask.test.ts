import { expect, test } from 'vitest'
import { utf8 } from '../../../src/core/bytes.js'
import { describeTtlv } from '../../../src/kmip/mask.js'
import { passwordCredential } from '../../../src/kmip/message.js'
import { TAG } from '../../../src/kmip/tags.js'
import { bigInteger, byteString, integer, structure, textString } from '../../../src/kmip/ttlv.js'

const SECRET = 'hunter2-hunter2'

test('prints the name of who asks and not the password', () => {
  const text = describeTtlv(passwordCredential('alice', SECRET))
  expect(text).toContain('"alice"')
  expect(text).not.toContain(SECRET)
})

test.each([
  structure(TAG.KeyBlock, [structure(TAG.KeyValue, [byteString(TAG.KeyMaterial, utf8(SECRET))])]),
  structure(TAG.KeyBlock, [byteString(TAG.KeyValue, utf8(SECRET))]),
  structure(TAG.KeyMaterial, [byteString(TAG.Key, utf8(SECRET)), integer(0x540001, 7777)]),
  structure(TAG.KeyMaterial, [bigInteger(TAG.PrivateExponent, 7777n)]),
  structure(TAG.RequestPayload, [byteString(TAG.Data, utf8(SECRET))]),
  structure(TAG.CredentialValue, [textString(0x540002, SECRET)]),
])('prints no secret, whatever form it has', (item) => {
  const text = describeTtlv(item)
  expect(text).not.toContain(SECRET)
  expect(text).not.toContain(Buffer.from(SECRET).toString('hex'))
  expect(text).not.toContain('7777')
  expect(text).not.toContain((7777).toString(16))
  expect(text).toContain('[secret')
})

test('a line break in a name does not make a line of its own', () => {
  expect(describeTtlv(textString(TAG.NameValue, 'a\nKeyMaterial: x')).split('\n')).toHaveLength(2)
})
