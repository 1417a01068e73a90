export type BreakerState = 'closed' | 'open' | 'half-open'

const FIRST_WAIT_MS = 1_000
const LONGEST_WAIT_MS = 60_000

/**
 * Keeps callers away from a server that failed, for a while that doubles from 1 s to 60 s, less a part by chance so
 * that clients do not come back all at once. After it one caller may try; the others wait for what becomes of that.
 */
export class CircuitBreaker {
  readonly #monotonicMs: () => number
  readonly #random: () => number
  #failures = 0
  #openUntil = 0
  #trying = false

  /** @param random a number from 0 to below 1 */
  constructor(monotonicMs: () => number, random: () => number) {
    this.#monotonicMs = monotonicMs
    this.#random = random
  }

  get state(): BreakerState {
    if (this.#failures === 0) return 'closed'
    return this.#monotonicMs() < this.#openUntil ? 'open' : 'half-open'
  }

  /** Whether the server may be asked now. One that was let in has to say how it ended. */
  enter(): boolean {
    const { state } = this
    if (state === 'closed') return true
    if (state === 'open' || this.#trying) return false
    this.#trying = true
    return true
  }

  succeeded(): void {
    this.#failures = 0
    this.#trying = false
  }

  failed(): void {
    this.#trying = false
    // Calls that were under way together fail together: they count once.
    if (this.state === 'open') return
    this.#failures += 1
    const wait = Math.min(FIRST_WAIT_MS * 2 ** (this.#failures - 1), LONGEST_WAIT_MS)
    this.#openUntil = this.#monotonicMs() + wait * (0.5 + this.#random() / 2)
  }
}
