import { lengthPrefixed, utf8 } from '../../core/bytes.js'
import type { RootKey } from '../../store/index.js'
import type { KdkId, KdkSeal } from '../host-key-ports.js'

/** What keys of native providers are sealed for. */
export const KDK_PURPOSE = 'native-key'

/** Keys of native providers sealed under the root key, each bound to its provider and version. */
export function kdkSeal(rootKey: RootKey): KdkSeal {
  return {
    seal: (id, octets) => rootKey.seal(KDK_PURPOSE, kdkContext(id), octets),
    open: (id, sealed) => rootKey.open(KDK_PURPOSE, kdkContext(id), sealed),
  }
}

export function kdkContext({ providerId, version }: KdkId): Uint8Array {
  return lengthPrefixed(utf8(providerId), utf8(String(version)))
}
