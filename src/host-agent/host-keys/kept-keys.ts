import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Static, Type } from 'typebox'
import { Value } from 'typebox/value'
import { Bank, Exactly, Name, Octets, Uuid } from '../../api/common.js'
import type { HostKeyProvider } from '../../api/host-keys.js'
import { WrappedKey } from '../../api/key-provider.js'
import { fromBase64url, toBase64url } from '../../core/bytes.js'
import { isPlatformError, messageOf, PlatformError } from '../../core/errors.js'
import { randomOctets } from '../../core/random.js'
import { Secret } from '../../core/secret.js'
import { parseEnvelope, unwrapKey, WRAP_RANDOM_OCTETS, wrapKey } from '../../envelope/index.js'
import type { Tpm } from '../../tpm/index.js'
import { removeFile, replaceFile } from '../adapters/replace-file.js'
import { openStorageKey, type StorageKey } from '../adapters/storage-key.js'
import type { Keyring } from './keyring.js'

const FILE = 'host-keys.json'
const Version = Type.Integer({ minimum: 1, maximum: 2 ** 31 - 1 })

const KeptProvider = Exactly({
  providerId: Uuid,
  name: Name,
  current: Type.Optional(Version),
  keys: Type.Array(Exactly({ version: Version, wrapped: WrappedKey }), { minItems: 1 }),
})
type KeptProvider = Static<typeof KeptProvider>

/** Nothing here is secret: the storage key opens in its own TPM alone, and what it wraps with it. */
const KeptFile = Exactly({
  format: Type.Literal(1),
  sealed: Exactly({
    bank: Bank,
    pcrs: Type.Array(Type.Integer({ minimum: 0, maximum: 23 }), { minItems: 1, maxItems: 24 }),
    publicBlob: Octets(1024, 'TPM2B_PUBLIC'),
    privateBlob: Octets(1024, 'TPM2B_PRIVATE'),
  }),
  providers: Type.Array(KeptProvider, { minItems: 1 }),
})
type KeptFile = Static<typeof KeptFile>

/**
 * Keys on the disk that outlive the agent: wrapped by a key that the TPM opens while the PCRs are as they were attested.
 *
 * Each is bound to its provider, with name and version that wraps, and to its own version: none opens in the place of
 * another. Not proved is who wrote the file: whoever may write it and use the TPM can put keys of their own in it, so
 * these count until the control plane answers and no longer.
 */
export class KeptKeys {
  readonly #directory: string
  #content: KeptFile | undefined
  #isWritten = true
  /** What `save` wrote last. */
  #saved: { readonly storage: StorageKey; readonly keys: string } | undefined

  constructor(directory: string) {
    this.#directory = directory
  }

  /**
   * Puts what is on the disk into the keyring, all of it or nothing.
   *
   * @throws PlatformError `HOST_KEY_PCRS`, `HOST_KEY_ALTERED`, `AGENT_STATE`, or of the TPM; the file stays until the
   *   control plane answers
   */
  async restore(keyring: Keyring, openTpm: () => Promise<Tpm>): Promise<number> {
    const text = readText(this.#directory)
    if (text === undefined) return 0
    // one that cannot be read is removed with the next change
    this.#isWritten = false
    const { sealed, providers } = parse(text)
    this.#content = { format: 1, sealed, providers }
    this.#isWritten = true
    const { bank, pcrs } = sealed
    const blob = {
      publicBlob: fromBase64url(sealed.publicBlob),
      privateBlob: fromBase64url(sealed.privateBlob),
    }
    using storage = await openStorageKey(await openTpm(), { bank, pcrs, blob })
    const keys: { providerId: string; version: number; secret: Secret }[] = []
    try {
      for (const provider of providers) {
        for (const { version, wrapped } of provider.keys) {
          const secret = unwrap(storage, provider, version, wrapped)
          keys.push({ providerId: provider.providerId, version, secret })
        }
      }
    } catch (error) {
      for (const { secret } of keys) secret.dispose()
      throw error
    }
    keyring.restore(providers.map(providerOf), keys)
    return keys.length
  }

  /** Writes what the keyring has of such keys, where that is not on the disk yet. */
  save(keyring: Keyring, storage: StorageKey): void {
    const providers = keyring.providers
      .filter((one) => isKept(one) && keyring.versionsOf(one.providerId).length > 0)
      .map((provider) => ({ provider, versions: keyring.versionsOf(provider.providerId) }))
    if (providers.length === 0) return
    const keys = JSON.stringify([providers, keyring.holds()])
    if (this.#saved?.storage === storage && this.#saved.keys === keys) {
      this.flush()
      return
    }
    const { bank, pcrs, blob } = storage
    this.#isWritten = false
    this.#content = {
      format: 1,
      sealed: {
        bank,
        pcrs: [...pcrs],
        publicBlob: toBase64url(blob.publicBlob),
        privateBlob: toBase64url(blob.privateBlob),
      },
      providers: providers.map(({ provider, versions }) => {
        const { providerId, name, current } = provider
        const kept = { providerId, name, ...(current === undefined ? {} : { current }) }
        return {
          ...kept,
          keys: versions.map((version) => ({
            version,
            wrapped: keyring.use(providerId, version, (key) => wrap(storage, kept, version, key)),
          })),
        }
      }),
    }
    this.flush()
    this.#saved = { storage, keys }
  }

