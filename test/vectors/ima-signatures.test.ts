import { createHash, createPublicKey, type KeyObject } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { fromHex, toHex } from '../../src/core/bytes.js'
import { verifyFileSignature } from '../../src/ima/file-signature.js'
import { type ImaEntry, readImaList, readImaSigner } from '../../src/ima/index.js'
import { keyIdsOf } from '../../src/ima/signing-key.js'
import { binaryList, digestField, pathField } from '../unit/ima/build-list.js'

interface Vectors {
  readonly content: string
  readonly signatures: readonly {
    readonly name: string
    readonly hash: string
    readonly publicKey: string
    readonly xattr: string
  }[]
}

/** Made by evmctl: see test/vectors/ima-signatures/MANIFEST.md. */
const { content, signatures } = JSON.parse(
  readFileSync(fileURLToPath(new URL('ima-signatures/signatures.json', import.meta.url)), 'utf8'),
) as Vectors
const accepted = signatures.filter(({ hash, name }) => hash !== 'sha1' && name !== 'otherid')
const SLOW_CURVES = ['p384', 'p384short', 'p521']
const HEADER_BITS = 9 * 8

function entryOf(hash: string, text: string, xattr: Uint8Array): ImaEntry {
  const digest = createHash(hash).update(text).digest()
  const list = binaryList([
    { template: 'ima-sig', fields: [digestField(hash, digest), pathField('/a'), xattr] },
  ])
  const [entry] = readImaList(list)
  if (!entry) throw new TypeError('an entry')
  return entry
}

describe.each(accepted)('a signature of evmctl with $hash ($name)', (vector) => {
  const xattr = fromHex(vector.xattr)
  const key = readImaSigner(vector.publicKey)
  const others = accepted
    .filter(({ name }) => name !== vector.name)
    .map(({ publicKey }) => readImaSigner(publicKey))

  const verify = (entry: ImaEntry, ...keys: readonly KeyObject[]) =>
    verifyFileSignature(entry, keys)

  test('is accepted by its key, alone and among others', () => {
    const entry = entryOf(vector.hash, content, xattr)
    expect(verify(entry, key)).toBe('valid')
    expect(verify(entry, ...others, key)).toBe('valid')
    expect(verify(entry, ...others)).toBe('unknown-key')
    expect(verify(entry)).toBe('unknown-key')
  })

  test('is not accepted for another file or another hash', () => {
    expect(verify(entryOf(vector.hash, `${content}x`, xattr), key)).toBe('invalid')
    const another = vector.hash === 'sha256' ? 'sha512' : 'sha256'
    expect(verify(entryOf(another, content, xattr), key)).toBe('invalid')
  })

  test('names its key', () => {
    const ids = keyIdsOf(key).map(toHex)
    expect(ids.at(-1)).toBe(toHex(xattr.subarray(3, 7)))
    expect(ids).toHaveLength(vector.name === 'certificate' ? 2 : 1)
  })

  test('is refused with any of its bits flipped', () => {
    const step = SLOW_CURVES.includes(vector.name) ? 31 : 1
    for (let bit = 0; bit < xattr.length * 8; bit += bit < HEADER_BITS ? 1 : step) {
      const changed = Uint8Array.from(xattr)
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      expect(verify(entryOf(vector.hash, content, changed), key)).not.toBe('valid')
    }
  })
})

test('a signature that names another key than its own is not tried', () => {
  const vector = signatures.find(({ name }) => name === 'otherid')
  const key = readImaSigner(vector?.publicKey ?? '')
  const entry = entryOf('sha256', content, fromHex(vector?.xattr ?? ''))
  expect(verifyFileSignature(entry, [key])).toBe('unknown-key')
})

test('a signature over SHA-1 is not accepted', () => {
  const vector = signatures.find(({ hash }) => hash === 'sha1')
  const key: KeyObject = createPublicKey(vector?.publicKey ?? '')
  const entry = entryOf('sha1', content, fromHex(vector?.xattr ?? ''))
  expect(verifyFileSignature(entry, [key])).toBe('invalid')
})
