import { toBase64url } from '../../core/bytes.js'
import type { Clock } from '../../core/clock.js'
import { isPlatformError, type PlatformError } from '../../core/errors.js'
import type { Logger } from '../../core/logger.js'
import { newUuid } from '../../core/random.js'
import type { Secret } from '../../core/secret.js'
import {
  creationAttributes,
  describeKey,
  discardServerKey,
  fetchServerKey,
  logKeyServerEvent,
  type KeyServers as OpenKeyServers,
  openKeyServerClient,
  openKeyServers,
  parseKeyServers,
  requirePassed,
  SERVER_KEY_OCTETS,
  sealKeyServers,
  testKeyServers,
  useAttributes,
  viewOfKeyServers,
} from '../../key-servers/index.js'
import {
  CRYPTOGRAPHIC_USAGE_MASK,
  type KmipClient,
  type KmipClientEvent,
} from '../../kmip/index.js'
import type { RootKey } from '../../store/index.js'
import type { KeyServers, StoredKeyProvider } from '../host-key-ports.js'

const { Encrypt, Decrypt } = CRYPTOGRAPHIC_USAGE_MASK
const COMPONENTS = { vm: 'Virtual Machine', host: 'KVM Host' } as const
/** Keys that are asked for at the same time: as many as the client has connections. */
const AT_ONCE = 4

interface Connection {
  readonly sealed: Uint8Array
  readonly servers: OpenKeyServers
  readonly client: KmipClient
}

/**
 * Keys of standard providers at their key servers, one client for each provider. A key is in memory while it passes to a
 * host, and nowhere else. To be closed.
 *
 * @param deps.build version of this program, for the console of the key server
 */
export function keyServerKeks(deps: {
  readonly rootKey: RootKey
  readonly build: string
  readonly clock: Clock
  readonly logger: Logger
}): KeyServers & AsyncDisposable {
  const { rootKey, logger } = deps
  const connections = new Map<string, Connection>()

  const serversOf = ({ providerId, keyServers }: StoredKeyProvider): OpenKeyServers => {
    if (!keyServers) throw new TypeError('a standard provider without key servers')
    return openKeyServers(rootKey, subjectOf(providerId), keyServers)
  }

  const clientOf = (provider: StoredKeyProvider): KmipClient => {
    const { providerId, keyServers } = provider
    const sealed = keyServers?.sealed ?? new Uint8Array()
    const before = connections.get(providerId)
    if (before && toBase64url(before.sealed) === toBase64url(sealed)) return before.client
    const servers = serversOf(provider)
    const events = (event: KmipClientEvent) => logKeyServerEvent(logger, providerId, event)
    const client = openKeyServerClient(servers, { events, clock: deps.clock })
    connections.set(providerId, { sealed, servers, client })
    if (before) void close(before)
    return client
  }

  return {
    async accept(providerId, input, { before, nowMs, force }) {
      using old = before && openKeyServers(rootKey, subjectOf(providerId), before)
      using servers = parseKeyServers(input, old)
      requirePassed(await testKeyServers(servers, { place: 'fetched', nowMs }), force)
      return sealKeyServers(rootKey, subjectOf(providerId), servers)
    },

    async test(provider, nowMs) {
      using servers = serversOf(provider)
      return await testKeyServers(servers, { place: 'fetched', nowMs })
    },

    view(provider) {
      using servers = serversOf(provider)
      return viewOfKeyServers(servers)
    },

    async make(provider) {
      const client = clientOf(provider)
      const keyId = await client.create({
        // Nobody else has this name: a lost response is found by it
        name: `sigillo-${provider.providerId}-${newUuid()}`,
        lengthBits: SERVER_KEY_OCTETS * 8,
        usageMask: Encrypt | Decrypt,
      })
      try {
        const description = await describeKey(client, keyId, creationAttributes(deps.build))
        const secret = await fetchServerKey(client, keyId)
        await client.activate(keyId).catch((error: unknown) => {
          secret.dispose()
          throw error
        })
        return { keyId, secret, ...refusedOf(description) }
      } catch (error) {
        await discardServerKey(client, keyId, logger)
        throw error
      }
    },

    async fetch(provider, keys) {
      const results: (Secret | PlatformError)[] = new Array(keys.length)
      let down: PlatformError | undefined
      let next = 0
      const work = async (): Promise<void> => {
        for (let index = next++; index < keys.length; index = next++) {
          const keyId = keys[index]?.keyId ?? ''
          // A cluster of key servers that does not answer is not asked for each key in turn
          results[index] = down ?? (await attempt(() => fetchServerKey(clientOf(provider), keyId)))
          const result = results[index]
          if (isPlatformError(result) && isDown(result)) down = result
        }
      }
      await Promise.all(Array.from({ length: AT_ONCE }, work))
      return results
    },

    async describe(provider, keyId, { kind, name, identifier }) {
      const attributes = useAttributes({ component: COMPONENTS[kind], name, identifier })
      return refusedOf(await describeKey(clientOf(provider), keyId, attributes))
    },

    async discard(provider, keyId) {
      await discardServerKey(clientOf(provider), keyId, logger)
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

async function close({ client, servers }: Connection): Promise<void> {
  await client[Symbol.asyncDispose]()
  servers[Symbol.dispose]()
}

async function attempt(work: () => Promise<Secret>): Promise<Secret | PlatformError> {
  try {
    return await work()
  } catch (error) {
    if (!isPlatformError(error)) throw error
    return error
  }
}

function isDown({ code }: PlatformError): boolean {
  return code === 'KMS_UNREACHABLE' || code === 'KMS_TIMEOUT' || code === 'KMS_TLS'
}

function refusedOf({ refused, code }: Awaited<ReturnType<typeof describeKey>>) {
  return { refused, ...(code === undefined ? {} : { code }) }
}
