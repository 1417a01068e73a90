import type { OnProgress } from './ports.js'

/** Progress of an operation whose time goes into copying. */
export class OctetProgress {
  readonly #tell: OnProgress
  readonly #total: number
  #before = 0
  #now = 0
  #step = ''

  /** @param totalOctets that the whole operation copies */
  constructor(tell: OnProgress, totalOctets: number) {
    this.#tell = tell
    this.#total = totalOctets
  }

  /** Told before the step is taken. */
  begin(step: string): void {
    this.#step = step
    this.#report()
  }

  /** @param octets that the copy which goes on has done so far */
  copying(octets: number): void {
    if (octets <= this.#now) return
    this.#now = octets
    this.#report()
  }

  /** A copy is done. */
  copied(octets: number): void {
    this.#before += octets
    this.#now = 0
  }

  end(): void {
    this.#tell('done', 100, this.#octets(this.#total))
  }

  #report(): void {
    const done = Math.min(this.#total, this.#before + this.#now)
    const percent = this.#total === 0 ? 0 : Math.min(99, Math.floor((done / this.#total) * 100))
    this.#tell(this.#step, percent, this.#octets(done))
  }

  #octets(done: number) {
    return this.#total === 0 ? undefined : { done, total: this.#total }
  }
}
