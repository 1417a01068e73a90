import { isPlatformError, PlatformError } from '../../core/errors.js'
import type { Secret } from '../../core/secret.js'
import type { KdkSeal, KeySource, StoredHostKey } from '../host-key-ports.js'

/** Keys of native providers from under the root key, those of standard providers from their key servers. */
export function keySource(kdks: KdkSeal, keyServers: KeySource): KeySource {
  return {
    fetch: async (provider, keys) =>
      provider.kind === 'standard'
        ? keyServers.fetch(provider, keys)
        : keys.map((key) => openKdk(kdks, key)),
  }
}

function openKdk(kdks: KdkSeal, key: StoredHostKey): Secret | PlatformError {
  const { providerId, version, sealed } = key
  if (!sealed) return new PlatformError('HOST_KEY_ABSENT', `version ${version} was erased`)
  try {
    return kdks.open({ providerId, version }, sealed)
  } catch (error) {
    if (!isPlatformError(error)) throw error
    return error
  }
}
