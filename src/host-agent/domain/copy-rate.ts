/** Time over which the rate is evened out: a copy is neither steady nor known before. */
const EVEN_OUT_MS = 10_000

interface Octets {
  readonly done: number
  readonly total: number
}

/** How fast octets are copied, as measured lately, and how long the rest takes at this rate. */
export class CopyRate {
  #atMs: number | undefined
  #done = 0
  #perMs: number | undefined

  /** @param nowMs of a clock that never goes back */
  measure(
    { done, total }: Octets,
    nowMs: number,
  ): { readonly octetsPerSecond?: number; readonly secondsLeft?: number } {
    if (this.#atMs === undefined || done < this.#done) {
      this.#atMs = nowMs
      this.#done = done
    }
    const passedMs = nowMs - this.#atMs
    if (passedMs > 0) {
      const now = (done - this.#done) / passedMs
      const weight = 1 - Math.exp(-passedMs / EVEN_OUT_MS)
      this.#perMs = this.#perMs === undefined ? now : this.#perMs + (now - this.#perMs) * weight
      this.#atMs = nowMs
      this.#done = done
    }
    if (!this.#perMs) return {}
    return {
      octetsPerSecond: Math.round(this.#perMs * 1000),
      secondsLeft: Math.ceil((total - done) / this.#perMs / 1000),
    }
  }
}
