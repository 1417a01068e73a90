import { attributeName, attributeTag } from './attribute-names.js'
import { KmipError } from './errors.js'
import { TAG } from './tags.js'
import {
  asStructure,
  enumeration,
  integer,
  optionalValueAt,
  requiredChild,
  type Structure,
  structure,
  type Ttlv,
  textString,
  typedValue,
  valueAt,
} from './ttlv.js'
import type { ProtocolVersion } from './version.js'

/**
 * An attribute of an object, the same for every version.
 *
 * Custom attributes of 1.x, `x-Name` of a client and `y-Name` of a server, are those of the vendors `x` and `y`
 * that 2.x reserves for them.
 *
 * @see KMIP 1.4, clause 2.1.1; KMIP 2.1 Specification, clauses 4.1 and 4.59
 */
export type KmipAttribute = StandardAttribute | VendorAttribute

interface StandardAttribute {
  readonly kind: 'standard'
  readonly tag: number
  /** The value, with the tag of the attribute. */
  readonly value: Ttlv
  /** Which of several values, from zero; 1.x alone. */
  readonly index?: number | undefined
}

interface VendorAttribute {
  readonly kind: 'vendor'
  readonly vendor: string
  readonly name: string
  /** The value, with the tag Attribute Value. */
  readonly value: Ttlv
  readonly index?: number | undefined
}

/** Which attribute is meant, without a value. */
export type KmipAttributeName =
  | { readonly kind: 'standard'; readonly tag: number }
  | { readonly kind: 'vendor'; readonly vendor: string; readonly name: string }

/** Vendor Identification of attributes with a text of 1.x that the standard does not have. */
const NO_VENDOR = ''

/** An attribute of the standard by its value, which has the tag of the attribute. */
export function standardAttribute(value: Ttlv): KmipAttribute {
  return { kind: 'standard', tag: value.tag, value }
}

/** A custom attribute with a text as its value, by its name of 1.x: `x-Component`. */
export function customAttribute(name: string, text: string): KmipAttribute {
  const parsed = parseAttributeName(name)
  if (parsed.kind !== 'vendor' || parsed.vendor === NO_VENDOR) {
    throw new TypeError(`a custom attribute is named x-… or y-…, found ${name}`)
  }
  return { ...parsed, value: textString(TAG.AttributeValue, text) }
}

/** What the text of an attribute in 1.x means. Names of no standard keep their text, with no vendor. */
export function parseAttributeName(text: string): KmipAttributeName {
  const tag = attributeTag(text)
  if (tag !== undefined) return { kind: 'standard', tag }
  const custom = /^([xy])-(.+)$/s.exec(text)
  return custom?.[1] !== undefined && custom[2] !== undefined
    ? { kind: 'vendor', vendor: custom[1], name: custom[2] }
    : { kind: 'vendor', vendor: NO_VENDOR, name: text }
}

/** The text of an attribute in 1.x; throws `KMIP_VERSION` when 1.x has none for it. */
export function attributeNameText(attribute: KmipAttributeName): string {
  if (attribute.kind === 'standard') {
    const name = attributeName(attribute.tag)
    if (name !== undefined) return name
  } else if (attribute.vendor === NO_VENDOR) return attribute.name
  else if (attribute.vendor === 'x' || attribute.vendor === 'y') {
    return `${attribute.vendor}-${attribute.name}`
  }
  throw new KmipError('KMIP_VERSION', 'this attribute cannot be named in KMIP 1.x')
}

/** One attribute: Attribute in 1.x; the value itself, or Attribute with a vendor, in 2.x. */
export function attributeToTtlv(attribute: KmipAttribute, version: ProtocolVersion): Ttlv {
  if (version.major < 2) {
    return structure(TAG.Attribute, [
      textString(TAG.AttributeName, attributeNameText(attribute)),
      attribute.index === undefined ? undefined : integer(TAG.AttributeIndex, attribute.index),
      { ...attribute.value, tag: TAG.AttributeValue },
    ])
  }
  if (attribute.kind === 'standard') return attribute.value
  return structure(TAG.Attribute, [
    ...vendorName(attribute),
    { ...attribute.value, tag: TAG.AttributeValue },
  ])
}

