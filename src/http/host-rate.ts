/** Callers that are remembered before those with full allowances are forgotten. */
const MOST_CALLERS = 10_000

/** How many requests each host may make: `take` counts one. */
export interface HostRate {
  /** Seconds to wait where the host has used its allowance up; nothing where it may go on. */
  take(host: string, nowMs: number): number | undefined
}

/**
 * An allowance for each host that refills evenly (token bucket): a minute's requests at once, then as many a minute.
 *
 * @param perMinute requests; kept in memory, so a restart gives every host a full allowance
 */
export function hostRate(perMinute: number): HostRate {
  const perMs = perMinute / 60_000
  const buckets = new Map<string, { left: number; atMs: number }>()
  const forgetFull = (nowMs: number): void => {
    for (const [host, { left, atMs }] of buckets) {
      if (left + (nowMs - atMs) * perMs >= perMinute) buckets.delete(host)
    }
  }
  return {
    take(host, nowMs) {
      const before = buckets.get(host) ?? { left: perMinute, atMs: nowMs }
      const passedMs = Math.max(0, nowMs - before.atMs)
      const left = Math.min(perMinute, before.left + passedMs * perMs)
      const isAllowed = left >= 1
      buckets.set(host, { left: isAllowed ? left - 1 : left, atMs: nowMs })
      if (buckets.size > MOST_CALLERS) forgetFull(nowMs)
      return isAllowed ? undefined : (1 - left) / perMs / 1000
    },
  }
}
