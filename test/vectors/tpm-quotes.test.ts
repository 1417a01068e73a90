import { describe, expect, test } from 'vitest'
import { fromHex, toHex } from '../../src/core/bytes.js'
import { failures } from '../../src/core/finding.js'
import { nameOf, parsePublicArea, parseTpm2bPublic, verifyQuote } from '../../src/tpm/index.js'
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

describe.each(MEASURED_BOOT_VARIANTS)('%s', (variant) => {
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
