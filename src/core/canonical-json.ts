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
  let members = ''
  if (isArray(value)) {
    for (const member of value) members += `${members && ','}${canonicalJson(member)}`
    return `[${members}]`
  }
  for (const name of Object.keys(value).sort()) {
    const member = value[name]
    if (member === undefined) continue
    members += `${members && ','}${JSON.stringify(name)}:${canonicalJson(member)}`
  }
  return `{${members}}`
}

function isArray(value: CanonicalValue): value is readonly CanonicalValue[] {
  return Array.isArray(value)
}
