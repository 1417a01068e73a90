const TURNS = 21
const TURN_MS = 150

/** How often two works are done in a second, turn by turn: what else the machine does slows both down. The medians. */
export function ratesOf(one: () => void, other: () => void): readonly [one: number, other: number] {
  const rates: [number[], number[]] = [[], []]
  for (let turn = 0; turn < TURNS; turn += 1) {
    rates[0].push(rateOf(one))
    rates[1].push(rateOf(other))
  }
  return [median(rates[0]), median(rates[1])]
}

function rateOf(work: () => void): number {
  const started = performance.now()
  let runs = 0
  for (; performance.now() - started < TURN_MS; runs += 1) work()
  return (runs / (performance.now() - started)) * 1000
}

export function median(values: readonly number[]): number {
  return Math.round([...values].sort((a, b) => a - b)[values.length >> 1] ?? 0)
}
