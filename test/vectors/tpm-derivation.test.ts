import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { fromHex, toHex } from '../../src/core/bytes.js'
import {
  hashById,
  kdfa,
  kdfe,
  makeCredential,
  type PublicArea,
  parsePublicArea,
} from '../../src/tpm/index.js'
import { openCredential, openSeed, privateKeyOf } from '../helpers/open-credential.js'
import { saySkipped, sharedVectors } from '../helpers/vectors.js'

/** Vectors of go-tpm, recomputed by its authors with a TPM where they say so. See MANIFEST.md there, section 5. */
const folder = sharedVectors('attestation')
if (!folder) saySkipped('attestation: key derivation and credentials', 209)

type Vector = Readonly<Record<string, string | number | undefined>>

function vectors(name: string): readonly Vector[] {
  if (!folder) return []
  const path = join(folder, 'google_go-tpm/tpm2/test/testvectors', name)
  return JSON.parse(readFileSync(path, 'utf8')) as readonly Vector[]
}

function octets(vector: Vector, member: string): Uint8Array {
  return fromHex(String(vector[member]))
}

function hashOf(vector: Vector) {
  const hash = hashById(Number(vector['HashAlg']))
  if (!hash) throw new TypeError(`a hash, not ${vector['HashAlg']}`)
  return hash.name
}

describe.skipIf(!folder)('derives the keys of the published vectors', () => {
  test('with KDFa', () => {
    const cases = vectors('kdfa.json')
    expect(cases).toHaveLength(100)
    for (const vector of cases) {
      const derived = kdfa(
        hashOf(vector),
        octets(vector, 'Key'),
        String(vector['Label']),
        octets(vector, 'ContextU'),
        octets(vector, 'ContextV'),
        Number(vector['Bits']),
      )
      expect(toHex(derived), String(vector['Name'])).toBe(vector['Result'])
    }
  })

  test('with KDFe', () => {
    const cases = vectors('kdfe.json')
    expect(cases).toHaveLength(100)
    for (const vector of cases) {
      const derived = kdfe(
        hashOf(vector),
        octets(vector, 'Z'),
        String(vector['Label']),
        octets(vector, 'ContextU'),
        octets(vector, 'ContextV'),
        Number(vector['Bits']),
      )
      expect(toHex(derived), String(vector['Name'])).toBe(vector['Result'])
    }
  })
})

/** Storage keys alone: credentials are made for these. The other keys of the set have schemes that are refused. */
const storageKeys = ['rsa_labeled_encaps.json', 'ecc_labeled_encaps.json']
  .flatMap(vectors)
  .filter((vector) => String(vector['Description']).startsWith('restricted'))
  .map((vector) => ({ name: `${vector['Name']}, ${vector['Label']}`, vector }))

describe.skipIf(!folder)('for the storage keys of the published vectors', () => {
  test('there are enough of every kind', () => {
    expect(storageKeys.length).toBeGreaterThan(60)
  })

  test.each(storageKeys)('$name: opens the seed that was sent', ({ vector }) => {
    const area = parsePublicArea(octets(vector, 'PublicKey'))
    const privateKey = privateKeyOf(area, octets(vector, 'PrivateKey'))
    const seed = openSeed(area, privateKey, String(vector['Label']), octets(vector, 'Ciphertext'))
    expect(toHex(seed)).toBe(vector['Secret'])
  })

  test.each(storageKeys)('$name: makes a credential that the key opens', ({ vector }) => {
    const area: PublicArea = parsePublicArea(octets(vector, 'PublicKey'))
    const privateKey = privateKeyOf(area, octets(vector, 'PrivateKey'))
    const akName = fromHex(`000b${'a1'.repeat(32)}`)
    const secret = fromHex('c3'.repeat(20))
    const credential = makeCredential({ ek: area, akName, secret })
    expect(toHex(openCredential(area, privateKey, akName, credential))).toBe(toHex(secret))
  })
})
