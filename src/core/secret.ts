import { inspect } from 'node:util'

/**
 * Octets that must not reach a log, a trace or a JSON body.
 *
 * Prints as `[secret]` everywhere, lends its octets for one call, and is filled with zeros by `dispose`.
 */
export class Secret implements Disposable {
  readonly #octets: Uint8Array

  /** Takes ownership of `octets`: the caller keeps no other copy. */
  constructor(octets: Uint8Array) {
    this.#octets = octets
  }

  get length(): number {
    return this.#octets.length
  }

  /** Lends the octets for the length of one call. `borrow` must not keep them. */
  use<T>(borrow: (octets: Uint8Array) => T): T {
    return borrow(this.#octets)
  }

  dispose(): void {
    this.#octets.fill(0)
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  toString(): string {
    return '[secret]'
  }

  toJSON(): string {
    return '[secret]'
  }

  [inspect.custom](): string {
    return '[secret]'
  }
}
