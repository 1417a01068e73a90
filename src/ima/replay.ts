import { createHash } from 'node:crypto'
import { equalBytes } from '../core/bytes.js'
import { HASH_ALGORITHMS, type HashName } from '../tpm/index.js'
import type { ImaEntry, ImaProgress } from './entry.js'

export const IMA_PCR = 10

/** How a kernel extends a bank other than SHA-1. */
export type ImaExtension =
  /** By the digest of the template data in the bank's own algorithm: since Linux 5.8. */
  | 'own-digest'
  /** By the SHA-1 digest with zeros after it: before. */
  | 'padded-sha1'

/** A list before its first entry. */
export function startOfIma(bank: HashName): ImaProgress {
  return { bank, entries: 0, value: new Uint8Array(HASH_ALGORITHMS[bank].digestOctets) }
}

/**
 * The value of PCR 10 after one more entry. An entry of another PCR leaves it as it is; a violation extends ones.
 *
 * @see Linux, security/integrity/ima/ima_queue.c, ima_add_template_entry
 */
export function extendIma(
  progress: ImaProgress,
  entry: ImaEntry,
  extension: ImaExtension,
): ImaProgress {
  const { bank } = progress
  const entries = progress.entries + 1
  if (entry.pcr !== IMA_PCR) return { ...progress, entries }
  const digest = extended(entry, bank, extension)
  const value = createHash(bank).update(progress.value).update(digest).digest()
  return { bank, entries, value: new Uint8Array(value) }
}

function extended(entry: ImaEntry, bank: HashName, extension: ImaExtension): Uint8Array {
  const { digestOctets } = HASH_ALGORITHMS[bank]
  if (entry.violation) return new Uint8Array(digestOctets).fill(0xff)
  if (extension === 'own-digest' || bank === 'sha1') {
    return createHash(bank).update(entry.templateData).digest()
  }
  const padded = new Uint8Array(digestOctets)
  padded.set(createHash('sha1').update(entry.templateData).digest())
  return padded
}

/** Whether the template hash of an entry is a digest of its data. It bears no trust: replay hashes the data itself. */
export function hasOwnHash(entry: ImaEntry): boolean {
  if (entry.violation) return true
  const { length } = entry.templateHash
  const hash = Object.values(HASH_ALGORITHMS).find(({ digestOctets }) => digestOctets === length)
  if (!hash) return false
  return equalBytes(entry.templateHash, createHash(hash.name).update(entry.templateData).digest())
}
