/** Lends one thing to one caller at a time, in the order in which they asked; each turn costs the same in any queue. */
export class Turns {
  readonly #waiting: (() => void)[] = []
  #taken = false

  /** Resolves when it is the caller's turn, which lasts until `give`. */
  async take(): Promise<void> {
    if (this.#taken) {
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve)
      })
    }
    this.#taken = true
  }

  /** Whether somebody has the next turn already. */
  get isWaitedFor(): boolean {
    return this.#waiting.length > 0
  }

  /** Ends the turn. The next begins in a later turn of the event loop: a long queue keeps no socket or timer waiting. */
  give(): void {
    const next = this.#waiting.shift()
    if (next) setImmediate(next)
    else this.#taken = false
  }
}
