import type { OnProgress } from './ports.js'

/** Turns steps that are as long as one another, as far as anybody knows, into a percentage. */
export class Progress {
  readonly #tell: OnProgress
  readonly #steps: number
  #step = ''
  #begun = 0

  constructor(tell: OnProgress, steps: number) {
    this.#tell = tell
    this.#steps = steps
  }

  /** Told before the step is taken. */
  begin(step: string): void {
    this.#step = step
    this.#begun += 1
    this.within(0)
  }

  /** @param percent of the step that was begun last */
  within(percent: number): void {
    const done = this.#begun - 1 + percent / 100
    this.#tell(this.#step, Math.min(99, Math.floor((done / this.#steps) * 100)))
  }

  end(): void {
    this.#tell('done', 100)
  }
}
