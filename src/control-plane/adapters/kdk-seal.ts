import { lengthPrefixed, utf8 } from '../../core/bytes.js'
import type { RootKey } from '../../store/index.js'
import type { KdkId, KdkSeal } from '../host-key-ports.js'

const PURPOSE = 'native-key'

/** Keys of native providers sealed under the root key, each bound to its provider and version. */
export function kdkSeal(rootKey: RootKey): KdkSeal {
  return {
    seal: (id, octets) => rootKey.seal(PURPOSE, contextOf(id), octets),
    open: (id, sealed) => rootKey.open(PURPOSE, contextOf(id), sealed),
  }
}

function contextOf({ providerId, version }: KdkId): Uint8Array {
  return lengthPrefixed(utf8(providerId), utf8(String(version)))
}
