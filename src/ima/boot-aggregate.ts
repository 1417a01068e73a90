import { createHash } from 'node:crypto'
import { equalBytes, toHex } from '../core/bytes.js'
import type { HashName } from '../tpm/index.js'
import type { ImaEntry } from './entry.js'

/** The name of the first entry of a boot. */
export const BOOT_AGGREGATE = 'boot_aggregate'
/** PCRs below these: of SHA-1 and on older kernels; of other banks since Linux 5.8. */
const AGGREGATED = [8, 10] as const

export type AggregateVerdict =
  | { readonly kind: 'same' }
  | { readonly kind: 'other'; readonly expected: string }
  /** It is of another bank, or of PCRs that were not quoted. */
  | { readonly kind: 'unknown' }

/**
 * Compares the boot aggregate, a digest over the PCRs of the firmware, with quoted values: over PCR 0 to 7 or, in other
 * banks than SHA-1, 0 to 9.
 *
 * @see Linux, security/integrity/ima/ima_crypto.c, ima_calc_boot_aggregate_tfm
 */
export function compareBootAggregate(
  { digest }: ImaEntry,
  quoted: { readonly bank: HashName; readonly pcrValues: ReadonlyMap<number, Uint8Array> },
): AggregateVerdict {
  const { bank, pcrValues } = quoted
  if (digest.algorithm !== bank || digest.kind !== 'file') return { kind: 'unknown' }
  const counts = bank === 'sha1' ? AGGREGATED.slice(0, 1) : AGGREGATED
  const aggregates = counts.map((count) => aggregateOf(bank, pcrValues, count))
  const isSame = aggregates.some((value) => value !== undefined && equalBytes(value, digest.digest))
  if (isSame) return { kind: 'same' }
  const last = aggregates.at(-1)
  return last ? { kind: 'other', expected: toHex(last) } : { kind: 'unknown' }
}

function aggregateOf(
  bank: HashName,
  pcrValues: ReadonlyMap<number, Uint8Array>,
  count: number,
): Uint8Array | undefined {
  const hash = createHash(bank)
  for (let pcr = 0; pcr < count; pcr += 1) {
    const value = pcrValues.get(pcr)
    if (!value) return undefined
    hash.update(value)
  }
  return hash.digest()
}