  /** Erases everything that this host is not to hold. Of what stays, nothing is written anew. */
  keepOnly(providers: readonly HostKeyProvider[]): void {
    const before = this.#content?.providers ?? []
    const left = before.flatMap((kept): KeptProvider[] => {
      const wanted = providers.find((one) => one.providerId === kept.providerId && isKept(one))
      const keys = kept.keys.filter(({ version }) => wanted?.versions.includes(version))
      return keys.length > 0 ? [{ ...kept, keys }] : []
    })
    const count = (all: readonly KeptProvider[]) =>
      all.reduce((sum, { keys }) => sum + keys.length, 0)
    if (this.#content && count(left) < count(before)) {
      this.#saved = undefined
      this.#isWritten = false
      this.#content = left.length > 0 ? { ...this.#content, providers: left } : undefined
    }
    this.flush()
  }

  versionsOf(providerId: string): number[] {
    const kept = this.#content?.providers.find((one) => one.providerId === providerId)
    return kept?.keys.map(({ version }) => version) ?? []
  }

  /** Brings to the disk what could not be written before. */
  flush(): void {
    if (this.#isWritten) return
    if (this.#content) replaceFile(this.#directory, FILE, JSON.stringify(this.#content))
    else removeFile(this.#directory, FILE)
    this.#isWritten = true
  }
}

/** Whose keys are kept: native providers that demand the TPM. All others are in memory alone. */
function isKept(provider: HostKeyProvider): boolean {
  return provider.kind === 'native' && provider.tpmRequired
}

type Named = Omit<KeptProvider, 'keys'>

/** What a kept key is bound to, beside the identity of its provider and its version. */
function contextOf({ name, current }: Named) {
  return { kept: 'native', name, current: String(current ?? 0) }
}

function wrap(storage: StorageKey, provider: Named, version: number, dek: Uint8Array): string {
  const { providerId } = provider
  return storage.secret.use((octets) =>
    wrapKey({
      primary: { providerId, version, octets },
      ...{ purpose: 'host', context: contextOf(provider), dek },
      random: randomOctets(WRAP_RANDOM_OCTETS),
    }),
  )
}

function unwrap(storage: Secret, provider: Named, version: number, wrapped: string): Secret {
  const { providerId } = provider
  try {
    const envelope = parseEnvelope(wrapped)
    const { header } = envelope
    if (header.provider !== providerId || header.version !== version) {
      throw altered(`expected key ${version} of ${providerId}, found ${header.version}`)
    }
    const context = contextOf(provider)
    return storage.use((octets) => {
      const primary = { providerId, version, octets }
      return new Secret(unwrapKey({ primary, envelope, purpose: 'host', context }))
    })
  } catch (cause) {
    if (!isPlatformError(cause) || cause.code === 'HOST_KEY_ALTERED') throw cause
    throw altered(`expected key ${version} of ${providerId} as it was kept, found another`, cause)
  }
}

function providerOf({ keys, ...named }: KeptProvider): HostKeyProvider {
  const versions = keys.map(({ version }) => version)
  return { ...named, kind: 'native', tpmRequired: true, versions }
}

function readText(directory: string): string | undefined {
  try {
    return readFileSync(join(directory, FILE), 'utf8')
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    const message = `cannot read ${join(directory, FILE)}: ${messageOf(cause)}`
    throw new PlatformError('AGENT_STATE', message, { cause })
  }
}

function parse(text: string): KeptFile {
  try {
    return Value.Parse(KeptFile, JSON.parse(text))
  } catch (cause) {
    throw altered(`expected kept keys in ${FILE}, found something else`, cause)
  }
}

function altered(message: string, cause?: unknown): PlatformError {
  return new PlatformError('HOST_KEY_ALTERED', message, { cause })
}
