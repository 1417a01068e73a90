import { Type } from 'typebox'
import { Value } from 'typebox/value'
import { isoTime } from '../core/clock.js'
import { PlatformError } from '../core/errors.js'
import { NAME_PATTERN } from '../core/names.js'
import { parseStrictJson } from '../core/strict-json.js'
import { HASH_ALGORITHMS } from '../tpm/algorithms.js'

/** Reference values as an administrator writes them: PCR values that are accepted, in one bank. */
export interface ReferenceValuesFile {
  readonly name: string
  readonly bank: ReferenceBank
  /** Accepted digests of each PCR, in hexadecimal. */
  readonly pcrs: ReadonlyMap<number, readonly string[]>
  /** Where they come from, in words. */
  readonly source?: string
  readonly notBeforeMs?: number
  readonly notAfterMs?: number
}

export type ReferenceBank = 'sha256' | 'sha384' | 'sha512'

/** 24 PCRs with 64 values of SHA-512 each are 210 000 characters. */
const MAX_CHARACTERS = 262_144
const JSON_LIMITS = { maxDepth: 3, maxItems: 2_000 } as const

const Time = Type.String({
  pattern: '^\\d{4}-\\d{2}-\\d{2}T\\d{2}:\\d{2}:\\d{2}(\\.\\d{3})?Z$',
  description: 'UTC time, RFC 3339, with or without milliseconds',
})

/** The form of the file. */
export const ReferenceValuesSchema = Type.Object(
  {
    name: Type.String({ pattern: NAME_PATTERN }),
    bank: Type.Union([Type.Literal('sha256'), Type.Literal('sha384'), Type.Literal('sha512')]),
    pcrs: Type.Record(
      Type.String({ pattern: '^([0-9]|1[0-9]|2[0-3])$' }),
      Type.Array(Type.String({ pattern: '^[0-9a-f]{64,128}$' }), {
        minItems: 1,
        maxItems: 64,
        uniqueItems: true,
      }),
      { minProperties: 1, additionalProperties: false },
    ),
    source: Type.Optional(Type.String({ minLength: 1, maxLength: 2000 })),
    notBefore: Type.Optional(Time),
    notAfter: Type.Optional(Time),
  },
  { additionalProperties: false },
)

/**
 * Reads reference values in JSON:
 * `{"name": "rack-7", "bank": "sha256", "pcrs": {"0": ["3d45…"]}, "source": "…", "notAfter": "2027-01-01T00:00:00Z"}`.
 *
 * **Does not check** whether they are valid now.
 *
 * @throws DecodeError `DECODE_VALUE` for what is not JSON with one meaning, `DECODE_TOO_LARGE`
 * @throws PlatformError `REFERENCE_VALUES` for what does not fit the schema
 */
export function parseReferenceJson(text: string): ReferenceValuesFile {
  if (text.length > MAX_CHARACTERS) {
    throw refuse(`expected at most ${MAX_CHARACTERS} characters, found ${text.length}`)
  }
  const value = parseStrictJson(text, JSON_LIMITS)
  if (!Value.Check(ReferenceValuesSchema, value)) {
    const [error] = Value.Errors(ReferenceValuesSchema, value)
    throw refuse(`${error?.instancePath ?? ''} ${error?.message ?? 'does not fit'}`.trim())
  }
  const { name, bank, source } = value
  const notBeforeMs = timeOf(value.notBefore)
  const notAfterMs = timeOf(value.notAfter)
  if (notBeforeMs !== undefined && notAfterMs !== undefined && notBeforeMs > notAfterMs) {
    throw refuse('expected notAfter not before notBefore')
  }
  return {
    name,
    bank,
    pcrs: pcrsOf(value.pcrs, bank),
    ...(source === undefined ? {} : { source }),
    ...(notBeforeMs === undefined ? {} : { notBeforeMs }),
    ...(notAfterMs === undefined ? {} : { notAfterMs }),
  }
}

function pcrsOf(
  pcrs: Readonly<Record<string, readonly string[]>>,
  bank: ReferenceBank,
): ReadonlyMap<number, readonly string[]> {
  const characters = HASH_ALGORITHMS[bank].digestOctets * 2
  for (const [pcr, digests] of Object.entries(pcrs)) {
    if (digests.some(({ length }) => length !== characters)) {
      throw refuse(`expected ${bank} digests of ${characters} characters for PCR ${pcr}`)
    }
  }
  return new Map(Object.entries(pcrs).map(([pcr, digests]) => [Number(pcr), digests]))
}

/** A day that no month has is refused, instead of being one of the next month. */
function timeOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const ms = Date.parse(text)
  const exact = text.includes('.') ? text : text.replace('Z', '.000Z')
  if (Number.isNaN(ms) || isoTime(ms) !== exact) throw refuse(`expected a time, found ${text}`)
  return ms
}

function refuse(message: string): PlatformError {
  return new PlatformError('REFERENCE_VALUES', message)
}
