/** How many changed inputs each codec is tried with: a tenth of a million, or a million with `SLOW=1`. */
export const MUTANTS = process.env['SLOW'] === '1' ? 1_000_000 : 100_000
export const MUTANTS_TIMEOUT_MS = 30 * 60_000

const MAX_MS_PER_BLOCK = 5
const BLOCK_OCTETS = 64 * 1024
/** A mutant that seems slow is read again: the machine may have been busy with something else. */
const RETRIES = 50

/** Numbers below `limit`, the same for the same seed (mulberry32). */
export type Chance = (limit: number) => number

export function chance(seed: number): Chance {
  let state = seed
  return (limit) => {
    state = (state + 0x6d2b_79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * limit) >>> 0
  }
}

const SIZES = [0, 1, 2, 3, 4, 7, 8, 15, 16, 17, 27, 28, 47, 48, 0xff, 0xffff, 0x7fff_ffff]
const EDGES = [...SIZES, 0x8000_0000, 0xffff_fff0, 0xffff_fffe, 0xffff_ffff]

/** The octets with one to three changes of the kinds that break readers: bits, sizes, lengths, and parts of others. */
export function mutant(octets: Uint8Array, other: Uint8Array, next: Chance): Uint8Array {
  let changed = Uint8Array.from(octets)
  for (let changes = 1 + next(3); changes > 0; changes -= 1) changed = change(changed, other, next)
  return changed
}

function change(octets: Uint8Array<ArrayBuffer>, other: Uint8Array, next: Chance) {
  const at = next(octets.length + 1)
  switch (next(8)) {
    case 0:
      if (at < octets.length) octets[at] = (octets[at] ?? 0) ^ (1 << next(8))
      return octets
    case 1:
      if (at < octets.length) octets[at] = next(256)
      return octets
    case 2:
    case 3: {
      const edge = EDGES[next(EDGES.length)] ?? 0
      const view = new DataView(octets.buffer)
      if (at + 4 <= octets.length) view.setUint32(at, edge, true)
      return octets
    }
    case 4: {
      const view = new DataView(octets.buffer)
      const edge = BigInt(EDGES[next(EDGES.length)] ?? 0)
      if (at + 8 <= octets.length) view.setBigUint64(at, edge << BigInt(next(33)), true)
      return octets
    }
    case 5:
      return octets.slice(0, at)
    case 6: {
      const removed = next(Math.min(64, octets.length - at + 1))
      return joined(octets.subarray(0, at), octets.subarray(at + removed))
    }
    default: {
      const from = next(other.length + 1)
      const piece = other.subarray(from, from + next(64))
      return joined(octets.subarray(0, at), piece, octets.subarray(at))
    }
  }
}

function joined(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.concat(parts))
}

/** Milliseconds that reading may take: 5 for each 64 KB that are begun. */
export function limitOf(octets: Uint8Array): number {
  return MAX_MS_PER_BLOCK * Math.max(1, Math.ceil(octets.length / BLOCK_OCTETS))
}

/** How long the fastest of a few runs took; stops at the first that is within the limit. */
export function fastest(limitMs: number, run: () => void): number {
  let least = Number.POSITIVE_INFINITY
  for (let tries = 0; tries < RETRIES && least > limitMs; tries += 1) {
    const begin = performance.now()
    run()
    least = Math.min(least, performance.now() - begin)
  }
  return least
}
