import fc from 'fast-check'
import { expect, test } from 'vitest'
import { fromBase64url, toBase64url, toHex } from '../../../src/core/bytes.js'
import { isPlatformError } from '../../../src/core/errors.js'
import {
  parseEnvelope,
  unwrapKey,
  WRAP_RANDOM_OCTETS,
  wrapKey,
} from '../../../src/envelope/index.js'

const octets = (length: number) => fc.uint8Array({ minLength: length, maxLength: length })
const names = fc.stringMatching(/^[a-z][a-z0-9-]{0,8}$/)
const contexts = fc.dictionary(names, fc.string({ minLength: 1, maxLength: 32 }), {
  minKeys: 1,
  maxKeys: 4,
})
const primaryOf = (key: Uint8Array) => ({
  providerId: '0f0e0d0c-0b0a-4908-8706-050403020100',
  version: 1,
  octets: key,
})
const purpose = 'vm-disk'

test('what was wrapped opens again, under the same context and no other', () => {
  fc.assert(
    fc.property(
      octets(32),
      octets(32),
      octets(WRAP_RANDOM_OCTETS),
      contexts,
      contexts,
      (key, dek, random, context, other) => {
        const primary = primaryOf(key)
        const envelope = parseEnvelope(wrapKey({ primary, purpose, context, dek, random }))
        expect(toHex(unwrapKey({ primary, envelope, purpose, context }))).toBe(toHex(dek))
        if (JSON.stringify(other) === JSON.stringify(context)) return
        fc.pre(!sameMembers(context, other))
        expect(() => unwrapKey({ primary, envelope, purpose, context: other })).toThrow(
          expect.objectContaining({ code: 'KEY_ENVELOPE_AUTHENTICATION' }),
        )
      },
    ),
  )
})

function sameMembers(a: Record<string, string>, b: Record<string, string>): boolean {
  const keys = Object.keys(a)
  return keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key])
}

test('one flipped bit anywhere in a wrapped key is refused', () => {
  const key = new Uint8Array(32).fill(7)
  const primary = primaryOf(key)
  const context = { vm: 'a', object: 'disk-root' }
  const wrapped = wrapKey({
    primary,
    purpose,
    context,
    dek: new Uint8Array(32).fill(9),
    random: new Uint8Array(WRAP_RANDOM_OCTETS).fill(5),
  })
  const [prefix = '', header = '', body = ''] = wrapped.split('.')
  let flips = 0
  for (const [part, text] of [header, body].entries()) {
    const original = fromBase64url(text)
    for (let bit = 0; bit < original.length * 8; bit += 1) {
      const changed = original.slice()
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      const parts = part === 0 ? [toBase64url(changed), body] : [header, toBase64url(changed)]
      const spoiled = [prefix, ...parts].join('.')
      expect(() => {
        const envelope = parseEnvelope(spoiled)
        const version = envelope.header.version
        unwrapKey({
          primary: { ...primary, version, providerId: envelope.header.provider },
          envelope,
          purpose,
          context,
        })
      }).toThrow(expect.objectContaining({ code: expect.stringMatching(/^KEY_ENVELOPE_/) }))
      flips += 1
    }
  }
  expect(flips).toBeGreaterThan(2000)
})

test('arbitrary text is refused as malformed, and nothing else happens', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.tuple(fc.base64String(), fc.base64String()).map(([a, b]) => `sgl1.${a}.${b}`),
      ),
      (text) => {
        try {
          parseEnvelope(text)
          return false
        } catch (error) {
          return isPlatformError(error, 'KEY_ENVELOPE_MALFORMED')
        }
      },
    ),
  )
})
