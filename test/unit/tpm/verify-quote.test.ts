import { describe, expect, test } from 'vitest'
import { concat, fromHex } from '../../../src/core/bytes.js'
import { failures } from '../../../src/core/finding.js'
import {
  encodeAttest,
  encodeSignature,
  type HashName,
  parseAttest,
  parseSignature,
  verifyQuote,
} from '../../../src/tpm/index.js'
import {
  ATTEST_BASE,
  digest,
  type ForgedQuote,
  forgedPcrs,
  forgeKey,
  forgeQuote,
  type KeySize,
  longestSalt,
  type SigningScheme,
  signatureBy,
} from './forge.js'

const HASHES: readonly HashName[] = ['sha256', 'sha384', 'sha512']
const ECDSA = { kind: 'ecdsa', hash: 'sha256' } as const satisfies SigningScheme
const RSAPSS = { kind: 'rsapss', hash: 'sha256' } as const satisfies SigningScheme
const RSASSA = { kind: 'rsassa', hash: 'sha256' } as const satisfies SigningScheme

const ecc = () => forgeKey('P-256', ECDSA)
const rsa = () => forgeKey(2048, RSASSA)

function codesOf(input: ForgedQuote): readonly string[] {
  return failures(verifyQuote(input).findings).map(({ code }) => code)
}

describe('a sound quote', () => {
  const keys: readonly [KeySize, SigningScheme['kind']][] = [
    [2048, 'rsassa'],
    [2048, 'rsapss'],
    [3072, 'rsassa'],
    [3072, 'rsapss'],
    ['P-256', 'ecdsa'],
    ['P-384', 'ecdsa'],
  ]
  const cases = keys.flatMap(([size, kind]) => HASHES.map((hash) => ({ size, kind, hash })))

  test.each(cases)('is accepted: $size, $kind with $hash', ({ size, kind, hash }) => {
    const scheme = { kind, hash }
    expect(codesOf(forgeQuote(forgeKey(size, scheme), scheme))).toEqual([])
  })

  test.each(HASHES)('is accepted over the bank %s', (bank) => {
    const selection = { bank, pcrs: [0, 1, 2, 3, 4, 5, 6, 7, 23] }
    expect(codesOf(forgeQuote(ecc(), ECDSA, { selection }))).toEqual([])
  })

  test('is accepted with a clock that is not safe, and says so', () => {
    const clockInfo = { ...ATTEST_BASE.clockInfo, safe: false }
    const { findings } = verifyQuote(forgeQuote(ecc(), ECDSA, { change: { clockInfo } }))
    expect(failures(findings)).toEqual([])
    expect(findings.find(({ check }) => check === 'quote.clock')?.found).toContain('not safe')
  })

  test('is handed on as it was read', () => {
    const { quote } = verifyQuote(forgeQuote(ecc(), ECDSA))
    expect(quote?.clockInfo).toEqual(ATTEST_BASE.clockInfo)
    expect(quote?.firmwareVersion).toBe(ATTEST_BASE.firmwareVersion)
  })
})

describe('refuses a structure', () => {
  test.each([0xdeadbeef, 0, 0xff544346, 0x474354ff])('with magic %i', (magic) => {
    expect(codesOf(forgeQuote(ecc(), ECDSA, { change: { magic } }))).toEqual(['QUOTE_MAGIC'])
  })

  test('of a certification, with a sound signature', () => {
    const quote = forgeQuote(ecc(), ECDSA)
    const name = concat(fromHex('000b'), new Uint8Array(32))
    const attest = encodeAttest({ ...ATTEST_BASE, type: 'certify', name, qualifiedName: name })
    const signature = signatureBy(ecc(), attest, ECDSA)
    expect(codesOf({ ...quote, attest, signature })).toEqual(['QUOTE_TYPE'])
    expect(verifyQuote({ ...quote, attest, signature }).quote).toBeUndefined()
  })

  test('of a creation', () => {
    const quote = forgeQuote(ecc(), ECDSA)
    const name = concat(fromHex('000b'), new Uint8Array(32))
    const creationHash = new Uint8Array(32)
    const attest = encodeAttest({ ...ATTEST_BASE, type: 'creation', name, creationHash })
    const signature = signatureBy(ecc(), attest, ECDSA)
    expect(codesOf({ ...quote, attest, signature })).toEqual(['QUOTE_TYPE'])
  })

  test.each([0x8014, 0x8015, 0x8016, 0x8019, 0x801c, 0x0000])('of type %i', (type) => {
    const quote = forgeQuote(ecc(), ECDSA)
    const attest = Uint8Array.from(quote.attest)
    new DataView(attest.buffer).setUint16(4, type)
    const signature = signatureBy(ecc(), attest, ECDSA)
    expect(codesOf({ ...quote, attest, signature })).toEqual(['QUOTE_TYPE'])
  })

  test('with octets after it, though they are signed', () => {
    const quote = forgeQuote(ecc(), ECDSA)
    const attest = concat(quote.attest, Uint8Array.of(0))
    const signature = signatureBy(ecc(), attest, ECDSA)
    expect(() => verifyQuote({ ...quote, attest, signature })).toThrow(
      expect.objectContaining({ code: 'DECODE_TRAILING' }),
    )
  })

  test('that is cut short', () => {
    const quote = forgeQuote(ecc(), ECDSA)
    const attest = quote.attest.subarray(0, -1)
    const signature = signatureBy(ecc(), attest, ECDSA)
    expect(() => verifyQuote({ ...quote, attest, signature })).toThrow(
      expect.objectContaining({ code: 'DECODE_TRUNCATED' }),
    )
  })
})

