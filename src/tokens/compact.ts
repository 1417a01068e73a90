import { fromBase64url, parseUtf8 } from '../core/bytes.js'
import { type JsonLimits, parseStrictJson } from '../core/strict-json.js'
import { decoding, quoted, TokenError, type TokenErrorCode } from './errors.js'

const JSON_LIMITS: JsonLimits = { maxDepth: 6, maxItems: 512 }

export type JsonObject = Readonly<Record<string, unknown>>

/** Codes that a compact serialisation is refused with, by the layer that reads it. */
export interface CompactCodes {
  readonly malformed: TokenErrorCode
  readonly tooLarge: TokenErrorCode
}

/**
 * The parts of a compact serialisation as octets; the size is checked before anything else.
 *
 * Each part must be the one canonical base64url text of its octets, so a serialisation cannot be spelt in two ways.
 * It can still be signed twice: the text of a token is no identity.
 *
 * @see RFC 7515, section 7.1 and RFC 7516, section 7.1
 */
export function splitCompact(
  text: string,
  count: 3 | 5,
  maxCharacters: number,
  codes: CompactCodes,
): readonly Uint8Array[] {
  if (text.length > maxCharacters) {
    throw new TokenError(
      codes.tooLarge,
      `expected at most ${maxCharacters} characters, found ${text.length}`,
    )
  }
  const parts = text.split('.', count + 1)
  if (parts.length !== count) {
    throw new TokenError(codes.malformed, `expected ${count} parts, found ${parts.length}`)
  }
  return parts.map((part, index) =>
    decoding(codes.malformed, `part ${index + 1}`, () => fromBase64url(part)),
  )
}

/** The JSON object in one part, read strictly: no duplicate member, no depth, no hidden text. */
export function parseJsonPart(octets: Uint8Array, what: string, code: TokenErrorCode): JsonObject {
  const value = decoding(code, what, () => parseStrictJson(parseUtf8(octets), JSON_LIMITS))
  if (!isJsonObject(value)) throw new TokenError(code, `expected an object as ${what}`)
  return value
}

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/**
 * Refuses an object that lacks one of these members or has another.
 *
 * This is what keeps `jku`, `jwk`, `x5u`, `x5c`, `crit`, `zip` and `p2c` out of every header that does not name them.
 */
export function requireMembers(
  object: JsonObject,
  names: readonly string[],
  what: string,
  code: TokenErrorCode,
): void {
  const extra = Object.keys(object).find((name) => !names.includes(name))
  if (extra !== undefined) {
    throw new TokenError(
      code,
      `expected only ${names.join(', ')} in ${what}, found ${quoted(extra)}`,
    )
  }
  const missing = names.find((name) => !Object.hasOwn(object, name))
  if (missing !== undefined) throw new TokenError(code, `expected ${missing} in ${what}`)
}
