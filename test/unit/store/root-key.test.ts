import { createDecipheriv, hkdfSync } from 'node:crypto'
import { inspect } from 'node:util'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { concat, lengthPrefixed, toHex, utf8 } from '../../../src/core/bytes.js'
import { Secret } from '../../../src/core/secret.js'
import { type RootKey, rootKeyOf } from '../../../src/store/root-key.js'

const ROOT = new Uint8Array(32).map((_, index) => index)
const CONTEXT = utf8('provider-1')
const PLAINTEXT = Uint8Array.of(1, 2, 3, 4)
const OVERHEAD = 45

const rootKey = (): RootKey => rootKeyOf(new Secret(ROOT.slice()))

function opened(key: RootKey, purpose: string, context: Uint8Array, sealed: Uint8Array): string {
  return key.open(purpose, context, sealed).use(toHex)
}

describe('octets sealed under a root key', () => {
  test('open to what was sealed, for any purpose, context and octets', () => {
    const key = rootKey()
    fc.assert(
      fc.property(
        fc.string(),
        fc.uint8Array(),
        fc.uint8Array({ maxLength: 300 }),
        (purpose, context, plaintext) => {
          const sealed = key.seal(purpose, context, plaintext)
          expect(sealed.length).toBe(plaintext.length + OVERHEAD)
          expect(opened(key, purpose, context, sealed)).toBe(toHex(plaintext))
        },
      ),
    )
  })

  test('are never the same twice', () => {
    const key = rootKey()
    const texts = Array.from({ length: 1000 }, () => toHex(key.seal('p', CONTEXT, PLAINTEXT)))
    expect(new Set(texts.map((text) => text.slice(2, 34))).size).toBe(1000)
    expect(new Set(texts).size).toBe(1000)
  })

  test('do not open with any bit changed', () => {
    const key = rootKey()
    const sealed = key.seal('primary-key', CONTEXT, PLAINTEXT)
    for (let bit = 0; bit < sealed.length * 8; bit += 1) {
      const changed = sealed.map((octet, at) =>
        at === bit >> 3 ? octet ^ (1 << (bit & 7)) : octet,
      )
      expect(() => key.open('primary-key', CONTEXT, changed), `bit ${bit}`).toThrow(
        expect.objectContaining({ code: 'ROOT_KEY_OPEN' }),
      )
    }
  })

  test('do not open at any other length', () => {
    const key = rootKey()
    const sealed = key.seal('primary-key', CONTEXT, PLAINTEXT)
    const others = [
      ...Array.from(sealed, (_, end) => sealed.subarray(0, end)),
      concat(sealed, Uint8Array.of(0)),
      concat(Uint8Array.of(0), sealed),
    ]
    for (const other of others) {
      expect(() => key.open('primary-key', CONTEXT, other), `${other.length} octets`).toThrow(
        expect.objectContaining({ code: 'ROOT_KEY_OPEN' }),
      )
    }
  })

  test('do not open for another purpose, in another context, or under another root key', () => {
    const key = rootKey()
    const other = rootKeyOf(new Secret(ROOT.map((octet) => octet ^ 1)))
    const sealed = key.seal('ab', utf8('c'), PLAINTEXT)
    const refused = expect.objectContaining({ code: 'ROOT_KEY_OPEN' })
    expect(() => key.open('service-key', utf8('c'), sealed)).toThrow(refused)
    expect(() => key.open('ab', utf8('d'), sealed)).toThrow(refused)
    expect(() => key.open('a', utf8('bc'), sealed)).toThrow(refused)
    expect(() => other.open('ab', utf8('c'), sealed)).toThrow(refused)
  })

  test('say the same for all that can be wrong', () => {
    const key = rootKey()
    const sealed = key.seal('p', CONTEXT, PLAINTEXT)
    const messageOf = (open: () => unknown): string => {
      try {
        open()
      } catch (error) {
        return String(error)
      }
      return 'opened'
    }
    const messages = [
      messageOf(() => key.open('p', CONTEXT, sealed.subarray(0, 10))),
      messageOf(() => key.open('p', CONTEXT, sealed.with(0, 2))),
      messageOf(() => key.open('p', utf8('other'), sealed)),
      messageOf(() => key.open('p', CONTEXT, sealed.with(30, (sealed[30] ?? 0) ^ 1))),
    ]
    expect(new Set(messages)).toEqual(new Set(['PlatformError: sealed octets for p do not open']))
  })

  test('have the documented form: HKDF-SHA-256 with the salt, AES-256-GCM with the context', () => {
    const sealed = rootKey().seal('primary-key', CONTEXT, PLAINTEXT)
    const domain = utf8('sigillo root key v1')
    const info = lengthPrefixed(domain, utf8('primary-key'))
    const key = new Uint8Array(hkdfSync('sha256', ROOT, sealed.subarray(1, 17), info, 32))
    const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(17, 29))
    const version = Uint8Array.of(1)
    decipher.setAAD(lengthPrefixed(domain, version, utf8('primary-key'), CONTEXT))
    decipher.setAuthTag(sealed.subarray(-16))
    const plaintext = concat(decipher.update(sealed.subarray(29, -16)), decipher.final())
    expect(sealed[0]).toBe(1)
    expect(plaintext).toEqual(PLAINTEXT)
  })
})

describe('a root key', () => {
  test('neither seals nor opens once it was disposed of', () => {
    const key = rootKey()
    const sealed = key.seal('p', CONTEXT, PLAINTEXT)
    key[Symbol.dispose]()
    const refused = expect.objectContaining({ code: 'SEALED' })
    expect(() => key.seal('p', CONTEXT, PLAINTEXT)).toThrow(refused)
    expect(() => key.open('p', CONTEXT, sealed)).toThrow(refused)
  })

  test('is erased from memory when it is disposed of', () => {
    const octets = ROOT.slice()
    rootKeyOf(new Secret(octets))[Symbol.dispose]()
    expect(octets).toEqual(new Uint8Array(32))
  })

  test('shows no octet of itself when it is printed', () => {
    const key = rootKey()
    expect(inspect(key, { depth: 10, showHidden: true })).not.toMatch(/1e|30, 31|Uint8Array/)
    expect(JSON.stringify(key)).toBe('{"generation":1}')
  })
})
