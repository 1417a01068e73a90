/** Where time comes from. Domain code takes a moment as an argument; only adapters and processes hold a clock. */
export interface Clock {
  /** Milliseconds since 1970-01-01 UTC. */
  nowMs(): number
  /** Milliseconds that never go back; only differences mean something. */
  monotonicMs(): number
}

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
}

/** Seconds since 1970-01-01 UTC, whole, as JWT claims have them. */
export function secondsOf(ms: number): number {
  return Math.floor(ms / 1000)
}

/** `2026-11-23T10:00:00.000Z` */
export function isoTime(ms: number): string {
  return new Date(ms).toISOString()
}
