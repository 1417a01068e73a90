import { InvalidArgumentError } from 'commander'
import { equalBytes, fromHex, timingSafeEqual, toHex } from '../../core/bytes.js'
import { isPlatformError } from '../../core/errors.js'
import { type Finding, failed, passed } from '../../core/finding.js'
import { parseEventLog, verifyEventLog } from '../../eventlog/index.js'
import { IMA_PCR, startOfIma, verifyImaList } from '../../ima/index.js'
import {
  type HashName,
  type PcrSelection,
  parseSignature,
  parseSized,
  pcrDigest,
  type Quote,
  verifyAttest,
} from '../../tpm/index.js'
import { parseAttestationKey } from './attestation-key.js'
import { naming } from './files.js'
import { type PcrFile, parsePcrFile, splitPcrValues } from './pcr-file.js'

/** The files of one quote, as tpm2-tools and the kernel write them. */
export interface QuoteFiles {
  /** TPMS_ATTEST, or TPM2B_ATTEST. */
  readonly message: Uint8Array
  /** TPMT_SIGNATURE. */
  readonly signature: Uint8Array
  /** See `parseAttestationKey`. */
  readonly ak: Uint8Array
  readonly nonce: Uint8Array
  readonly pcrs?: Uint8Array | undefined
  readonly eventLog?: Uint8Array | undefined
  /** Measurement list of the kernel, text or binary. */
  readonly imaLog?: Uint8Array | undefined
}

export interface OfflineVerdict {
  readonly findings: readonly Finding[]
  readonly quote?: Quote
  /** Proved values, by bank. Absent where no values were given or they are not the quoted ones. */
  readonly pcrs?: ReadonlyMap<HashName, ReadonlyMap<number, Uint8Array>>
}

const MAX_ATTEST_OCTETS = 2048
const MAGIC = Uint8Array.of(0xff, 0x54, 0x43, 0x47)

/**
 * Verifies a quote that was made anywhere, and the values and log that came with it.
 *
 * The quote itself says which PCRs it covers, of one bank or several. **Does not check** that they are enough for
 * anything, nor that the key is in the TPM of a known machine.
 *
 * @throws DecodeError where a file cannot be read
 */
export async function verifyQuoteFiles(files: QuoteFiles): Promise<OfflineVerdict> {
  const signature = naming('signature', () => parseSignature(files.signature))
  const ak = naming('attestation key', () => parseAttestationKey(files.ak, signature))
  const { findings: signed, attest: quote } = naming('message', () =>
    verifyAttest('quote', {
      attest: withoutSize(files.message),
      signature: files.signature,
      ak: ak.area,
      expectedExtraData: files.nonce,
    }),
  )
  const findings = [...ak.findings, ...signed]
  if (!quote) return { findings }
  findings.push(...verifyBanks(quote))
  if (!files.pcrs) {
    findings.push(
      files.eventLog || files.imaLog
        ? failed('quote.pcr-values', 'QUOTE_PCR_VALUES', 'the values of the PCRs (--pcrs)', 'none')
        : passed('quote.pcr-values', 'not checked: no values were given'),
    )
    return { findings, quote }
  }
  const { pcrs: pcrFile } = files
  const given = naming('PCR values', () => readPcrs(pcrFile, quote))
  const proved = verifyPcrFile(quote, given, signature.hash)
  findings.push(...proved)
  if (proved.some(({ ok }) => !ok)) return { findings, quote }
  const pcrs = byBank(given)
  if (files.eventLog) findings.push(...verifyLog(files.eventLog, pcrs))
  if (files.imaLog) findings.push(...(await verifyImaLog(files.imaLog, pcrs)))
  return { findings, quote, pcrs }
}

/** TPM2B_ATTEST has a size before the structure, which begins with the magic. */
function withoutSize(message: Uint8Array): Uint8Array {
  const isSized =
    equalBytes(message.subarray(2, 6), MAGIC) && !equalBytes(message.subarray(0, 4), MAGIC)
  return isSized ? parseSized(message, 'TPM2B_ATTEST', MAX_ATTEST_OCTETS) : message
}

function verifyBanks({ selections }: Quote): readonly Finding[] {
  const found = selections.map(({ bank, pcrs }) => `${bank}:${pcrs.join(',')}`).join(' + ')
  if (selections.every(({ pcrs }) => pcrs.length === 0)) {
    return [failed('quote.selection', 'QUOTE_SELECTION', 'at least one PCR', found || 'none')]
  }
  return selections.some(({ bank }) => bank === 'sha1')
    ? [failed('quote.selection', 'QUOTE_HASH_WEAK', 'banks of SHA-256 or stronger', found)]
    : [passed('quote.selection', found)]
}

/** The structured file of `tpm2_quote`, or bare values in the order of the quote's selection. */
function readPcrs(octets: Uint8Array, quote: Quote): PcrFile {
  const [selection, ...others] = quote.selections
  try {
    return parsePcrFile(octets)
  } catch (error) {
    if (!isPlatformError(error) || !selection || others.length > 0) throw error
    return { selections: [selection], values: [...splitPcrValues(octets, selection).values()] }
  }
}

function verifyPcrFile(quote: Quote, file: PcrFile, hash: HashName): readonly Finding[] {
  const text = (selections: readonly PcrSelection[]) =>
    selections.map(({ bank, pcrs }) => `${bank}:${pcrs.join(',')}`).join(' + ')
  const [quoted, claimed] = [text(quote.selections), text(file.selections)]
  if (quoted !== claimed) {
    return [failed('quote.pcr-values', 'QUOTE_SELECTION', `values of ${quoted}`, claimed)]
  }
  const digest = pcrDigest(hash, [...file.values])
  return [
    timingSafeEqual(digest, quote.pcrDigest)
      ? passed('quote.pcr-digest')
      : failed('quote.pcr-digest', 'QUOTE_PCR_DIGEST', toHex(quote.pcrDigest), toHex(digest)),
  ]
}

function byBank(file: PcrFile): ReadonlyMap<HashName, ReadonlyMap<number, Uint8Array>> {
  const values = [...file.values]
  return new Map(
    file.selections.map(({ bank, pcrs }) => [
      bank,
      new Map(pcrs.map((pcr) => [pcr, values.shift() ?? new Uint8Array()])),
    ]),
  )
}

function verifyLog(
  octets: Uint8Array,
  pcrs: ReadonlyMap<HashName, ReadonlyMap<number, Uint8Array>>,
): readonly Finding[] {
  const log = naming('event log', () => parseEventLog(octets))
  return [...pcrs].flatMap(([bank, values]) => verifyEventLog(log, bank, values).findings)
}

async function verifyImaLog(
  list: Uint8Array,
  pcrs: ReadonlyMap<HashName, ReadonlyMap<number, Uint8Array>>,
): Promise<readonly Finding[]> {
  const findings: Finding[] = []
  for (const [bank, values] of pcrs) {
    const quoted = values.get(IMA_PCR)
    if (!quoted) continue
    const { findings: found } = await verifyImaList(list, { from: startOfIma(bank), quoted })
    findings.push(...found)
  }
  if (findings.length > 0) return findings
  return [failed('ima.replay', 'IMA_REPLAY', 'a quote of PCR 10', 'none')]
}

/** A nonce as an option takes it: hexadecimal, with or without `0x`. */
export function parseNonce(text: string): Uint8Array {
  const hex = text.replace(/^0x/i, '').toLowerCase()
  if (!/^([0-9a-f]{2}){1,64}$/.test(hex)) {
    throw new InvalidArgumentError('expected a nonce of 1 to 64 octets in hexadecimal')
  }
  return fromHex(hex)
}