/** Throws `KMIP_MESSAGE` when the item is no attribute of this version. */
export function attributeFromTtlv(item: Ttlv, version: ProtocolVersion): KmipAttribute {
  if (version.major >= 2) {
    if (item.tag !== TAG.Attribute) return { kind: 'standard', tag: item.tag, value: item }
    return {
      kind: 'vendor',
      vendor: valueAt(item, TAG.VendorIdentification, 'TextString'),
      name: valueAt(item, TAG.AttributeName, 'TextString'),
      value: requiredChild(item, TAG.AttributeValue),
    }
  }
  if (item.tag !== TAG.Attribute) {
    throw new KmipError('KMIP_MESSAGE', 'expected an Attribute, found another item')
  }
  const name = parseAttributeName(valueAt(item, TAG.AttributeName, 'TextString'))
  const index = optionalValueAt(item, TAG.AttributeIndex, 'Integer')
  const value = requiredChild(item, TAG.AttributeValue)
  return name.kind === 'standard'
    ? { ...name, value: { ...value, tag: name.tag }, index }
    : { ...name, value, index }
}

/** The structures that hold attributes in a request, by their tag in 2.x. */
const CONTAINERS = {
  Attributes: TAG.TemplateAttribute,
  CommonAttributes: TAG.CommonTemplateAttribute,
  PrivateKeyAttributes: TAG.PrivateKeyTemplateAttribute,
  PublicKeyAttributes: TAG.PublicKeyTemplateAttribute,
} as const

/** Attributes of a new object, or to find one by: a Template-Attribute in 1.x, Attributes in 2.x. */
export function attributesToTtlv(
  attributes: readonly KmipAttribute[],
  version: ProtocolVersion,
  container: keyof typeof CONTAINERS = 'Attributes',
): Structure {
  return structure(
    version.major < 2 ? CONTAINERS[container] : TAG[container],
    attributes.map((attribute) => attributeToTtlv(attribute, version)),
  )
}

/** The attributes that a structure holds; throws `KMIP_MESSAGE` on anything else in it. */
export function attributesFromTtlv(item: Ttlv, version: ProtocolVersion): readonly KmipAttribute[] {
  return asStructure(item).value.map((one) => attributeFromTtlv(one, version))
}

/** Which attribute is asked for: Attribute Name in 1.x, Attribute Reference in 2.x. */
export function attributeReferenceToTtlv(name: KmipAttributeName, version: ProtocolVersion): Ttlv {
  if (version.major < 2) return textString(TAG.AttributeName, attributeNameText(name))
  return name.kind === 'standard'
    ? enumeration(TAG.AttributeReference, name.tag)
    : structure(TAG.AttributeReference, vendorName(name))
}

/** Throws `KMIP_MESSAGE` when the item is of the other style, or neither. */
export function attributeReferenceFromTtlv(item: Ttlv): KmipAttributeName {
  if (item.tag === TAG.AttributeName) return parseAttributeName(typedValue(item, 'TextString'))
  if (item.tag !== TAG.AttributeReference) {
    throw new KmipError('KMIP_MESSAGE', 'expected the name of an attribute, found another item')
  }
  if (item.type === 'Enumeration') return { kind: 'standard', tag: item.value }
  return {
    kind: 'vendor',
    vendor: valueAt(item, TAG.VendorIdentification, 'TextString'),
    name: valueAt(item, TAG.AttributeName, 'TextString'),
  }
}

/** Whether the attribute is the one that is named. */
export function isNamed(attribute: KmipAttribute, name: KmipAttributeName): boolean {
  if (attribute.kind === 'standard') return name.kind === 'standard' && name.tag === attribute.tag
  return name.kind === 'vendor' && name.vendor === attribute.vendor && name.name === attribute.name
}

function vendorName(name: { readonly vendor: string; readonly name: string }): readonly Ttlv[] {
  if (!/^[A-Za-z0-9_.]+$/.test(name.vendor)) {
    throw new KmipError('KMIP_VERSION', 'this attribute cannot be named in KMIP 2.x')
  }
  return [
    textString(TAG.VendorIdentification, name.vendor),
    textString(TAG.AttributeName, name.name),
  ]
}
