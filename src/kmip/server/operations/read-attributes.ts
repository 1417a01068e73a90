import { isAttributeOf } from '../../attribute-names.js'
import {
  attributeReferenceFromTtlv,
  attributeReferenceToTtlv,
  attributesToTtlv,
  attributeToTtlv,
  isNamed,
  type KmipAttribute,
  type KmipAttributeName,
} from '../../attributes.js'
import { OPERATION } from '../../enumerations.js'
import { TAG } from '../../tags.js'
import { textString } from '../../ttlv.js'
import type { ProtocolVersion } from '../../version.js'
import { type Answer, type Call, type Operation, objectOf } from '../call.js'
import { attributesOf, type ManagedObject } from '../object.js'
import { KmipRefusal } from '../refusal.js'

const V1_0 = { major: 1, minor: 0 }

/** @see KMIP 2.1 Specification, clause 6.1.23 */
export const GET_ATTRIBUTES: Operation = {
  operation: OPERATION.GetAttributes,
  since: V1_0,
  fields: [TAG.UniqueIdentifier],
  fieldsOf1: [TAG.AttributeName],
  fieldsOf2: [TAG.AttributeReference],
  run: getAttributes,
}

/** @see KMIP 2.1 Specification, clause 6.1.24 */
export const GET_ATTRIBUTE_LIST: Operation = {
  operation: OPERATION.GetAttributeList,
  since: V1_0,
  fields: [TAG.UniqueIdentifier],
  run: getAttributeList,
}

function getAttributes(call: Call): Answer {
  const { version } = call
  const object = objectOf(call)
  const names = call.payload.value
    .filter(({ tag }) => tag === TAG.AttributeName || tag === TAG.AttributeReference)
    .map(attributeReferenceFromTtlv)
  const distinct = new Set(names.map(keyOf))
  if (distinct.size !== names.length) {
    throw new KmipRefusal('InvalidMessage', 'an attribute is asked for more than once')
  }
  const all = visible(object, call)
  const found =
    names.length === 0 ? all : names.flatMap((name) => all.filter((one) => isNamed(one, name)))
  const attributes = found.map((one) => inAnswer(one, version))
  return {
    items: [
      textString(TAG.UniqueIdentifier, object.id),
      ...(version.major < 2
        ? attributes.map((one) => attributeToTtlv(one, version))
        : [attributesToTtlv(attributes, version)]),
    ],
  }
}

function getAttributeList(call: Call): Answer {
  const object = objectOf(call)
  const seen = new Set<string>()
  const names = visible(object, call).filter((one) => {
    const key = keyOf(one)
    return !seen.has(key) && seen.add(key)
  })
  return {
    items: [
      textString(TAG.UniqueIdentifier, object.id),
      ...names.map((one) => attributeReferenceToTtlv(one, call.version)),
    ],
  }
}

/**
 * The attribute as the version has it. The first of several has no index: clients of servers with one value alone know
 * none. A Digest of 1.0 does not say of which format it is.
 */
export function inAnswer(attribute: KmipAttribute, version: ProtocolVersion): KmipAttribute {
  const index = attribute.index === 0 ? undefined : attribute.index
  const { value } = attribute
  const isEarly = version.major === 1 && version.minor === 0
  if (!isEarly || value.tag !== TAG.Digest || value.type !== 'Structure') {
    return { ...attribute, index }
  }
  const fields = value.value.filter(({ tag }) => tag !== TAG.KeyFormatType)
  return { ...attribute, index, value: { ...value, value: fields } }
}

/** The attributes that can be said in the version of the request. */
function visible(object: ManagedObject, { now, version }: Call): readonly KmipAttribute[] {
  return attributesOf(object, now).filter((one) => canBeSaid(one, version))
}

function canBeSaid(attribute: KmipAttribute, version: ProtocolVersion): boolean {
  if (attribute.kind === 'standard') return isAttributeOf(attribute.tag, version)
  return version.major >= 2 || attribute.vendor === 'x' || attribute.vendor === 'y'
}

function keyOf(name: KmipAttributeName): string {
  return name.kind === 'standard' ? String(name.tag) : `${name.vendor} ${name.name}`
}
