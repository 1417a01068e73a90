import type { HostKeyProvider } from '../../api/host-keys.js'
import type { Assurance, KeyContext } from '../../api/key-provider.js'
import type { ErrorCode } from '../../core/error-codes.js'
import { ERROR_CODES } from '../../core/error-codes.js'
import { PlatformError } from '../../core/errors.js'
import { randomOctets } from '../../core/random.js'
import { Secret } from '../../core/secret.js'
import {
  deriveNativeKek,
  type Envelope,
  type PrimaryKey,
  parseEnvelope,
  unwrapKey,
  WRAP_RANDOM_OCTETS,
  wrapKey,
} from '../../envelope/index.js'
import type { KeyClient, KeyToUnwrap } from '../vm/index.js'
import type { KeyKeeper } from './keeper.js'
import type { KeyTaker, KeyUse, TakenKey } from './take-key.js'

/** What the key of a native provider is derived for where it is for no VM. */
const HOST_KEY_ID = 'host'

/**
 * Keys wrapped and unwrapped on this host, with keys that the control plane delivered; keys of all other providers by the
 * key provider service.
 *
 * A provider is known by its name when a key is wrapped, and by the identity in the wrapped key when one is opened.
 *
 * @param remote the key provider service
 * @throws PlatformError from its calls `HOST_KEY_ABSENT`, or the code that the control plane gave for a key that is not
 *   here; `HOST_KEY_NOT_BACKED_UP`; `HOST_ENCRYPTION_OFF` where the control plane said that nothing is encrypted here; `KEY_ASSURANCE` where a key was not sealed to the TPM and has to be; `KEY_ENVELOPE_…`
 */
