/** The values that were used last, by their keys: what can be made again and is wanted again soon. */
export class Recent<K, V> {
  readonly #most: number
  readonly #values = new Map<K, V>()

  /** @param most values that are kept */
  constructor(most: number) {
    this.#most = most
  }

  get(key: K): V | undefined {
    const value = this.#values.get(key)
    // The last used are the last in the map.
    if (value !== undefined) this.set(key, value)
    return value
  }

  set(key: K, value: V): void {
    this.#values.delete(key)
    this.#values.set(key, value)
    if (this.#values.size <= this.#most) return
    for (const oldest of this.#values.keys()) {
      this.#values.delete(oldest)
      return
    }
  }

  clear(): void {
    this.#values.clear()
  }
}
