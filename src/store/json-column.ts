import type { Static, TSchema } from 'typebox'
import { Compile } from 'typebox/compile'

/** Texts of one column that are kept as read. Rows of policies and base images are read far more often than written. */
const MAX_KEPT = 256
const MAX_KEPT_CHARACTERS = 64 * 1024

/**
 * Reads a column of JSON.
 *
 * What was read from a text is kept for the next row with exactly this text, and frozen: it is shared.
 *
 * @throws an error of typebox where the text does not fit
 */
export function jsonColumn<S extends TSchema>(schema: S): (text: string) => Static<S> {
  const validator = Compile(schema)
  return keptByText((text) => frozen(validator.Parse(JSON.parse(text)) as Static<S>))
}

/** The same for texts that are hardly ever read twice: nothing is kept, and what is read is the caller's own. */
export function jsonText<S extends TSchema>(schema: S): (text: string) => Static<S> {
  const validator = Compile(schema)
  return (text) => validator.Parse(JSON.parse(text)) as Static<S>
}

/** Keeps what was read from a text for the next column with exactly this text. */
export function keptByText<T>(read: (text: string) => T): (text: string) => T {
  const kept = new Map<string, T>()
  return (text) => {
    const known = kept.get(text)
    if (known !== undefined) return known
    const value = read(text)
    if (text.length <= MAX_KEPT_CHARACTERS) {
      if (kept.size >= MAX_KEPT) kept.clear()
      kept.set(text, value)
    }
    return value
  }
}

function frozen<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value
  for (const member of Object.values(value)) frozen(member)
  return Object.freeze(value)
}
