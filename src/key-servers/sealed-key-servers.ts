import { Type } from 'typebox'
import { Value } from 'typebox/value'
import { KeyServersInput } from '../api/key-servers.js'
import { lengthPrefixed, utf8 } from '../core/bytes.js'
import { canonicalJson } from '../core/canonical-json.js'
import { PlatformError } from '../core/errors.js'
import { Secret } from '../core/secret.js'
import type { RootKey } from '../store/index.js'
import { type KeyServers, type KeyServersSettings, keyServersOf } from './key-servers.js'

/** What the secrets of connections are sealed for. */
export const KEY_SERVERS_PURPOSE = 'key-servers'

const StoredSettings = Type.Omit(KeyServersInput, ['privateKey', 'password'], {
  additionalProperties: false,
})

/** Key servers as they are stored. */
export interface SealedKeyServers {
  /** JSON of what is no secret. */
  readonly settings: string
  /** The private key and the password under the root key; opens with these settings alone. */
  readonly sealed: Uint8Array
}

/**
 * Key servers for the store. The settings are authenticated with the secrets: who can write to the database cannot send
 * the private key's owner to another server or have another authority trusted.
 *
 * @param subject what they are for, unique in the service: `provider:<id>`
 */
export function sealKeyServers(
  rootKey: RootKey,
  subject: string,
  servers: KeyServers,
): SealedKeyServers {
  const settings = canonicalJson(servers.settings)
  const { password } = servers
  const secrets = servers.privateKeyPem.use((key) =>
    password ? password.use((octets) => lengthPrefixed(key, octets)) : lengthPrefixed(key),
  )
  try {
    return {
      settings,
      sealed: rootKey.seal(KEY_SERVERS_PURPOSE, keyServersContext(subject, settings), secrets),
    }
  } finally {
    secrets.fill(0)
  }
}

/**
 * The caller disposes of them.
 *
 * @throws PlatformError `ROOT_KEY_OPEN` where settings or secrets were changed or are of another subject; `SEALED`
 */
export function openKeyServers(
  rootKey: RootKey,
  subject: string,
  stored: SealedKeyServers,
): KeyServers {
  using secrets = rootKey.open(
    KEY_SERVERS_PURPOSE,
    keyServersContext(subject, stored.settings),
    stored.sealed,
  )
  const settings: KeyServersSettings = Value.Parse(StoredSettings, JSON.parse(stored.settings))
  const [key, password, ...rest] = secrets.use(partsOf)
  if (!key || rest.length > 0) {
    throw new PlatformError('ROOT_KEY_OPEN', 'expected a private key and a password at most')
  }
  return keyServersOf(settings, key, password)
}

export function keyServersContext(subject: string, settings: string): Uint8Array {
  return lengthPrefixed(utf8(subject), utf8(settings))
}

/** The inverse of `lengthPrefixed`; the octets are authentic. */
function partsOf(octets: Uint8Array): readonly Secret[] {
  const data = new DataView(octets.buffer, octets.byteOffset, octets.byteLength)
  const parts: Secret[] = []
  for (let at = 0; at < octets.length; ) {
    const length = data.getUint32(at)
    parts.push(new Secret(Uint8Array.from(octets.subarray(at + 4, at + 4 + length))))
    at += 4 + length
  }
  return parts
}
