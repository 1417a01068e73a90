import { lengthPrefixed, utf8 } from '../../core/bytes.js'
import type { RootKey } from '../../store/index.js'
import type { Keystore, PrimaryKeyId } from '../ports.js'

const PURPOSE = 'primary-key'

/** Primary keys sealed under the root key, each bound to its provider, version and time of making. */
export function embeddedKeystore(rootKey: RootKey): Keystore {
  return {
    seal: (id, octets) => rootKey.seal(PURPOSE, contextOf(id), octets),
    open: (id, sealed) => rootKey.open(PURPOSE, contextOf(id), sealed),
  }
}

function contextOf({ providerId, version, createdAtMs }: PrimaryKeyId): Uint8Array {
  return lengthPrefixed(utf8(providerId), utf8(String(version)), utf8(String(createdAtMs)))
}