describe('refuses a nonce', () => {
  const { expectedExtraData } = forgeQuote(ecc(), ECDSA)
  test.each([
    ['other than the one expected', Uint8Array.from(expectedExtraData, (octet) => octet ^ 1)],
    ['that is empty', new Uint8Array()],
    ['that is the beginning of it', expectedExtraData.subarray(0, 31)],
    ['that is longer by a zero', concat(expectedExtraData, Uint8Array.of(0))],
    ['backwards', Uint8Array.from(expectedExtraData, (octet, index) => octet + index).reverse()],
  ])('%s', (_, extraData) => {
    expect(codesOf(forgeQuote(ecc(), ECDSA, { change: { extraData } }))).toEqual(['QUOTE_NONCE'])
  })
})

describe('refuses PCRs', () => {
  const asked = { bank: 'sha256', pcrs: [0, 4, 7] } as const
  const signed = (...selections: readonly ForgedQuote['selection'][]): ForgedQuote => {
    const values = selections.flatMap((selection) => [...forgedPcrs(selection).values()])
    const change = { selections, pcrDigest: digest('sha256', ...values) }
    return forgeQuote(ecc(), ECDSA, { selection: asked, change })
  }

  test('of another bank', () => {
    expect(codesOf(signed({ ...asked, bank: 'sha384' }))).toContain('QUOTE_BANK')
  })

  test('of two banks', () => {
    expect(codesOf(signed(asked, { ...asked, bank: 'sha384' }))).toContain('QUOTE_BANK')
  })

  test('of no bank at all', () => {
    expect(codesOf(signed())).toContain('QUOTE_BANK')
  })

  test('of bank SHA-1, also where it was asked for', () => {
    const quote = forgeQuote(ecc(), ECDSA, { selection: { bank: 'sha1', pcrs: [0, 4, 7] } })
    expect(codesOf(quote)).toEqual(['QUOTE_HASH_WEAK'])
  })

  test.each([
    ['fewer', [0, 4]],
    ['more', [0, 4, 7, 14]],
    ['others, as many', [0, 7, 23]],
    ['none', []],
  ])('%s than asked for', (_, pcrs) => {
    expect(codesOf(signed({ bank: 'sha256', pcrs }))).toContain('QUOTE_SELECTION')
  })

  test('of an empty selection, also where it was asked for', () => {
    const quote = forgeQuote(ecc(), ECDSA, { selection: { bank: 'sha256', pcrs: [] } })
    expect(codesOf(quote)).toContain('QUOTE_SELECTION')
  })

  test('with other values than those signed', () => {
    const quote = forgeQuote(ecc(), ECDSA)
    const pcrValues = new Map(quote.pcrValues).set(4, new Uint8Array(32))
    expect(codesOf({ ...quote, pcrValues })).toEqual(['QUOTE_PCR_DIGEST'])
  })

  test('whose values changed places', () => {
    const quote = forgeQuote(ecc(), ECDSA)
    const [first, second, third] = [...quote.pcrValues.values()]
    if (!first || !second || !third) throw new TypeError('three values')
    const pcrValues = new Map([
      [0, second],
      [4, first],
      [7, third],
    ])
    expect(codesOf({ ...quote, pcrValues })).toEqual(['QUOTE_PCR_DIGEST'])
  })

  test('in any order of the list, but not with another digest algorithm than the signature', () => {
    const quote = forgeQuote(ecc(), ECDSA)
    const pcrValues = new Map([...quote.pcrValues].reverse())
    expect(codesOf({ ...quote, pcrValues })).toEqual([])
    const pcrDigest = digest('sha384', ...quote.pcrValues.values())
    expect(codesOf(forgeQuote(ecc(), ECDSA, { change: { pcrDigest } }))).toEqual([
      'QUOTE_PCR_DIGEST',
    ])
  })

  test('whose boundaries moved though the octets are the same', () => {
    const quote = forgeQuote(ecc(), ECDSA)
    const all = concat(...quote.pcrValues.values())
    const pcrValues = new Map([
      [0, all.subarray(0, 31)],
      [4, all.subarray(31, 64)],
      [7, all.subarray(64)],
    ])
    expect(codesOf({ ...quote, pcrValues })).toEqual(['QUOTE_PCR_VALUES'])
  })

  test('with a value that was not asked for, or without one that was', () => {
    const quote = forgeQuote(ecc(), ECDSA)
    const more = new Map(quote.pcrValues).set(14, new Uint8Array(32))
    expect(codesOf({ ...quote, pcrValues: more })).toEqual(['QUOTE_PCR_VALUES'])
    const fewer = new Map([...quote.pcrValues].slice(1))
    expect(codesOf({ ...quote, pcrValues: fewer })).toEqual(['QUOTE_PCR_VALUES'])
    expect(codesOf({ ...quote, pcrValues: new Map() })).toEqual(['QUOTE_PCR_VALUES'])
  })
})

