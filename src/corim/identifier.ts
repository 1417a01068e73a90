import { toHex, view } from '../core/bytes.js'
import { type CborItem, CborTag } from './cbor.js'
import { describeItem, nameOf, octetsOf, refuse, sizedOctetsOf } from './cbor-fields.js'

/** A name of something in a manifest. Two are the same where kind and text are. */
export interface Identifier {
  readonly kind: IdentifierKind
  /** UUID in lower case, OID in dots, octets in hexadecimal, text and PEM as they stand. */
  readonly text: string
}

export type IdentifierKind = 'text' | 'uuid' | 'oid' | 'octets' | 'ueid' | 'key'

export const TAG_OID = 111
const TAG_UUID = 37
const TAG_UEID = 550
const TAG_OCTETS = 560
/** Keys, certificates and their thumbprints. */
const KEY_TAGS: ReadonlySet<number> = new Set([554, 555, 557, 558, 559, 562])
const UUID_OCTETS = 16
const UEID_OCTETS = { min: 7, max: 33 } as const
const MAX_IDENTIFIER_OCTETS = 256
const MAX_PEM_CHARACTERS = 16_384

/** `corim-id`, `tag-id`: text or the 16 octets of a UUID without tag. */
export function parseId(item: CborItem, path: string): Identifier {
  if (item instanceof Uint8Array) return { kind: 'uuid', text: uuidText(item, path) }
  return { kind: 'text', text: nameOf(item, path) }
}

/**
 * A tagged identifier of one of these kinds.
 *
 * Keys are not read: PEM stays text, and a thumbprint or COSE key is shown in diagnostic notation, shortened.
 *
 * @see draft-ietf-rats-corim-11, CDDL `$class-id-type-choice`, `$instance-id-type-choice`, `$group-id-type-choice`
 */
export function parseIdentifier(
  item: CborItem,
  path: string,
  kinds: readonly IdentifierKind[],
): Identifier {
  const identifier = item instanceof CborTag ? taggedIdentifier(item, path) : undefined
  if (identifier && kinds.includes(identifier.kind)) return identifier
  throw refuse(path, `a tagged ${kinds.join(', ')}`, item)
}

function taggedIdentifier({ tag, item }: CborTag, path: string): Identifier | undefined {
  if (tag === TAG_UUID) return { kind: 'uuid', text: uuidText(item, path) }
  if (tag === TAG_OID) return { kind: 'oid', text: oidText(item, path) }
  if (tag === TAG_OCTETS) return { kind: 'octets', text: shortHex(item, path) }
  if (tag === TAG_UEID) {
    const octets = octetsOf(item, path)
    if (octets.length < UEID_OCTETS.min || octets.length > UEID_OCTETS.max) {
      throw refuse(path, `a UEID of ${UEID_OCTETS.min} to ${UEID_OCTETS.max} octets`, item)
    }
    return { kind: 'ueid', text: toHex(octets) }
  }
  if (!KEY_TAGS.has(tag)) return undefined
  if (typeof item !== 'string') return { kind: 'key', text: describeItem(new CborTag(tag, item)) }
  if (item.length > MAX_PEM_CHARACTERS) {
    throw refuse(path, `at most ${MAX_PEM_CHARACTERS} characters`, item)
  }
  return { kind: 'key', text: item }
}

function shortHex(item: CborItem, path: string): string {
  const octets = octetsOf(item, path)
  if (octets.length <= MAX_IDENTIFIER_OCTETS) return toHex(octets)
  throw refuse(path, `at most ${MAX_IDENTIFIER_OCTETS} octets`, item)
}

function uuidText(item: CborItem, path: string): string {
  const hex = toHex(sizedOctetsOf(item, path, UUID_OCTETS))
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}

/**
 * The dotted text of the content octets of an absolute object identifier.
 *
 * @see RFC 9090, section 2; X.690, clause 8.19
 */
export function oidText(item: CborItem, path: string): string {
  const octets = octetsOf(item, path)
  const ends = octets.length > 0 && (view(octets).at(-1) ?? 0x80) < 0x80
  if (!ends || octets.length > MAX_IDENTIFIER_OCTETS) throw refuse(path, 'an OID', item)
  const numbers: bigint[] = []
  let number = 0n
  let begins = true
  for (const octet of octets) {
    if (begins && octet === 0x80) throw refuse(path, 'an OID in its shortest form', item)
    number = (number << 7n) | BigInt(octet & 0x7f)
    begins = octet < 0x80
    if (!begins) continue
    numbers.push(number)
    number = 0n
  }
  const [both = 0n, ...others] = numbers
  const first = both < 80n ? both / 40n : 2n
  return [first, both - first * 40n, ...others].join('.')
}
