import { equalBytes } from '../../core/bytes.js'
import { isNamed, type KmipAttribute, type KmipAttributeName } from '../attributes.js'
import type { Ttlv } from '../ttlv.js'
import { isMultiple } from './attribute-rules.js'
import { KmipRefusal } from './refusal.js'

type List = readonly KmipAttribute[]

/** A list with one more value, and that value with its index. Throws `KMIP_REFUSED` when there is one already. */
export function added(
  list: List,
  attribute: KmipAttribute,
): { readonly list: List; readonly added: KmipAttribute } {
  const others = instancesOf(list, attribute)
  if (others.length > 0 && !isMultiple(attribute)) {
    throw new KmipRefusal('AttributeSingleValued', 'the attribute has a value, and has one alone')
  }
  if (others.some((other) => sameItem(other.value, attribute.value))) {
    throw new KmipRefusal('InvalidAttributeValue', 'the attribute has this value already')
  }
  const index = Math.max(-1, ...others.map((other) => other.index ?? 0)) + 1
  const one = { ...attribute, index }
  return { list: [...list, one], added: one }
}

/** A list with another value in the place of one. */
export function replaced(list: List, old: KmipAttribute, value: Ttlv): List {
  return list.map((one) => (one === old ? { ...old, value } : one))
}

/** All values of one attribute, by index. */
export function instancesOf(list: List, name: KmipAttributeName): List {
  return list.filter((one) => isNamed(one, name))
}

/** The value with an index; throws `KMIP_REFUSED`, Attribute Not Found. */
export function instanceAt(list: List, name: KmipAttributeName, index: number): KmipAttribute {
  return found(instancesOf(list, name).find((one) => (one.index ?? 0) === index))
}

/** The value that equals an item; throws `KMIP_REFUSED`, Attribute Not Found. */
export function instanceWith(list: List, attribute: KmipAttribute): KmipAttribute {
  return found(instancesOf(list, attribute).find((one) => sameItem(one.value, attribute.value)))
}

/** The only value; throws `KMIP_REFUSED` when there is none, or more than one: which is meant would be a guess. */
export function onlyInstance(list: List, name: KmipAttributeName): KmipAttribute {
  const [first, second] = instancesOf(list, name)
  if (second !== undefined) {
    throw new KmipRefusal('MultiValuedAttribute', 'the attribute has several values: which one?')
  }
  return found(first)
}

/** Whether two items are the same in all that they hold. */
export function sameItem(a: Ttlv, b: Ttlv): boolean {
  if (a.tag !== b.tag) return false
  if (a.type === 'Structure' && b.type === 'Structure') {
    const others = b.value
    return (
      a.value.length === others.length &&
      a.value.every((item, index) => {
        const other = others[index]
        return other !== undefined && sameItem(item, other)
      })
    )
  }
  if (a.type === 'ByteString' && b.type === 'ByteString') return equalBytes(a.value, b.value)
  return a.type === b.type && a.value === b.value
}

function found(attribute: KmipAttribute | undefined): KmipAttribute {
  if (attribute !== undefined) return attribute
  throw new KmipRefusal('AttributeNotFound', 'the object does not have this attribute')
}