describe('refuses a signature', () => {
  test.each([
    ['P-256', ECDSA],
    [2048, RSASSA],
    [2048, RSAPSS],
  ] as const)('by another key of the same kind: %s', (size, scheme) => {
    const { ak } = forgeQuote(forgeKey(size, scheme, 1), scheme)
    const quote = forgeQuote(forgeKey(size, scheme), scheme)
    expect(codesOf({ ...quote, ak })).toEqual(['QUOTE_SIGNATURE'])
  })

  test('over another structure', () => {
    const { signature } = forgeQuote(ecc(), ECDSA)
    const other = forgeQuote(ecc(), ECDSA, { change: { firmwareVersion: 1n } })
    expect(codesOf({ ...other, signature })).toEqual(['QUOTE_SIGNATURE'])
  })

  test('of RSASSA by a key of RSAPSS, and the reverse', () => {
    const pss = forgeKey(2048, RSAPSS)
    const quote = forgeQuote(pss, RSAPSS)
    const signature = signatureBy(pss, quote.attest, RSASSA)
    expect(codesOf({ ...quote, signature })).toEqual(['QUOTE_SCHEME'])
    const other = forgeQuote(rsa(), RSASSA)
    const reverse = signatureBy(rsa(), other.attest, RSAPSS)
    expect(codesOf({ ...other, signature: reverse })).toEqual(['QUOTE_SCHEME'])
  })

  test('of ECDSA by an RSA key, and the reverse', () => {
    const quote = forgeQuote(rsa(), RSASSA)
    const signature = signatureBy(ecc(), quote.attest, ECDSA)
    expect(codesOf({ ...quote, signature })).toEqual(['QUOTE_SCHEME'])
    const other = forgeQuote(ecc(), ECDSA)
    const reverse = signatureBy(rsa(), other.attest, RSASSA)
    expect(codesOf({ ...other, signature: reverse })).toEqual(['QUOTE_SCHEME'])
  })

  test('with another hash than the scheme of the key', () => {
    const quote = forgeQuote(ecc(), ECDSA)
    const signature = signatureBy(ecc(), quote.attest, { kind: 'ecdsa', hash: 'sha384' })
    expect(codesOf({ ...quote, signature })).toContain('QUOTE_SCHEME')
  })

  test('whose tag says another scheme than its octets have', () => {
    const quote = forgeQuote(rsa(), RSASSA)
    const read = parseSignature(quote.signature)
    if (read.kind === 'ecdsa') throw new TypeError('an RSA signature')
    const signature = encodeSignature({ ...read, kind: 'rsapss' })
    const ak = { ...quote.ak, scheme: RSAPSS }
    expect(codesOf({ ...quote, ak, signature })).toEqual(['QUOTE_SIGNATURE'])
  })

  test('by a key without a scheme', () => {
    const quote = forgeQuote(ecc(), ECDSA)
    const ak = { ...quote.ak, scheme: { kind: 'null' } } as const
    expect(codesOf({ ...quote, ak })).toEqual(['QUOTE_SCHEME'])
  })

  test.each([
    ['P-256', { kind: 'ecdsa', hash: 'sha1' }],
    [2048, { kind: 'rsassa', hash: 'sha1' }],
  ] as const)('with SHA-1, also where the key has it: %s', (size, scheme) => {
    expect(codesOf(forgeQuote(forgeKey(size, scheme), scheme))).toContain('QUOTE_HASH_WEAK')
  })

  test.each(HASHES)('of RSAPSS with %s and a salt of another length', (hash) => {
    const scheme = { kind: 'rsapss', hash } as const
    const key = forgeKey(2048, scheme)
    const longest = longestSalt(2048, hash)
    expect(codesOf(forgeQuote(key, scheme, { saltLength: longest }))).toEqual([])
    for (const saltLength of [0, 8, 20, longest - 1]) {
      expect(codesOf(forgeQuote(key, scheme, { saltLength }))).toEqual(['QUOTE_SIGNATURE'])
    }
  })

  test('with octets after it', () => {
    const quote = forgeQuote(ecc(), ECDSA)
    const signature = concat(quote.signature, Uint8Array.of(0))
    expect(() => verifyQuote({ ...quote, signature })).toThrow(
      expect.objectContaining({ code: 'DECODE_TRAILING' }),
    )
  })

  test('of a scheme that is not known', () => {
    const quote = forgeQuote(ecc(), ECDSA)
    for (const id of [0x0005, 0x001a, 0x001b, 0x001c, 0x0010]) {
      const signature = Uint8Array.from(quote.signature)
      new DataView(signature.buffer).setUint16(0, id)
      expect(() => verifyQuote({ ...quote, signature })).toThrow(
        expect.objectContaining({ code: 'DECODE_VALUE' }),
      )
    }
  })

  test('shorter or longer than the modulus', () => {
    const quote = forgeQuote(rsa(), RSASSA)
    const read = parseSignature(quote.signature)
    if (read.kind === 'ecdsa') throw new TypeError('an RSA signature')
    for (const octets of [
      read.signature.subarray(1),
      concat(Uint8Array.of(0), read.signature),
      new Uint8Array(),
    ]) {
      const signature = encodeSignature({ ...read, signature: octets })
      expect(codesOf({ ...quote, signature })).toEqual(['QUOTE_SIGNATURE'])
    }
  })
})

