import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { toHex } from '../../../src/core/bytes.js'
import { DecodeError } from '../../../src/core/errors.js'
import {
  type Attest,
  attributesOf,
  encodeAttest,
  encodePcrSelections,
  encodePublicArea,
  encodeSignature,
  encodeTpm2bPublic,
  type HashName,
  type PcrSelection,
  type PublicArea,
  parseAttest,
  parsePcrSelections,
  parsePublicArea,
  parseSignature,
  parseTpm2bPublic,
  type Signature,
} from '../../../src/tpm/index.js'

const octets = (constraints: { minLength?: number; maxLength: number }) =>
  fc.uint8Array(constraints)
const hash = fc.constantFrom<HashName>('sha1', 'sha256', 'sha384', 'sha512')
const pcrs = fc
  .uniqueArray(fc.nat({ max: 23 }), { maxLength: 24 })
  .map((indexes) => indexes.toSorted((a, b) => a - b))
const selections: fc.Arbitrary<readonly PcrSelection[]> = fc.uniqueArray(
  fc.record({ bank: hash, pcrs }),
  { maxLength: 4, selector: ({ bank }) => bank },
)

const base = fc.record({
  magic: fc.nat({ max: 0xffff_ffff }),
  qualifiedSigner: octets({ maxLength: 66 }),
  extraData: octets({ maxLength: 66 }),
  clockInfo: fc.record({
    clock: fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn }),
    resetCount: fc.nat({ max: 0xffff_ffff }),
    restartCount: fc.nat({ max: 0xffff_ffff }),
    safe: fc.boolean(),
  }),
  firmwareVersion: fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn }),
})
const digest = octets({ maxLength: 64 })
const name = octets({ maxLength: 66 })
const attest: fc.Arbitrary<Attest> = fc.oneof(
  fc.tuple(base, selections, digest).map(
    ([common, list, pcrDigest]): Attest => ({
      ...common,
      type: 'quote',
      selections: list,
      pcrDigest,
    }),
  ),
  fc.tuple(base, name, name).map(([common, object, qualifiedName]): Attest => {
    return { ...common, type: 'certify', name: object, qualifiedName }
  }),
  fc.tuple(base, name, digest).map(([common, object, creationHash]): Attest => {
    return { ...common, type: 'creation', name: object, creationHash }
  }),
)

const signature: fc.Arbitrary<Signature> = fc.oneof(
  fc.record({
    kind: fc.constantFrom('rsassa' as const, 'rsapss' as const),
    hash,
    signature: octets({ maxLength: 512 }),
  }),
  fc.record({
    kind: fc.constant('ecdsa' as const),
    hash,
    r: octets({ maxLength: 66 }),
    s: octets({ maxLength: 66 }),
  }),
)

const attributeBits = fc.nat({ max: 0xffff })
const common = fc
  .record({
    nameAlg: hash,
    attributes: attributeBits.map((bits) => {
      let index = 0
      return attributesOf(() => ((bits >> index++) & 1) === 1)
    }),
    authPolicy: digest,
    symmetric: fc.option(fc.constantFrom(128 as const, 192 as const, 256 as const)),
    scheme: fc.oneof(
      fc.constant({ kind: 'null' as const }),
      fc.record({
        kind: fc.constantFrom(
          'rsassa' as const,
          'rsapss' as const,
          'ecdsa' as const,
          'oaep' as const,
        ),
        hash,
      }),
    ),
  })
  .map(({ symmetric, ...rest }) =>
    symmetric === null ? rest : { ...rest, symmetric: { keyBits: symmetric } },
  )
const publicArea: fc.Arbitrary<PublicArea> = fc.oneof(
  fc
    .tuple(
      common,
      fc.nat({ max: 0xffff }),
      fc.nat({ max: 0xffff_ffff }),
      octets({ maxLength: 512 }),
    )
    .map(
      ([shared, keyBits, exponent, modulus]): PublicArea => ({
        ...shared,
        type: 'rsa',
        keyBits,
        exponent,
        modulus,
      }),
    ),
  fc
    .tuple(
      common,
      fc.constantFrom('P-256' as const, 'P-384' as const, 'P-521' as const),
      octets({ maxLength: 66 }),
      octets({ maxLength: 66 }),
    )
    .map(([shared, curve, x, y]): PublicArea => ({ ...shared, type: 'ecc', curve, x, y })),
)

interface Codec<T> {
  readonly of: fc.Arbitrary<T>
  readonly parse: (octets: Uint8Array) => T
  readonly encode: (value: T) => Uint8Array
}

/** One codec with the type of its values hidden, so that a table can hold them all. */
function codec<T>({ of, parse, encode }: Codec<T>) {
  return {
    wire: of.map(encode),
    readsBack: () => {
      fc.assert(
        fc.property(of, (value) => {
          expect(parse(encode(value))).toEqual(value)
        }),
      )
    },
    again: (wire: Uint8Array) => encode(parse(wire)),
  }
}

describe.each([
  ['an attestation', codec({ of: attest, parse: parseAttest, encode: encodeAttest })],
  ['a signature', codec({ of: signature, parse: parseSignature, encode: encodeSignature })],
  ['a public area', codec({ of: publicArea, parse: parsePublicArea, encode: encodePublicArea })],
  [
    'a sized public area',
    codec({ of: publicArea, parse: parseTpm2bPublic, encode: encodeTpm2bPublic }),
  ],
  [
    'a PCR selection',
    codec({ of: selections, parse: parsePcrSelections, encode: encodePcrSelections }),
  ],
])('%s', (_, { wire, readsBack, again }) => {
  test('is read as it was written', readsBack)

  test('has one encoding: whatever can be read is written back octet by octet', () => {
    fc.assert(
      fc.property(mutated(wire), (input) => {
        const output = written(again, input)
        if (output) expect(toHex(output)).toBe(toHex(input))
      }),
      { numRuns: 1000 },
    )
  })

  test('is refused with a decode error, or read: no input breaks the reader', () => {
    fc.assert(
      fc.property(octets({ maxLength: 700 }), (input) => {
        written(again, input)
      }),
      { numRuns: 1000 },
    )
  })
})

/** Octets that were once right: changed, cut, spliced or grown somewhere. */
function mutated(wire: fc.Arbitrary<Uint8Array>): fc.Arbitrary<Uint8Array> {
  return fc
    .tuple(wire, fc.array(fc.tuple(fc.nat(), fc.nat({ max: 2 }), fc.uint8Array({ maxLength: 8 }))))
    .map(([start, edits]) => {
      let current = start
      for (const [position, removed, inserted] of edits.slice(0, 3)) {
        const at = position % (current.length + 1)
        const after = current.subarray(at + removed)
        current = Uint8Array.from([...current.subarray(0, at), ...inserted, ...after])
      }
      return current
    })
}

function written(
  again: (wire: Uint8Array) => Uint8Array,
  input: Uint8Array,
): Uint8Array | undefined {
  try {
    return again(input)
  } catch (error) {
    if (error instanceof DecodeError) return undefined
    throw error
  }
}
