import { toHex } from '../core/bytes.js'

/** Data that JSON has. */
export type JsonValue =
  | null
  | boolean
  | number
  | string
  | readonly JsonValue[]
  | { readonly [name: string]: JsonValue }

/** Octets that are shown of a value; its length says whether there were more. */
const MAX_OCTETS = 64

/**
 * A tree of decoded values as JSON has them.
 *
 * Numbers of 64 bits become hexadecimal text; octets become text of their first 64, followed by `… (n octets)` where there
 * are more; members without a value are left out.
 */
export function jsonOf(value: unknown): JsonValue {
  if (value === null || typeof value === 'boolean' || typeof value === 'number') return value
  if (typeof value === 'string') return value
  if (typeof value === 'bigint') return `0x${value.toString(16)}`
  if (value instanceof Uint8Array) return octetsOf(value)
  if (Array.isArray(value)) return value.map(jsonOf)
  if (typeof value !== 'object') throw new TypeError(`no JSON for ${typeof value}`)
  const members: Record<string, JsonValue> = {}
  for (const [name, member] of Object.entries(value)) {
    if (member !== undefined) members[name] = jsonOf(member)
  }
  return members
}

function octetsOf(octets: Uint8Array): string {
  const start = toHex(octets.subarray(0, MAX_OCTETS))
  return octets.length > MAX_OCTETS ? `${start}… (${octets.length} octets)` : start
}