describe('ECDSA', () => {
  const ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n
  const octetsOf = (value: bigint) => fromHex(value.toString(16).padStart(64, '0'))
  const withValues = (
    change: (r: Uint8Array, s: Uint8Array) => readonly [Uint8Array, Uint8Array],
  ) => {
    const quote = forgeQuote(ecc(), ECDSA)
    const read = parseSignature(quote.signature)
    if (read.kind !== 'ecdsa') throw new TypeError('an ECDSA signature')
    const [r, s] = change(read.r, read.s)
    return { ...quote, signature: encodeSignature({ ...read, r, s }) }
  }

  test('refuses r and s that are zero, the order of the curve, or too long', () => {
    const zero = new Uint8Array(32)
    const order = octetsOf(ORDER)
    for (const bad of [zero, order, new Uint8Array(), new Uint8Array(33).fill(1)]) {
      expect(codesOf(withValues((r) => [r, bad]))).toEqual(['QUOTE_SIGNATURE'])
      expect(codesOf(withValues((_, s) => [bad, s]))).toEqual(['QUOTE_SIGNATURE'])
      expect(codesOf(withValues(() => [bad, bad]))).toEqual(['QUOTE_SIGNATURE'])
    }
  })

  test('refuses the order added to s', () => {
    const plusOrder = (s: Uint8Array) => BigInt(`0x${Buffer.from(s).toString('hex')}`) + ORDER
    const quote = withValues((r, s) => [r, fromHex(plusOrder(s).toString(16).padStart(66, '0'))])
    expect(codesOf(quote)).toEqual(['QUOTE_SIGNATURE'])
  })

  test('accepts values whose leading zeros the TPM left out', () => {
    const stripped = (octets: Uint8Array) => octets.subarray(octets.findIndex((o) => o !== 0))
    for (;;) {
      const quote = forgeQuote(ecc(), ECDSA)
      const read = parseSignature(quote.signature)
      if (read.kind !== 'ecdsa' || (read.r[0] !== 0 && read.s[0] !== 0)) continue
      const signature = encodeSignature({ ...read, r: stripped(read.r), s: stripped(read.s) })
      expect(signature.length).toBeLessThan(quote.signature.length)
      expect(codesOf({ ...quote, signature })).toEqual([])
      return
    }
  })
})

test('a quote without a sound key is a failed check, not an exception', () => {
  const quote = forgeQuote(ecc(), ECDSA)
  if (quote.ak.type !== 'ecc') throw new TypeError('an ECC key')
  const ak = { ...quote.ak, y: quote.ak.x }
  expect(codesOf({ ...quote, ak })).toEqual(['TPM_KEY_INVALID'])
})

test('reports every check that failed', () => {
  const { attest, ...quote } = forgeQuote(ecc(), ECDSA)
  const changed = encodeAttest({ ...parseAttest(attest), magic: 1 })
  const input = { ...quote, attest: changed, expectedExtraData: new Uint8Array(32) }
  expect(codesOf({ ...input, pcrValues: forgedPcrs({ bank: 'sha256', pcrs: [1, 2, 3] }) })).toEqual(
    ['QUOTE_MAGIC', 'QUOTE_SIGNATURE', 'QUOTE_NONCE', 'QUOTE_PCR_VALUES'],
  )
})
