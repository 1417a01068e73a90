import { DecodeError } from '../core/errors.js'
import { printable, wholeText } from './printable.js'

/** One line of a revocation level: which generation of a component is the least that boots. */
export interface SbatEntry {
  readonly component: string
  readonly generation: number
  /** Date of the whole level, on its first line. */
  readonly date?: string
}

const MAX_LINES = 256

/**
 * Reads what shim measures of its SbatLevel variable.
 *
 * @throws DecodeError: `DECODE_ENCODING`, `DECODE_VALUE`, `DECODE_TOO_LARGE`
 * @see shim, SBAT.md (format of the revocation level)
 */
export function parseSbatLevel(octets: Uint8Array): readonly SbatEntry[] {
  const text = wholeText(octets)
  if (text === undefined) throw new DecodeError('DECODE_ENCODING', 0, 'expected lines of text')
  const lines = text.split('\n').filter((line) => line !== '')
  if (lines.length > MAX_LINES) {
    throw new DecodeError('DECODE_TOO_LARGE', 0, `expected at most ${MAX_LINES} lines`)
  }
  return lines.map((line) => {
    const [, component, generation, date] = /^([^,]+),(\d{1,9})(?:,(\d+))?\r?$/.exec(line) ?? []
    if (component === undefined || generation === undefined) {
      throw new DecodeError('DECODE_VALUE', 0, 'expected a component and its generation')
    }
    const entry = { component: printable(component), generation: Number(generation) }
    return date === undefined ? entry : { ...entry, date: printable(date) }
  })
}
