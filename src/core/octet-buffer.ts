const LEAST_OCTETS = 1024
/** What an empty buffer keeps for the octets that come next. */
const MOST_KEPT_OCTETS = 1024 * 1024

/**
 * Octets that come in pieces and are taken out in others, in the order in which they came.
 *
 * The room that it takes is that of its octets, doubled at most, however small the pieces are in which somebody sends them.
 */
export class OctetBuffer {
  #octets = new Uint8Array(LEAST_OCTETS)
  #start = 0
  #end = 0

  get length(): number {
    return this.#end - this.#start
  }

  append(piece: Uint8Array): void {
    if (this.#end + piece.length > this.#octets.length) this.#makeRoom(piece.length)
    this.#octets.set(piece, this.#end)
    this.#end += piece.length
  }

  /** A copy of the first octets, which are gone from here then. @throws RangeError where there are not so many */
  take(octets = this.length): Uint8Array {
    if (octets > this.length)
      throw new RangeError(`expected ${octets} octets, found ${this.length}`)
    const taken = this.#octets.slice(this.#start, this.#start + octets)
    this.#start += octets
    if (this.length === 0) this.clear()
    return taken
  }

  clear(): void {
    this.#start = 0
    this.#end = 0
    if (this.#octets.length > MOST_KEPT_OCTETS) this.#octets = new Uint8Array(LEAST_OCTETS)
  }

  #makeRoom(octets: number): void {
    const needed = this.length + octets
    const size = needed > this.#octets.length / 2 ? 2 * needed : this.#octets.length
    const next = new Uint8Array(size)
    next.set(this.#octets.subarray(this.#start, this.#end))
    this.#end = this.length
    this.#start = 0
    this.#octets = next
  }
}
