import { printable, printableJson } from './printable.js'

/** Lines of one item, such as a certificate. */
const OF_TEXT = '\n\t'

/**
 * Where a command writes: data to standard output, everything else to standard error. Nothing that is written commands the
 * terminal, whoever it came from.
 */
export interface Output {
  /** One document of data: JSON with `--json`, otherwise the lines that `text` makes. */
  data(value: unknown, text: () => readonly string[]): void
  /** A sentence for a person. Nothing with `--json`. */
  note(line: string): void
  /** Whether standard error is a terminal. */
  readonly live: boolean
  /** Progress on one line that overwrites itself; nothing unless standard error is a terminal. */
  progress(line: string): void
}

export function createOutput(options: { readonly json: boolean }): Output {
  const live = process.stderr.isTTY === true
  let progressShown = false
  const clearProgress = () => {
    if (progressShown) process.stderr.write('\r\x1b[K')
    progressShown = false
  }
  return {
    live,
    data(value, text) {
      clearProgress()
      const lines = options.json
        ? [printableJson(JSON.stringify(value, null, 2))]
        : text().map((line) => printable(line, OF_TEXT))
      if (lines.length > 0) process.stdout.write(`${lines.join('\n')}\n`)
    },
    note(line) {
      clearProgress()
      if (!options.json) process.stderr.write(`${printable(line, OF_TEXT)}\n`)
    },
    progress(line) {
      if (!live) return
      process.stderr.write(`\r\x1b[K${printable(line)}`)
      progressShown = true
    },
  }
}

/** Columns aligned with two blanks between; the first row is the head. */
export function table(cells: readonly (readonly string[])[]): readonly string[] {
  const rows = cells.map((row) => row.map((cell) => printable(cell)))
  const widths: number[] = []
  for (const row of rows) {
    row.forEach((cell, column) => {
      widths[column] = Math.max(widths[column] ?? 0, cell.length)
    })
  }
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  )
}

/** Items in the order of a text that each has. */
export function sortedBy<T>(items: readonly T[], textOf: (item: T) => string): readonly T[] {
  return [...items].sort((a, b) => (textOf(a) < textOf(b) ? -1 : 1))
}

/** `name:  value` lines, aligned; members without a value are left out. */
export function fields(entries: readonly (readonly [string, string | undefined])[]): string[] {
  const shown = entries.filter(
    (entry): entry is readonly [string, string] => entry[1] !== undefined,
  )
  const width = Math.max(0, ...shown.map(([name]) => name.length))
  return shown.map(([name, value]) => `${`${name}:`.padEnd(width + 1)}  ${value}`)
}

/**
 * `[######......] 50 %  step`, with `10.0 of 20.0 GiB  230 MiB/s  44 s left` behind the percentage where octets are copied
 * and it is known how fast
 */
export function progressBar(
  percent: number,
  step: string,
  octets?: { readonly done: number; readonly total: number },
  rate: { readonly octetsPerSecond?: number; readonly secondsLeft?: number } = {},
): string {
  const full = Math.round(percent / 5)
  const copied = (octets ? `  ${ofTotal(octets)}` : '') + rateText(rate)
  return `[${'#'.repeat(full)}${'.'.repeat(20 - full)}] ${String(percent).padStart(3)} %${copied}  ${step}`
}

/** `20 GiB`, `1.5 MiB`, `512 octets`: exact, in the largest unit that needs no more than one decimal. */
export function sizeText(octets: number): string {
  for (const [unit, divisor] of [
    ['TiB', 2 ** 40],
    ['GiB', 2 ** 30],
    ['MiB', 2 ** 20],
    ['KiB', 2 ** 10],
  ] as const) {
    const tenths = (octets / divisor) * 10
    if (octets >= divisor && Number.isInteger(tenths)) return `${tenths / 10} ${unit}`
  }
  return `${octets} octets`
}

function ofTotal({ done, total }: { readonly done: number; readonly total: number }): string {
  const [unit, divisor] = total < 2 ** 30 ? ['MiB', 2 ** 20] : ['GiB', 2 ** 30]
  return `${(done / divisor).toFixed(1)} of ${(total / divisor).toFixed(1)} ${unit}`
}

function rateText({
  octetsPerSecond,
  secondsLeft,
}: {
  readonly octetsPerSecond?: number
  readonly secondsLeft?: number
}): string {
  if (octetsPerSecond === undefined || secondsLeft === undefined) return ''
  return `  ${(octetsPerSecond / 2 ** 20).toFixed(0)} MiB/s  ${timeText(secondsLeft)} left`
}

/** `44 s`, `3 min`, `2 h 5 min` */
function timeText(seconds: number): string {
  if (seconds < 100) return `${seconds} s`
  const minutes = Math.round(seconds / 60)
  return minutes < 100 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

/** The summary of an operation as descriptions of commands are written: `List VMs` as `list VMs`, `VMs of …` as it is. */
export function asPhrase(summary: string): string {
  return /^[A-Z](?:[a-z]|\s)/.test(summary) ? summary[0]?.toLowerCase() + summary.slice(1) : summary
}
