import { timingSafeEqual, toHex } from '../core/bytes.js'
import { type Finding, failed, passed } from '../core/finding.js'
import { HASH_ALGORITHMS } from './algorithms.js'
import type { Attest } from './attest.js'
import { describeSelection, type PcrSelection, pcrDigest } from './pcr.js'
import type { Signature } from './signature.js'
import { type AttestInput, verifyAttest } from './verify-attest.js'

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
 * @param input.selection the one bank and the PCRs that were asked for
 * @param input.pcrValues values as the host gave them; indexes beyond the selection are a failure too
 * @throws DecodeError where attest or signature cannot be read, or octets follow them
 * @see TPM 2.0 Library, Part 2, clause 10.12.4 (TPMS_QUOTE_INFO); Part 3, clause 18.4; RFC 9683, section 3.5
 */
export function verifyQuote(
  input: AttestInput & {
    readonly selection: PcrSelection
    readonly pcrValues: ReadonlyMap<number, Uint8Array>
  },
): QuoteVerdict {
  const { findings, attest: quote, signature } = verifyAttest('quote', input)
  if (!quote) return { findings }
  return {
    findings: [
      ...findings,
      ...verifySelection(quote, input.selection),
      ...verifyValues(quote, signature, input),
      quote.clockInfo.safe
        ? passed('quote.clock')
        : passed('quote.clock', 'not safe: after a power cut the clock may have gone back'),
    ],
    quote,
  }
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
