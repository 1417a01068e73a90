import { InvalidArgumentError } from 'commander'
import { isoTime } from '../core/clock.js'
import type { HashName } from '../tpm/index.js'

/** A whole number, as an option takes it. */
export function integer(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new InvalidArgumentError('expected a whole number')
  return Number(text)
}

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  K: 2 ** 10,
  M: 2 ** 20,
  G: 2 ** 30,
  T: 2 ** 40,
}

/** A size in octets: `512M`, `20G`, or a plain number. Units are powers of 1024. */
export function size(text: string): number {
  const match = /^(\d{1,12})([KMGT]?)$/.exec(text)
  const unit = match ? UNITS[match[2] ?? ''] : undefined
  if (!match || unit === undefined) {
    throw new InvalidArgumentError('expected a size such as 512M or 20G')
  }
  return Number(match[1]) * unit
}

/** Collects an option that may be given several times. */
export function collect(value: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), value]
}

/** PCR indexes with commas between. */
export function pcrList(text: string): readonly number[] {
  const pcrs = text.split(',').map(integer)
  if (pcrs.some((pcr) => pcr > 23)) throw new InvalidArgumentError('expected PCRs from 0 to 23')
  return pcrs
}

/** A moment as an option takes it, RFC 3339 or a date alone, in the form of the API. */
export function moment(text: string): string {
  const ms = /^\d{4}-\d{2}-\d{2}(T|$)/.test(text) ? Date.parse(text) : Number.NaN
  if (Number.isNaN(ms))
    throw new InvalidArgumentError('expected 2027-01-31 or 2027-01-31T12:00:00Z')
  return isoTime(ms)
}

/** A PCR bank by its name. */
export function bank(text: string): HashName {
  if (text === 'sha1' || text === 'sha256' || text === 'sha384' || text === 'sha512') return text
  throw new InvalidArgumentError('expected sha1, sha256, sha384 or sha512')
}
