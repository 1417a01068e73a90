/** Data that has exactly one canonical text. Numbers are safe integers: other numbers have no place here. */
export type CanonicalValue =
  | null
  | boolean
  | number
  | string
  | readonly CanonicalValue[]
  | { readonly [name: string]: CanonicalValue | undefined }

/**
 * The canonical JSON text of a value: members sorted by UTF-16 code units, no white space.
 *
 * A member whose value is `undefined` is left out. Throws `TypeError` on a number that is not a safe integer.
 *
 * @see RFC 8785 (JCS), of which this is the part without fractions
 */
export function canonicalJson(value: CanonicalValue): string {
  if (value === null || typeof value === 'boolean' || typeof value === 'string') {
    return JSON.stringify(value)
  }
  if (typeof value === 'number') {
    if (!Number.isSafeInteger(value)) throw new TypeError('canonical JSON takes safe integers only')
    return JSON.stringify(value)
  }
  if (isArray(value)) return `[${value.map(canonicalJson).join(',')}]`
  const members = Object.keys(value)
    .sort()
    .flatMap((name) => {
      const member = value[name]
      return member === undefined ? [] : [`${JSON.stringify(name)}:${canonicalJson(member)}`]
    })
  return `{${members.join(',')}}`
}

function isArray(value: CanonicalValue): value is readonly CanonicalValue[] {
  return Array.isArray(value)
}
