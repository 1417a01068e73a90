import { timingSafeEqual, toHex } from '../core/bytes.js'
import { type Finding, failed, passed } from '../core/finding.js'
import { HASH_ALGORITHMS } from './algorithms.js'
import { ATTEST_TYPES, type Attest, parseAttest, peekAttest, TPM_GENERATED } from './attest.js'
import { describeSelection, type PcrSelection, pcrDigest } from './pcr.js'
import type { PublicArea } from './public-area.js'
import { parseSignature, type Signature, verifySignature } from './signature.js'

export type Quote = Attest & { readonly type: 'quote' }

export interface QuoteVerdict {
  /** Every check that could be made. The quote is accepted when none of them failed. */
  readonly findings: readonly Finding[]
  /** What was read, where it is a quote; to be believed only when no finding failed. */
  readonly quote?: Quote
}

/**
 * Verifies a quote: made by a TPM, signed by this key with its own scheme, fresh, over exactly these PCRs and values.
 *
 * **Does not check** that the key is an attestation key of a known TPM (`verifyAttestationKey`, credential activation),
 * that clock and counters moved forward, or that the values are good ones.
 *
 * @param input.expectedExtraData what the quote must carry as qualifying data, whole
 * @param input.selection the one bank and the PCRs that were asked for
 * @param input.pcrValues values as the host gave them; indexes beyond the selection are a failure too
 * @throws DecodeError where attest or signature cannot be read at all
 * @see TPM 2.0 Library, Part 1, clause 31.3; Part 3, clause 18.4; RFC 9683, section 3.5
 */
export function verifyQuote(input: {
  readonly attest: Uint8Array
  readonly signature: Uint8Array
  readonly ak: PublicArea
  readonly expectedExtraData: Uint8Array
  readonly selection: PcrSelection
  readonly pcrValues: ReadonlyMap<number, Uint8Array>
}): QuoteVerdict {
  const kind = verifyKind(input.attest)
  if (kind.some((finding) => !finding.ok)) return { findings: kind }
  const attest = parseAttest(input.attest)
  if (attest.type !== 'quote') throw new TypeError('the type was compared before')
  const signature = parseSignature(input.signature)
  return {
    findings: [
      ...kind,
      ...verifySignature('quote', input.ak, signature, input.attest),
      verifyNonce(attest, input.expectedExtraData),
      ...verifySelection(attest, input.selection),
      ...verifyValues(attest, signature, input),
      attest.clockInfo.safe
        ? passed('quote.clock')
        : passed('quote.clock', 'not safe: after a power cut the clock may have gone back'),
    ],
    quote: attest,
  }
}

function verifyKind(octets: Uint8Array): readonly Finding[] {
  const { magic, type } = peekAttest(octets)
  return [
    magic === TPM_GENERATED
      ? passed('quote.magic')
      : failed('quote.magic', 'QUOTE_MAGIC', hex(TPM_GENERATED), hex(magic)),
    type === ATTEST_TYPES.quote
      ? passed('quote.type')
      : failed('quote.type', 'QUOTE_TYPE', hex(ATTEST_TYPES.quote), hex(type)),
  ]
}

function verifyNonce({ extraData }: Quote, expected: Uint8Array): Finding {
  return timingSafeEqual(extraData, expected)
    ? passed('quote.nonce')
    : failed('quote.nonce', 'QUOTE_NONCE', toHex(expected), toHex(extraData))
}

function verifySelection({ selections }: Quote, asked: PcrSelection): readonly Finding[] {
  const [selection, ...others] = selections
  const found = selections.map(describeSelection).join(' + ') || 'none'
  if (!selection || others.length > 0 || selection.bank !== asked.bank) {
    return [failed('quote.bank', 'QUOTE_BANK', `bank ${asked.bank} alone`, found)]
  }
  if (asked.bank === 'sha1') {
    return [failed('quote.bank', 'QUOTE_HASH_WEAK', 'a bank of SHA-256 or stronger', 'sha1')]
  }
  const same =
    asked.pcrs.length > 0 &&
    selection.pcrs.length === asked.pcrs.length &&
    selection.pcrs.every((pcr, index) => pcr === asked.pcrs[index])
  return [
    passed('quote.bank', asked.bank),
    same
      ? passed('quote.selection', found)
      : failed('quote.selection', 'QUOTE_SELECTION', describeSelection(asked), found),
  ]
}

function verifyValues(
  quote: Quote,
  signature: Signature,
  input: { readonly selection: PcrSelection; readonly pcrValues: ReadonlyMap<number, Uint8Array> },
): readonly Finding[] {
  const { bank, pcrs } = input.selection
  const { digestOctets } = HASH_ALGORITHMS[bank]
  const values = pcrs.map((pcr) => input.pcrValues.get(pcr))
  const complete = values.every((value) => value?.length === digestOctets)
  if (!complete || input.pcrValues.size !== pcrs.length) {
    return [
      failed(
        'quote.pcr-values',
        'QUOTE_PCR_VALUES',
        `${pcrs.length} values of ${digestOctets} octets`,
        `${input.pcrValues.size} values, not all of them fitting`,
      ),
    ]
  }
  const digest = pcrDigest(
    signature.hash,
    values.filter((value) => value !== undefined),
  )
  return [
    timingSafeEqual(digest, quote.pcrDigest)
      ? passed('quote.pcr-digest')
      : failed('quote.pcr-digest', 'QUOTE_PCR_DIGEST', toHex(quote.pcrDigest), toHex(digest)),
  ]
}

function hex(value: number): string {
  return `0x${value.toString(16)}`
}