export function createLocalKeys(
  keeper: KeyKeeper,
  remote: KeyClient,
  options: {
    readonly take: KeyTaker
    /** Hardware UUID of this host. */
    readonly hardwareId: () => string
  },
): KeyClient {
  const { keyring } = keeper

  const findByName = async (name: string): Promise<HostKeyProvider | undefined> => {
    await keeper.ready()
    return keyring.findByName(name)
  }

  /** The key is here afterwards, or it is said why not. */
  const require = async (provider: HostKeyProvider, version: number): Promise<void> => {
    const { providerId, name } = provider
    const isHere = () => keyring.versionsOf(providerId).includes(version)
    if (isHere()) return
    await keeper.askAgain()
    if (isHere()) return
    const reason = keeper.reasonOf(providerId, version)
    if (reason) throw new PlatformError(knownCode(reason.code), reason.message)
    throw new PlatformError('HOST_KEY_ABSENT', `expected key ${version} of ${name}, found none`)
  }

  const withKek = <T>(
    provider: HostKeyProvider,
    version: number,
    context: KeyContext,
    use: (kek: PrimaryKey) => T,
  ): T =>
    keyring.use(provider.providerId, version, (octets) => {
      const key = { providerId: provider.providerId, version, octets }
      if (provider.kind === 'standard') return use(key)
      const kek = deriveNativeKek(key, context['vm'] ?? HOST_KEY_ID)
      try {
        return use(kek)
      } finally {
        kek.octets.fill(0)
      }
    })

  const wrapNative = async (provider: HostKeyProvider, items: KeysToWrap): Promise<string[]> => {
    const { current, name } = provider
    if (current === undefined) {
      const expected = `expected a key of ${name} that was backed up, found none`
      throw new PlatformError('HOST_KEY_NOT_BACKED_UP', expected)
    }
    await require(provider, current)
    return items.map((item) =>
      withKek(provider, current, item.context, (primary) => wrapItem(primary, item)),
    )
  }

  /** A new key for each VM, which the control plane has made at the key server now. */
  const wrapStandard = async (provider: HostKeyProvider, items: KeysToWrap): Promise<string[]> => {
    const taken = new Map<string, TakenKey>()
    try {
      const wrapped: string[] = []
      for (const item of items) {
        const vm = item.context['vm']
        const use: KeyUse =
          vm === undefined ? { kind: 'host', id: options.hardwareId() } : { kind: 'vm', id: vm }
        const key = taken.get(use.id) ?? (await options.take(provider.name, use))
        taken.set(use.id, key)
        const { providerId, version, secret } = key
        wrapped.push(secret.use((octets) => wrapItem({ providerId, version, octets }, item)))
      }
      return wrapped
    } finally {
      for (const { secret } of taken.values()) secret.dispose()
    }
  }

  const open = async (
    item: Parameters<KeyClient['unwrap']>[1][number],
    envelope: Envelope,
    provider: HostKeyProvider,
    assurance: Assurance,
  ): Promise<Secret> => {
    const { purpose, context } = item
    const { version } = envelope.header
    if (assurance === 'tpm' && !provider.tpmRequired) {
      const expected = `expected keys sealed to the TPM, found ${provider.name} without that`
      throw new PlatformError('KEY_ASSURANCE', expected)
    }
    await require(provider, version)
    return withKek(
      provider,
      version,
      context,
      (primary) => new Secret(unwrapKey({ primary, envelope, purpose, context })),
    )
  }

  /** Keys of providers of this host are its own; nobody else notes them. */
  const isElsewhere = ({ wrapped }: KeyToUnwrap): boolean =>
    keyring.findById(parseEnvelope(wrapped).header.provider) === undefined

  const client: KeyClient = {
    async wrap(name, items) {
      const provider = await findByName(name)
      if (keeper.isEncryptionOff) {
        const expected = 'expected a host where encryption is not turned off, found it off'
        throw new PlatformError('HOST_ENCRYPTION_OFF', expected)
      }
      if (!provider) return remote.wrap(name, items)
      return provider.kind === 'native'
        ? wrapNative(provider, items)
        : wrapStandard(provider, items)
    },

    async unwrap(name, items, assurance) {
      await keeper.ready()
      const places = items.map((item) => {
        const envelope = parseEnvelope(item.wrapped)
        return { item, envelope, provider: keyring.findById(envelope.header.provider) }
      })
      const elsewhere = places.filter(({ provider }) => !provider).map(({ item }) => item)
      const remotes =
        elsewhere.length > 0 ? [...(await remote.unwrap(name, elsewhere, assurance))] : []
      const keys: Secret[] = []
      try {
        for (const { item, envelope, provider } of places) {
          const key = provider ? await open(item, envelope, provider, assurance) : remotes.shift()
          if (!key) throw new TypeError('the key provider gave too few keys')
          keys.push(key)
        }
        return keys
      } catch (error) {
        for (const key of [...keys, ...remotes]) key.dispose()
        throw error
      }
    },

    async rewrap(name, items) {
      const provider = await findByName(name)
      if (!provider) return remote.rewrap(name, items)
      const isNewest = ({ wrapped }: KeyToUnwrap): boolean => {
        const { header } = parseEnvelope(wrapped)
        return header.provider === provider.providerId && header.version === provider.current
      }
      const older = items.filter((item) => !isNewest(item))
      if (older.length === 0) return items.map(({ wrapped }) => wrapped)
      const keys = await client.unwrap(name, older, 'session')
      try {
        const texts = await client.wrap(
          name,
          older.map(({ purpose, context }, index) => {
            const dek = keys[index]
            if (!dek) throw new TypeError('too few keys')
            return { purpose, context, dek }
          }),
        )
        const renewed = new Map(older.map((item, index) => [item, texts[index] ?? item.wrapped]))
        return items.map((item) => renewed.get(item) ?? item.wrapped)
      } finally {
        for (const key of keys) key.dispose()
      }
    },

    async release(name, items) {
      await keeper.ready()
      const elsewhere = items.filter(isElsewhere)
      if (elsewhere.length > 0) await remote.release(name, elsewhere)
    },
  }
  return client
}

type KeysToWrap = Parameters<KeyClient['wrap']>[1]

function wrapItem(primary: PrimaryKey, { purpose, context, dek }: KeysToWrap[number]): string {
  const random = randomOctets(WRAP_RANDOM_OCTETS)
  return dek.use((octets) => wrapKey({ primary, purpose, context, dek: octets, random }))
}

function knownCode(code: string): ErrorCode {
  return Object.hasOwn(ERROR_CODES, code) ? (code as ErrorCode) : 'HOST_KEY_ABSENT'
}
