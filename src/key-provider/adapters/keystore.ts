import { lengthPrefixed, utf8 } from '../../core/bytes.js'
import type { RootKey } from '../../store/index.js'
import type { Keystore, PrimaryKeyId } from '../ports.js'

/** What primary keys are sealed for. */
export const PRIMARY_KEY_PURPOSE = 'primary-key'

/** Primary keys sealed under the root key, each bound to its provider, version and time of making. */
export function embeddedKeystore(rootKey: RootKey): Keystore {
  return {
    seal: (id, octets) => rootKey.seal(PRIMARY_KEY_PURPOSE, primaryKeyContext(id), octets),
    open: (id, sealed) => rootKey.open(PRIMARY_KEY_PURPOSE, primaryKeyContext(id), sealed),
  }
}

export function primaryKeyContext({ providerId, version, createdAtMs }: PrimaryKeyId): Uint8Array {
  return lengthPrefixed(utf8(providerId), utf8(String(version)), utf8(String(createdAtMs)))
}
