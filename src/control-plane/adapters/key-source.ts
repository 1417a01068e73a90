import { isPlatformError, PlatformError } from '../../core/errors.js'
import type { Secret } from '../../core/secret.js'
import type { KdkSeal, KeySource, StoredHostKey } from '../host-key-ports.js'

/** Keys of native providers, from under the root key. */
export function keySource(kdks: KdkSeal): KeySource {
  return {
    fetch: async (_provider, keys) => keys.map((key) => openKdk(kdks, key)),
  }
}

function openKdk(kdks: KdkSeal, { providerId, version, sealed }: StoredHostKey) {
  if (!sealed) return new PlatformError('HOST_KEY_ABSENT', `version ${version} was erased`)
  return resultOf(() => kdks.open({ providerId, version }, sealed))
}

function resultOf(open: () => Secret): Secret | PlatformError {
  try {
    return open()
  } catch (error) {
    if (!isPlatformError(error)) throw error
    return error
  }
}
