import type { HostKeyProvider, HostKeyReport } from '../../api/host-keys.js'
import { PlatformError } from '../../core/errors.js'
import type { Secret } from '../../core/secret.js'

/** A provider whose keys this host holds, as the control plane said last. */
export type LocalProvider = HostKeyProvider

/**
 * Keys that the control plane delivered: in memory alone, gone with the process.
 *
 * Says what it holds and what it lacks; what it is told not to hold it erases at once.
 */
export class Keyring implements Disposable {
  #providers: readonly LocalProvider[] = []
  readonly #keys = new Map<string, Map<number, Secret>>()

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

  holds(): HostKeyReport['holds'] {
    return [...this.#keys.keys()].map((providerId) => ({
      providerId,
      versions: this.versionsOf(providerId),
    }))
  }

  /** Takes over what this host is to hold, and erases everything else. Returns how many keys were erased. */
  keepOnly(providers: readonly LocalProvider[]): number {
    this.#providers = providers
    let erased = 0
    for (const [providerId, keys] of this.#keys) {
      const wanted = new Set(this.findById(providerId)?.versions)
      for (const [version, secret] of keys) {
        if (wanted.has(version)) continue
        secret.dispose()
        keys.delete(version)
        erased += 1
      }
      if (keys.size === 0) this.#keys.delete(providerId)
    }
    return erased
  }

  /** The keyring owns `secret` from now on. */
  add(providerId: string, version: number, secret: Secret): void {
    const keys = this.#keys.get(providerId) ?? new Map<number, Secret>()
    this.#keys.set(providerId, keys)
    keys.get(version)?.dispose()
    keys.set(version, secret)
  }

  /** Lent for one call. @throws PlatformError `HOST_KEY_ABSENT` */
  use<T>(providerId: string, version: number, borrow: (octets: Uint8Array) => T): T {
    const secret = this.#keys.get(providerId)?.get(version)
    if (secret) return secret.use(borrow)
    const name = this.findById(providerId)?.name ?? providerId
    throw new PlatformError('HOST_KEY_ABSENT', `expected key ${version} of ${name}, found none`)
  }

  [Symbol.dispose](): void {
    this.keepOnly([])
  }
}
