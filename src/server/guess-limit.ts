import type { Clock } from '../core/clock.js'
import { PlatformError } from '../core/errors.js'

const FIRST_WAIT_MS = 1_000
const LONGEST_WAIT_MS = 5 * 60_000

/** Makes whoever guesses wait: one second after the first wrong attempt, twice as long after each further one. */
export class GuessLimit {
  readonly #clock: Clock
  #wrong = 0
  #notBeforeMs = Number.NEGATIVE_INFINITY

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** @throws PlatformError `ROOT_KEY_BACKOFF` */
  requirePatience(): void {
    const waitMs = this.#notBeforeMs - this.#clock.monotonicMs()
    if (waitMs <= 0) return
    const seconds = Math.ceil(waitMs / 1000)
    throw new PlatformError('ROOT_KEY_BACKOFF', `expected a pause of ${seconds} s more`)
  }

  wrong(): void {
    const waitMs = Math.min(FIRST_WAIT_MS * 2 ** this.#wrong, LONGEST_WAIT_MS)
    this.#wrong += 1
    this.#notBeforeMs = this.#clock.monotonicMs() + waitMs
  }

  right(): void {
    this.#wrong = 0
    this.#notBeforeMs = Number.NEGATIVE_INFINITY
  }
}
