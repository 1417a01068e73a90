import { createHmac } from 'node:crypto'
import { type Static, Type } from 'typebox'
import { Value } from 'typebox/value'
import { Exactly, Octets } from '../../api/common.js'
import {
  concat,
  fromBase64url,
  lengthPrefixed,
  timingSafeEqual,
  toBase64url,
  utf8,
} from '../../core/bytes.js'
import { canonicalJson } from '../../core/canonical-json.js'
import type { Clock } from '../../core/clock.js'
import { PlatformError } from '../../core/errors.js'
import type { Logger } from '../../core/logger.js'
import { randomOctets } from '../../core/random.js'
import { Secret } from '../../core/secret.js'
import { DEK_OCTETS, type KeptAlgorithm, keptKeyContext } from '../../envelope/index.js'
import {
  decryptOnServer,
  describeKey,
  destroyServerKey,
  discardServerKey,
  encryptOnServer,
  fetchServerKey,
  findServerCipher,
  type KeyServers,
  logKeyServerEvent,
  openKeyServerClient,
  openKeyServers,
  parseKeyServers,
  requirePassed,
  SERVER_KEY_OCTETS,
  type ServerCipher,
  sealKeyServers,
  testKeyServers,
  viewOfKeyServers,
} from '../../key-servers/index.js'
import {
  CRYPTOGRAPHIC_USAGE_MASK,
  type KmipClient,
  type KmipClientEvent,
  KmipError,
} from '../../kmip/index.js'
import type { RootKey } from '../../store/index.js'
import type { KeyServerKeys, KeyServerProvider, Keystore, StoredKey } from '../ports.js'

const MAC_KEY_OCTETS = 32
const MAC_OCTETS = 16

/** Which key of the key server a version is. Sealed as a primary key would be: nobody can name another in its place. */
const Reference = Exactly({
  keyId: Type.String({ minLength: 1, maxLength: 1024 }),
  /** For a key that is kept: what the server does with it, and the key of the MAC over what it encrypted. */
  kept: Type.Optional(
    Exactly({
      cipher: Type.Union([Type.Literal('A256GCM'), Type.Literal('A256CTR')]),
      macKey: Octets(MAC_KEY_OCTETS, 'key of the MAC'),
    }),
  ),
})
type Reference = Static<typeof Reference>

const ALGORITHMS: Readonly<Record<ServerCipher, KeptAlgorithm>> = {
  A256GCM: 'KMIP-A256GCM+HKDF-SHA256+A256GCM',
  A256CTR: 'KMIP-A256CTR+HKDF-SHA256+A256GCM',
}

interface Connection {
  readonly sealed: Uint8Array
  readonly servers: KeyServers
  readonly client: KmipClient
  /** Primary keys that were fetched, by version. In memory alone, until settings change or the service ends. */
  readonly fetched: Map<number, Promise<Secret>>
}

