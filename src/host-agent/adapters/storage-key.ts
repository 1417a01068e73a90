import type { Bank } from '../../api/common.js'
import { isPlatformError, PlatformError } from '../../core/errors.js'
import { randomOctets } from '../../core/random.js'
import { Secret } from '../../core/secret.js'
import { type KeyBlob, type LoadedKey, sealedObjectTemplate, type Tpm } from '../../tpm/index.js'
import { withStoragePrimary } from './storage-primary.js'

const KEY_OCTETS = 32

/** A storage key as it may lie on the disk: the TPM that sealed it opens it while the PCRs are as they were. */
export interface SealedStorageKey {
  readonly bank: Bank
  readonly pcrs: readonly number[]
  readonly blob: KeyBlob
}

/** What the agent encrypts keys with that it keeps on the disk. */
export interface StorageKey extends SealedStorageKey {
  readonly secret: Secret
}

/**
 * A new key, and the same key in an object of the TPM that PolicyPCR alone opens.
 *
 * TPM2_Create needs a slot of its own beside the parent's: TPMs have three.
 *
 * @param parent the storage primary
 * @param policy `digest` is PolicyPCR over the values that are attested
 */
export async function createStorageKey(
  tpm: Tpm,
  parent: LoadedKey,
  policy: {
    readonly bank: Bank
    readonly pcrs: readonly number[]
    readonly digest: Uint8Array
  },
): Promise<StorageKey> {
  const { bank, pcrs, digest } = policy
  const octets = randomOctets(KEY_OCTETS)
  try {
    const blob = await tpm.seal(parent, sealedObjectTemplate(digest), octets)
    return { bank, pcrs, blob, secret: new Secret(octets) }
  } catch (error) {
    octets.fill(0)
    throw error
  }
}

/**
 * Has the TPM open a storage key. The caller disposes of it.
 *
 * @throws PlatformError `HOST_KEY_PCRS`; `TPM_OBJECT_FOREIGN` for another TPM's, or one that was altered
 */
export async function openStorageKey(tpm: Tpm, sealed: SealedStorageKey): Promise<Secret> {
  try {
    const octets = await withStoragePrimary(tpm, (parent) =>
      tpm.unsealWithPcrPolicy(parent, sealed.blob, sealed),
    )
    if (octets.length === KEY_OCTETS) return new Secret(octets)
    octets.fill(0)
    const found = `found ${octets.length}`
    throw new PlatformError('HOST_KEY_ALTERED', `expected a key of ${KEY_OCTETS} octets, ${found}`)
  } catch (cause) {
    if (!isPlatformError(cause, 'TPM_POLICY_FAIL')) throw cause
    const message = `expected PCRs ${sealed.pcrs.join(', ')} as when keys were sealed, found others`
    throw new PlatformError('HOST_KEY_PCRS', message, { cause })
  }
}
