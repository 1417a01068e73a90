import { KmipError } from './errors.js'
import { tagName } from './tags.js'

/**
 * One item of a KMIP message: a tag, a type and a value of that type.
 *
 * Enumerations and intervals are unsigned 32-bit numbers, integers signed ones; times count from 1970-01-01 UTC.
 *
 * @see KMIP 1.4, clause 9.1; KMIP 2.1 Specification, clause 10.1
 */
export type Ttlv = {
  readonly [Type in TtlvType]: Item<Type>
}[TtlvType]

interface Item<Type extends TtlvType> {
  readonly tag: number
  readonly type: Type
  readonly value: TtlvValues[Type]
}

export interface TtlvValues {
  readonly Structure: readonly Ttlv[]
  readonly Integer: number
  readonly LongInteger: bigint
  readonly BigInteger: bigint
  readonly Enumeration: number
  readonly Boolean: boolean
  readonly TextString: string
  readonly ByteString: Uint8Array
  /** Seconds. */
  readonly DateTime: bigint
  /** Seconds. */
  readonly Interval: number
  /** Microseconds; KMIP 2.0 and later. */
  readonly DateTimeExtended: bigint
}

export type TtlvType = keyof TtlvValues
export type Structure = Item<'Structure'>

/** The types by their number on the wire. @see KMIP 2.1 Specification, clause 10.1.2 */
export const TYPE_NUMBER = {
  Structure: 1,
  Integer: 2,
  LongInteger: 3,
  BigInteger: 4,
  Enumeration: 5,
  Boolean: 6,
  TextString: 7,
  ByteString: 8,
  DateTime: 9,
  Interval: 10,
  DateTimeExtended: 11,
} as const satisfies Record<TtlvType, number>

/** A structure of the children that are there: `undefined` stands for an optional one that is not. */
export function structure(tag: number, items: readonly (Ttlv | undefined)[]): Structure {
  return { tag, type: 'Structure', value: items.filter((item) => item !== undefined) }
}

export function integer(tag: number, value: number): Ttlv {
  return { tag, type: 'Integer', value }
}

export function bigInteger(tag: number, value: bigint): Ttlv {
  return { tag, type: 'BigInteger', value }
}

export function enumeration(tag: number, value: number): Ttlv {
  return { tag, type: 'Enumeration', value }
}

export function boolean(tag: number, value: boolean): Ttlv {
  return { tag, type: 'Boolean', value }
}

export function textString(tag: number, value: string): Ttlv {
  return { tag, type: 'TextString', value }
}

export function byteString(tag: number, value: Uint8Array): Ttlv {
  return { tag, type: 'ByteString', value }
}

export function dateTime(tag: number, value: bigint): Ttlv {
  return { tag, type: 'DateTime', value }
}

export function interval(tag: number, value: number): Ttlv {
  return { tag, type: 'Interval', value }
}

/** The item as a structure; throws `KMIP_MESSAGE` when it is of another type. */
export function asStructure(item: Ttlv): Structure {
  if (item.type === 'Structure') return item
  throw new KmipError('KMIP_MESSAGE', `expected a structure, found ${item.type}`, {
    path: tagName(item.tag),
  })
}

/** The items with this tag within a structure, in their order; throws `KMIP_MESSAGE` outside of a structure. */
export function children(item: Ttlv, tag: number): readonly Ttlv[] {
  return asStructure(item).value.filter((one) => one.tag === tag)
}

/** The one item with this tag, if any. Throws `KMIP_MESSAGE` on two: which one counts would be a guess. */
export function child(item: Ttlv, tag: number): Ttlv | undefined {
  const [first, second] = children(item, tag)
  if (second !== undefined) {
    throw new KmipError('KMIP_MESSAGE', 'expected one item, found several', {
      path: pathOf(item, tag),
    })
  }
  return first
}

/** The one item with this tag; throws `KMIP_MESSAGE` when it is missing or there are two. */
export function requiredChild(item: Ttlv, tag: number): Ttlv {
  const found = child(item, tag)
  if (found !== undefined) return found
  throw new KmipError('KMIP_MESSAGE', 'expected an item, found none', { path: pathOf(item, tag) })
}

/** The value of an item; throws `KMIP_MESSAGE` when it is of another type. */
export function typedValue<Type extends TtlvType>(
  item: Item<TtlvType>,
  type: Type,
): TtlvValues[Type] {
  if (!isOfType(item, type)) {
    throw new KmipError('KMIP_MESSAGE', `expected ${type}, found ${item.type}`, {
      path: tagName(item.tag),
    })
  }
  return item.value
}

/** The value of the one child with this tag; throws `KMIP_MESSAGE` when it is missing, twice or of another type. */
export function valueAt<Type extends TtlvType>(
  item: Ttlv,
  tag: number,
  type: Type,
): TtlvValues[Type] {
  return typedValue(requiredChild(item, tag), type)
}

/** As `valueAt`, and nothing when the child is missing. */
export function optionalValueAt<Type extends TtlvType>(
  item: Ttlv,
  tag: number,
  type: Type,
): TtlvValues[Type] | undefined {
  const found = child(item, tag)
  return found === undefined ? undefined : typedValue(found, type)
}

function isOfType<Type extends TtlvType>(item: Item<TtlvType>, type: Type): item is Item<Type> {
  return item.type === type
}

function pathOf(item: Ttlv, tag: number): string {
  return `${tagName(item.tag)}/${tagName(tag)}`
}