/** Primary keys in key servers, one client for each provider. To be closed: that wipes what was fetched. */
export function keyServerKeys(deps: {
  readonly rootKey: RootKey
  readonly keystore: Keystore
  readonly clock: Clock
  readonly logger: Logger
}): KeyServerKeys & AsyncDisposable {
  const { rootKey, keystore } = deps
  const connections = new Map<string, Connection>()

  const connectionOf = ({ providerId, backend }: KeyServerProvider): Connection => {
    const before = connections.get(providerId)
    if (before && toBase64url(before.sealed) === toBase64url(backend.servers.sealed)) return before
    const servers = openKeyServers(rootKey, subjectOf(providerId), backend.servers)
    const events = (event: KmipClientEvent) => logKeyServerEvent(deps.logger, providerId, event)
    const connection = {
      sealed: backend.servers.sealed,
      servers,
      client: openKeyServerClient(servers, { events, clock: deps.clock }),
      fetched: new Map(),
    }
    connections.set(providerId, connection)
    if (before) void close(before)
    return connection
  }

  /** Opens with the root key every time, so that a sealed service serves nobody from memory. */
  const referenceOf = (provider: KeyServerProvider, key: StoredKey): Reference => {
    const { version, createdAtMs } = key
    const id = { providerId: provider.providerId, version, createdAtMs }
    using octets = keystore.open(id, key.sealed)
    return Value.Parse(
      Reference,
      JSON.parse(octets.use((text) => Buffer.from(text).toString('utf8'))),
    )
  }

  const seal = (
    provider: KeyServerProvider,
    key: Omit<StoredKey, 'sealed'>,
    reference: Reference,
  ): Uint8Array => {
    const { version, createdAtMs } = key
    const id = { providerId: provider.providerId, version, createdAtMs }
    return keystore.seal(id, utf8(canonicalJson(reference)))
  }

  const keptUse = (provider: KeyServerProvider, key: StoredKey) => {
    const { keyId, kept } = referenceOf(provider, key)
    if (!kept) throw new TypeError('a key that is fetched encrypts nothing there')
    const { cipher } = kept
    const additionalData = keptKeyContext(provider.providerId, key.version)
    const mac = (sealed: Uint8Array): Uint8Array => {
      const hmac = createHmac('sha256', fromBase64url(kept.macKey))
      const octets = lengthPrefixed(additionalData, utf8(cipher), sealed)
      return new Uint8Array(hmac.update(octets).digest()).subarray(0, MAC_OCTETS)
    }
    return { keyId, cipher, additionalData, mac }
  }

  return {
    async accept(input, options) {
      const { providerId, place, before, nowMs, force } = options
      using old = before && openKeyServers(rootKey, subjectOf(providerId), before)
      using servers = parseKeyServers(input, old)
      requirePassed(await testKeyServers(servers, { place, nowMs }), force)
      return sealKeyServers(rootKey, subjectOf(providerId), servers)
    },

    async test({ providerId, backend }, nowMs) {
      using servers = openKeyServers(rootKey, subjectOf(providerId), backend.servers)
      return await testKeyServers(servers, { place: backend.place, nowMs })
    },

    view({ providerId, backend }) {
      using servers = openKeyServers(rootKey, subjectOf(providerId), backend.servers)
      return viewOfKeyServers(servers)
    },

    async make(provider, key) {
      const { client } = connectionOf(provider)
      const { providerId } = provider
      const { Encrypt, Decrypt } = CRYPTOGRAPHIC_USAGE_MASK
      const keyId = await client.create({
        name: `sigillo-${providerId}-${key.version}-${key.createdAtMs}`,
        lengthBits: SERVER_KEY_OCTETS * 8,
        usageMask: Encrypt | Decrypt,
      })
      try {
        await client.activate(keyId)
        if (provider.backend.place === 'fetched') return { sealed: seal(provider, key, { keyId }) }
        const context = keptKeyContext(providerId, key.version)
        const cipher = await findServerCipher(client, keyId, context)
        const macKey = toBase64url(randomOctets(MAC_KEY_OCTETS))
        return { sealed: seal(provider, key, { keyId, kept: { cipher, macKey } }) }
      } catch (error) {
        await discardServerKey(client, keyId, deps.logger)
        throw error
      }
    },

    async describe(provider, key, attributes) {
      const { keyId } = referenceOf(provider, key)
      return (await describeKey(connectionOf(provider).client, keyId, { ...attributes })).refused
    },

    async destroy(provider, key) {
      const { keyId } = referenceOf(provider, key)
      const { client, fetched } = connectionOf(provider)
      const known = fetched.get(key.version)
      fetched.delete(key.version)
      await destroyServerKey(client, keyId)
      await known?.then((secret) => secret.dispose()).catch(() => undefined)
    },

    async discard(provider, key) {
      const { keyId } = referenceOf(provider, key)
      await discardServerKey(connectionOf(provider).client, keyId, deps.logger)
    },

    async requireUsable(provider, key) {
      const { client } = connectionOf(provider)
      if (provider.backend.place === 'fetched') {
        using _ = await fetchServerKey(client, referenceOf(provider, key).keyId)
        return
      }
      const use = keptUse(provider, key)
      const opened = await decryptOnServer(
        client,
        use,
        await encryptOnServer(client, use, randomOctets(DEK_OCTETS)),
      )
      opened.fill(0)
    },

    async fetch(provider, key) {
      const { keyId } = referenceOf(provider, key)
      const connection = connectionOf(provider)
      const { client, fetched } = connection
      const known =
        fetched.get(key.version) ??
        fetchServerKey(client, keyId).catch((error: unknown) => {
          fetched.delete(key.version)
          throw error
        })
      fetched.set(key.version, known)
      const secret = await known
      if (connections.get(provider.providerId) !== connection) {
        // It may be wiped by now: zeros must not pass for a key.
        throw new KmipError('KMS_UNAVAILABLE', 'the key servers of the provider changed meanwhile')
      }
      return copyOf(secret)
    },

    async newWrappingKey(provider, key) {
      const use = keptUse(provider, key)
      const secret = new Secret(randomOctets(DEK_OCTETS))
      try {
        const encrypted = await secret.use((octets) =>
          // The client fills its request with zeros when it was written, and so a copy of these.
          encryptOnServer(connectionOf(provider).client, use, Uint8Array.from(octets)),
        )
        const sealed = concat(encrypted, use.mac(encrypted))
        return { secret, kek: { algorithm: ALGORITHMS[use.cipher], sealed } }
      } catch (error) {
        secret.dispose()
        throw error
      }
    },

    async openWrappingKey(provider, key, kek) {
      const use = keptUse(provider, key)
      const encrypted = kek.sealed.subarray(0, -MAC_OCTETS)
      const isOurs =
        ALGORITHMS[use.cipher] === kek.algorithm &&
        timingSafeEqual(kek.sealed.subarray(-MAC_OCTETS), use.mac(encrypted))
      // Key servers are not asked about what somebody made up: some fail on it, and counter mode would not notice.
      if (!isOurs) {
        throw new PlatformError(
          'KEY_ENVELOPE_AUTHENTICATION',
          'expected a wrapped key of this provider, found another or a changed one',
        )
      }
      return new Secret(await decryptOnServer(connectionOf(provider).client, use, encrypted))
    },

    async [Symbol.asyncDispose]() {
      const open = [...connections.values()]
      connections.clear()
      for (const connection of open) await close(connection)
    },
  }
}

/** What the connection of a provider is sealed as. */
export function subjectOf(providerId: string): string {
  return `provider:${providerId}`
}

/** Requests under way fail as when the key server closes the connection, and can be made again. */
async function close({ client, servers, fetched }: Connection): Promise<void> {
  await client[Symbol.asyncDispose]()
  servers[Symbol.dispose]()
  for (const key of fetched.values()) {
    await key.then(
      (secret) => secret.dispose(),
      // It was told to who asked for the key.
      () => undefined,
    )
  }
}

function copyOf(secret: Secret): Secret {
  return new Secret(secret.use((octets) => Uint8Array.from(octets)))
}
