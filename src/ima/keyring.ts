import { createHash, type KeyObject, X509Certificate } from 'node:crypto'
import { equalBytes } from '../core/bytes.js'
import { HASH_ALGORITHMS } from '../tpm/index.js'
import type { ImaEntry } from './entry.js'

/** The keyring whose keys the kernel verifies signatures of files with. */
const IMA_KEYRING = '.ima'

/**
 * Whether an entry says that a certificate of one of these keys was put into the keyring `.ima` (template ima-buf, rule
 * `measure func=KEY_CHECK`). Nothing of the certificate but its key is looked at, and no key is learnt from it.
 */
export function isKeyOfImaKeyring(entry: ImaEntry, keys: readonly KeyObject[]): boolean {
  const { path, buffer, digest } = entry
  if (path !== IMA_KEYRING || !buffer || keys.length === 0) return false
  const hash = Object.values(HASH_ALGORITHMS).find(({ name }) => name === digest.algorithm)
  if (!hash || !equalBytes(createHash(hash.name).update(buffer).digest(), digest.digest)) {
    return false
  }
  const added = readCertificateKey(buffer)
  return added !== undefined && keys.some((key) => key.equals(added))
}

/** The key of a certificate that is all of the octets, so that the kernel read the same one. */
function readCertificateKey(octets: Uint8Array): KeyObject | undefined {
  try {
    const certificate = new X509Certificate(octets)
    return equalBytes(certificate.raw, octets) ? certificate.publicKey : undefined
  } catch {
    return undefined // another kind of key, or no key
  }
}
