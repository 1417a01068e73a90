import type { HostKeyProvider, HostKeyReport } from '../../api/host-keys.js'
import { timingSafeEqual } from '../../core/bytes.js'
import { PlatformError } from '../../core/errors.js'
import type { Secret } from '../../core/secret.js'

/** A provider whose keys this host holds, as the control plane said last. */
export type LocalProvider = HostKeyProvider

/**
 * Keys that the control plane delivered, now or to an earlier process of this host: in memory, gone with the process.
 *
 * Says what it holds and what it lacks; what it is told not to hold it erases at once.
 */
export class Keyring implements Disposable {
  #providers: readonly LocalProvider[] = []
  readonly #keys = new Map<string, Map<number, Secret>>()
  /** Of an earlier process: used, and not said to be held. */
  readonly #restored = new Set<Secret>()

  get providers(): readonly LocalProvider[] {
    return this.#providers
  }

  findByName(name: string): LocalProvider | undefined {
    return this.#providers.find((provider) => provider.name === name)
  }

  findById(providerId: string): LocalProvider | undefined {
    return this.#providers.find((provider) => provider.providerId === providerId)
  }

  versionsOf(providerId: string): number[] {
    return [...(this.#keys.get(providerId)?.keys() ?? [])].sort((a, b) => a - b)
  }

  /** What was delivered to this process. */
  holds(): HostKeyReport['holds'] {
    return [...this.#keys].flatMap(([providerId, keys]) => {
      const versions = this.versionsOf(providerId).filter((version) => {
        const secret = keys.get(version)
        return secret !== undefined && !this.#restored.has(secret)
      })
      return versions.length > 0 ? [{ providerId, versions }] : []
    })
  }

  /** Takes over what this host is to hold, and erases everything else. Returns how many keys were erased. */
  keepOnly(providers: readonly LocalProvider[]): number {
    this.#providers = providers
    let erased = 0
    for (const [providerId, keys] of this.#keys) {
      const wanted = new Set(this.findById(providerId)?.versions)
      for (const [version, secret] of keys) {
        if (wanted.has(version)) continue
        this.#drop(secret)
        keys.delete(version)
        erased += 1
      }
      if (keys.size === 0) this.#keys.delete(providerId)
    }
    return erased
  }

  /** Takes over what an earlier process of this host held, until the control plane says what it is to hold. */
  restore(
    providers: readonly LocalProvider[],
    keys: readonly {
      readonly providerId: string
      readonly version: number
      readonly secret: Secret
    }[],
  ): void {
    this.#providers = providers
    for (const { providerId, version, secret } of keys) {
      this.add(providerId, version, secret)
      this.#restored.add(secret)
    }
  }

  /** The keyring owns `secret` from now on. Returns false where it was another before. */
  add(providerId: string, version: number, secret: Secret): boolean {
    const keys = this.#keys.get(providerId) ?? new Map<number, Secret>()
    this.#keys.set(providerId, keys)
    const before = keys.get(version)
    const isSame = before?.use((a) => secret.use((b) => timingSafeEqual(a, b))) ?? true
    if (before) this.#drop(before)
    keys.set(version, secret)
    return isSame
  }

  /** Lent for one call. @throws PlatformError `HOST_KEY_ABSENT` */
  use<T>(providerId: string, version: number, borrow: (octets: Uint8Array) => T): T {
    const secret = this.#keys.get(providerId)?.get(version)
    if (secret) return secret.use(borrow)
    const name = this.findById(providerId)?.name ?? providerId
    throw new PlatformError('HOST_KEY_ABSENT', `expected key ${version} of ${name}, found none`)
  }

  #drop(secret: Secret): void {
    secret.dispose()
    this.#restored.delete(secret)
  }

  [Symbol.dispose](): void {
    this.keepOnly([])
  }
}
