import { describe, expect, test } from 'vitest'
import { concat, fromHex, toHex } from '../../src/core/bytes.js'
import { failures } from '../../src/core/finding.js'
import {
  nameOf,
  parsePublicArea,
  parseTpm2bPublic,
  verifyAttestationKey,
  verifyEndorsementKey,
  verifyQuote,
} from '../../src/tpm/index.js'
import {
  MEASURED_BOOT_NONCE,
  MEASURED_BOOT_VARIANTS,
  measuredBoot,
  measuredPcrs,
} from '../helpers/vectors.js'

/** The two quotes of each variant: an ECC key over all PCRs, an RSA key over PCR 0 to 14. */
const QUOTES = [
  { message: 'quote.msg', signature: 'quote.sig', key: 'ak', last: 23 },
  { message: 'quote-rsa.msg', signature: 'quote-rsa.sig', key: 'akr', last: 14 },
] as const

function quoteOf(variant: string, quote: (typeof QUOTES)[number]) {
  const pcrs = Array.from({ length: quote.last + 1 }, (_, pcr) => pcr)
  const values = measuredPcrs(variant)
  return {
    attest: measuredBoot(variant, quote.message),
    signature: measuredBoot(variant, quote.signature),
    ak: parseTpm2bPublic(measuredBoot(variant, `${quote.key}.tpmt.pub`)),
    expectedExtraData: fromHex(MEASURED_BOOT_NONCE),
    selection: { bank: 'sha256', pcrs } as const,
    pcrValues: new Map([...values].filter(([pcr]) => pcr <= quote.last)),
  }
}

type QuoteInput = ReturnType<typeof quoteOf>

/** Every way in which a real quote is spoilt, and all codes that it must then be refused with. */
const DEFECTS: readonly [string, (quote: QuoteInput) => unknown, readonly string[]][] = [
  [
    'another nonce',
    (q) => ({ expectedExtraData: q.expectedExtraData.with(0, 1) }),
    ['QUOTE_NONCE'],
  ],
  [
    'the beginning of its nonce',
    (q) => ({ expectedExtraData: q.expectedExtraData.subarray(0, 31) }),
    ['QUOTE_NONCE'],
  ],
  [
    'another magic',
    (q) => ({ attest: q.attest.with(0, 0xde) }),
    ['QUOTE_MAGIC', 'QUOTE_SIGNATURE'],
  ],
  ['another type', (q) => ({ attest: q.attest.with(5, 0x17) }), ['QUOTE_TYPE', 'QUOTE_SIGNATURE']],
  [
    'a clock that was moved',
    (q) => ({ attest: q.attest.with(83, (q.attest[83] ?? 0) ^ 1) }),
    ['QUOTE_SIGNATURE'],
  ],
  [
    'a changed signature',
    (q) => ({ signature: q.signature.with(-1, (q.signature.at(-1) ?? 0) ^ 1) }),
    ['QUOTE_SIGNATURE'],
  ],
  [
    'another bank asked for',
    (q) => ({ selection: { ...q.selection, bank: 'sha384' } }),
    ['QUOTE_BANK', 'QUOTE_PCR_VALUES'],
  ],
  [
    'a PCR fewer asked for',
    (q) => ({
      selection: { ...q.selection, pcrs: q.selection.pcrs.slice(1) },
      pcrValues: new Map([...q.pcrValues].slice(1)),
    }),
    ['QUOTE_SELECTION', 'QUOTE_PCR_DIGEST'],
  ],
  [
    'a value missing',
    (q) => ({ pcrValues: new Map([...q.pcrValues].slice(1)) }),
    ['QUOTE_PCR_VALUES'],
  ],
  [
    'a value cut short',
    (q) => ({ pcrValues: new Map(q.pcrValues).set(0, new Uint8Array(31)) }),
    ['QUOTE_PCR_VALUES'],
  ],
  [
    'a value changed',
    (q) => ({ pcrValues: new Map(q.pcrValues).set(4, new Uint8Array(32)) }),
    ['QUOTE_PCR_DIGEST'],
  ],
]

describe.each(MEASURED_BOOT_VARIANTS)('%s', (variant) => {
  describe.each(QUOTES)('refuses $message', (quote) => {
    test.each(DEFECTS)('with %s', (_, spoil, codes) => {
      const sound = quoteOf(variant, quote)
      const spoilt: QuoteInput = Object.assign({}, sound, spoil(sound))
      expect(failures(verifyQuote(spoilt).findings).map(({ code }) => code)).toEqual(codes)
    })

    test.each(['attest', 'signature'] as const)('with octets behind its %s', (part) => {
      const sound = quoteOf(variant, quote)
      const spoilt = { ...sound, [part]: concat(sound[part], Uint8Array.of(0)) }
      expect(() => verifyQuote(spoilt)).toThrow(
        expect.objectContaining({ code: 'DECODE_TRAILING' }),
      )
    })
  })

  test.each(QUOTES)('finds nothing wrong with the attestation key $key', ({ key }) => {
    const area = parseTpm2bPublic(measuredBoot(variant, `${key}.tpmt.pub`))
    expect(failures(verifyAttestationKey(area))).toEqual([])
  })

  test('recognises the endorsement key that swtpm made', () => {
    const area = parseTpm2bPublic(measuredBoot(variant, 'ek.tpm2b_public'))
    expect(failures(verifyEndorsementKey(area))).toEqual([])
  })

  test.each(QUOTES)('accepts $message, read in the guest', (quote) => {
    expect(failures(verifyQuote(quoteOf(variant, quote)).findings)).toEqual([])
  })

  test.each(QUOTES)('computes the name that the TPM gave to $key', ({ key }) => {
    const area = parseTpm2bPublic(measuredBoot(variant, `${key}.tpmt.pub`))
    expect(toHex(nameOf(area))).toBe(toHex(measuredBoot(variant, `${key}.name`)))
  })
})

test('refuses the quote of one boot with the PCRs of another', () => {
  const quote = quoteOf('01-uki-sb-off', QUOTES[0])
  const { pcrValues } = quoteOf('04-shim-grub-sb-on-mskeys', QUOTES[0])
  expect(failures(verifyQuote({ ...quote, pcrValues }).findings)).toEqual([
    expect.objectContaining({ code: 'QUOTE_PCR_DIGEST' }),
  ])
})

test('refuses a quote under the key of another TPM', () => {
  const quote = quoteOf('01-uki-sb-off', QUOTES[0])
  const { ak } = quoteOf('10-repeat-of-01-other-vtpm', QUOTES[0])
  expect(failures(verifyQuote({ ...quote, ak }).findings)).toEqual([
    expect.objectContaining({ code: 'QUOTE_SIGNATURE' }),
  ])
})

test('reads a key with or without its size before it', () => {
  const sized = measuredBoot('01-uki-sb-off', 'ak.tpmt.pub')
  expect(parsePublicArea(sized.subarray(2))).toEqual(parseTpm2bPublic(sized))
})
