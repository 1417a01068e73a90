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
import { isPlatformError, PlatformError } from '../../core/errors.js'
import type { Logger } from '../../core/logger.js'
import { randomOctets } from '../../core/random.js'
import { Secret } from '../../core/secret.js'
import { DEK_OCTETS, type KeptAlgorithm, keptKeyContext } from '../../envelope/index.js'
import {
  decryptOnServer,
  describeKey,
  encryptOnServer,
  findServerCipher,
  type KeyServers,
  openKeyServerClient,
  openKeyServers,
  parseKeyServers,
  requirePassed,
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
  REVOCATION_REASON_CODE,
} from '../../kmip/index.js'
import type { RootKey } from '../../store/index.js'
import type { KeyServerKeys, KeyServerProvider, Keystore, StoredKey } from '../ports.js'

const KEY_OCTETS = 32
const MAC_OCTETS = 16

/** Which key of the key server a version is. Sealed as a primary key would be: nobody can name another in its place. */
const Reference = Exactly({
  keyId: Type.String({ minLength: 1, maxLength: 1024 }),
  /** For a key that is kept: what the server does with it, and the key of the MAC over what it encrypted. */
  kept: Type.Optional(
    Exactly({
      cipher: Type.Union([Type.Literal('A256GCM'), Type.Literal('A256CTR')]),
      macKey: Octets(KEY_OCTETS, 'key of the MAC'),
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
    const events = (event: KmipClientEvent) => logEvent(deps.logger, providerId, event)
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
        lengthBits: KEY_OCTETS * 8,
        usageMask: Encrypt | Decrypt,
      })
      try {
        await client.activate(keyId)
        if (provider.backend.place === 'fetched') return { sealed: seal(provider, key, { keyId }) }
        const context = keptKeyContext(providerId, key.version)
        const cipher = await findServerCipher(client, keyId, context)
        const macKey = toBase64url(randomOctets(KEY_OCTETS))
        return { sealed: seal(provider, key, { keyId, kept: { cipher, macKey } }) }
      } catch (error) {
        await destroy(client, keyId, deps.logger)
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
      await revokeAndDestroy(client, keyId)
      await known?.then((secret) => secret.dispose()).catch(() => undefined)
    },

    async discard(provider, key) {
      const { keyId } = referenceOf(provider, key)
      await destroy(connectionOf(provider).client, keyId, deps.logger)
    },

    async requireUsable(provider, key) {
      const { client } = connectionOf(provider)
      if (provider.backend.place === 'fetched') {
        using _ = await getKey(client, referenceOf(provider, key).keyId)
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
        getKey(client, keyId).catch((error: unknown) => {
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

async function getKey(client: KmipClient, keyId: string): Promise<Secret> {
  const { material, wrapped } = await client.get(keyId)
  if (material.length === KEY_OCTETS && wrapped === undefined) return material
  const found = `${material.length} octets${wrapped ? ', wrapped' : ''}`
  material.dispose()
  throw new KmipError('KMS_PROTOCOL', `expected a key of ${KEY_OCTETS} octets, found ${found}`)
}

function copyOf(secret: Secret): Secret {
  return new Secret(secret.use((octets) => Uint8Array.from(octets)))
}

async function revokeAndDestroy(client: KmipClient, keyId: string): Promise<void> {
  try {
    await client
      .revoke(keyId, { reason: REVOCATION_REASON_CODE.CessationOfOperation })
      // A key that was not activated, or was revoked before, need not be; Destroy says whether it can be destroyed.
      .catch(() => undefined)
    await client.destroy(keyId)
  } catch (error) {
    const isGone =
      isPlatformError(error, 'KMS_KEY_NOT_FOUND') || isPlatformError(error, 'KMS_KEY_DESTROYED')
    if (!isGone) throw error
  }
}

/** What cannot be destroyed is logged: it protects nothing, and stays until somebody removes it there. */
async function destroy(client: KmipClient, keyId: string, logger: Logger): Promise<void> {
  try {
    await revokeAndDestroy(client, keyId)
  } catch (err) {
    if (!(err instanceof KmipError)) throw err
    logger.warn(
      { event: 'key-server.key-left', keyId, err },
      'a key that is not used stays in the key server',
    )
  }
}

function logEvent(logger: Logger, providerId: string, event: KmipClientEvent): void {
  const { event: name, ...fields } = event
  const entry = { event: name, providerId, ...fields }
  if (name === 'kmip.server.failed') logger.warn(entry, 'a key server failed')
  else logger.info(entry, 'news of a key server')
}
