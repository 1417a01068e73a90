import { hkdfSync } from 'node:crypto'
import { lengthPrefixed, utf8 } from '../core/bytes.js'
import type { PrimaryKey } from './wrapped-key.js'

const DOMAIN = 'sigillo native key v1'
const KEK_OCTETS = 32

/**
 * The key that wraps the keys of one VM (or of the host), derived from the key derivation key of a native provider:
 *
 * `HKDF-SHA-256(KDK, no salt, lp(D, provider, decimal(version), key id), 32 octets)`
 *
 * @param kdk 32 octets
 * @param keyId what the key is for: the id of the VM, or `host`
 * @returns with octets that are the caller's to fill with zeros
 * @see docs/host-keys.md; RFC 5869
 */
export function deriveNativeKek(kdk: PrimaryKey, keyId: string): PrimaryKey {
  const { providerId, version } = kdk
  const info = lengthPrefixed(utf8(DOMAIN), utf8(providerId), utf8(String(version)), utf8(keyId))
  const octets = hkdfSync('sha256', kdk.octets, new Uint8Array(), info, KEK_OCTETS)
  return { providerId, version, octets: new Uint8Array(octets) }
}
