import {
  attributeFromTtlv,
  attributeReferenceFromTtlv,
  attributeToTtlv,
  type KmipAttribute,
  type KmipAttributeName,
} from '../../attributes.js'
import { OPERATION } from '../../enumerations.js'
import { TAG } from '../../tags.js'
import {
  asStructure,
  boolean,
  child,
  optionalValueAt,
  requiredChild,
  type Ttlv,
  textString,
} from '../../ttlv.js'
import {
  added,
  instanceAt,
  instancesOf,
  instanceWith,
  onlyInstance,
  replaced,
  sameItem,
} from '../attribute-list.js'
import { checkWritable, isMultiple } from '../attribute-rules.js'
import { type Answer, type Call, livingObjectOf, type Operation } from '../call.js'
import { checkDates, checkedAttribute, checkSize, fullUsageLimits } from '../new-object.js'
import { booleanOf, type ManagedObject, stateOf, withValues } from '../object.js'
import { KmipRefusal } from '../refusal.js'
import { checkNames } from '../unique-names.js'
import { inAnswer } from './read-attributes.js'

const V1_0 = { major: 1, minor: 0 }

/** @see KMIP 2.1 Specification, clause 6.1.2 */
export const ADD_ATTRIBUTE: Operation = {
  operation: OPERATION.AddAttribute,
  since: V1_0,
  fields: [TAG.UniqueIdentifier],
  fieldsOf1: [TAG.Attribute],
  fieldsOf2: [TAG.NewAttribute],
  run: add,
}

/** @see KMIP 2.1 Specification, clause 6.1.30 */
export const MODIFY_ATTRIBUTE: Operation = {
  operation: OPERATION.ModifyAttribute,
  since: V1_0,
  fields: [TAG.UniqueIdentifier],
  fieldsOf1: [TAG.Attribute],
  fieldsOf2: [TAG.CurrentAttribute, TAG.NewAttribute],
  run: modify,
}

/** @see KMIP 2.1 Specification, clause 6.1.12 */
export const DELETE_ATTRIBUTE: Operation = {
  operation: OPERATION.DeleteAttribute,
  since: V1_0,
  fields: [TAG.UniqueIdentifier],
  fieldsOf1: [TAG.AttributeName, TAG.AttributeIndex],
  fieldsOf2: [TAG.CurrentAttribute, TAG.AttributeReference],
  run: remove,
}

/** @see KMIP 2.1 Specification, clause 6.1.50 */
export const SET_ATTRIBUTE: Operation = {
  operation: OPERATION.SetAttribute,
  since: { major: 2, minor: 0 },
  fields: [TAG.UniqueIdentifier, TAG.NewAttribute],
  run: set,
}

/** What an object always has. */
const NOT_DELETED: readonly number[] = [TAG.Sensitive, TAG.Extractable]

function add(call: Call): Answer {
  const object = livingObjectOf(call)
  const { attribute } = given(call)
  checkWritable(attribute, stateOf(object, call.now))
  checkNames(call, [attribute])
  const result = added(object.attributes, inFull(attribute))
  return changed(call, object, result.list, result.added)
}

function modify(call: Call): Answer {
  const object = livingObjectOf(call)
  const { attribute, index } = given(call)
  checkWritable(attribute, stateOf(object, call.now))
  return overwrite(call, object, modified(call, object.attributes, attribute, index), attribute)
}

function set(call: Call): Answer {
  const object = livingObjectOf(call)
  const { attribute } = given(call)
  checkWritable(attribute, stateOf(object, call.now))
  if (instancesOf(object.attributes, attribute).length === 0) {
    checkNames(call, [attribute])
    const result = added(object.attributes, inFull(attribute))
    return changed(call, object, result.list, result.added)
  }
  return overwrite(call, object, onlyInstance(object.attributes, attribute), attribute)
}

function remove(call: Call): Answer {
  const object = livingObjectOf(call)
  const { name, instances } = doomed(call, object.attributes)
  checkWritable(name, stateOf(object, call.now))
  if (name.kind === 'standard' && NOT_DELETED.includes(name.tag)) {
    throw new KmipRefusal('AttributeReadOnly', 'the attribute can be changed, and not deleted')
  }
  const list = object.attributes.filter((one) => !instances.includes(one))
  return changed(call, object, list, instances[0])
}

/** The attribute of the request, and which of several values it means in 1.x. */
function given({ payload, version }: Call): {
  readonly attribute: KmipAttribute
  readonly index: number | undefined
} {
  const item =
    version.major < 2
      ? requiredChild(payload, TAG.Attribute)
      : onlyItem(requiredChild(payload, TAG.NewAttribute))
  const attribute = checkedAttribute(attributeFromTtlv(item, version), version)
  return { attribute: { ...attribute, index: undefined }, index: attribute.index }
}

/** In 1.x an index says which value is meant, and it is 0 when there is none; in 2.x the value as it is. */
function modified(
  call: Call,
  list: readonly KmipAttribute[],
  attribute: KmipAttribute,
  index: number | undefined,
): KmipAttribute {
  if (call.version.major < 2) return instanceAt(list, attribute, index ?? 0)
  const current = child(call.payload, TAG.CurrentAttribute)
  if (current === undefined) return onlyInstance(list, attribute)
  const old = attributeFromTtlv(onlyItem(current), call.version)
  const found = instanceWith(list, old)
  if (instancesOf([found], attribute).length === 0) {
    throw new KmipRefusal('InvalidAttribute', 'an attribute does not become another')
  }
  return found
}

function overwrite(
  call: Call,
  object: ManagedObject,
  old: KmipAttribute,
  attribute: KmipAttribute,
): Answer {
  const { value } = inFull(attribute)
  if (sameItem(old.value, value)) return changed(call, object, object.attributes, old)
  checkNames(call, [attribute])
  const others = instancesOf(object.attributes, attribute).filter((one) => one !== old)
  if (isMultiple(attribute) && others.some((one) => sameItem(one.value, value))) {
    throw new KmipRefusal('InvalidAttributeValue', 'the attribute has this value already')
  }
  return changed(call, object, replaced(object.attributes, old, value), { ...old, value })
}

/** Usage Limits that are written anew allow all again. */
function inFull(attribute: KmipAttribute): KmipAttribute {
  if (attribute.kind !== 'standard' || attribute.tag !== TAG.UsageLimits) return attribute
  return { ...attribute, value: fullUsageLimits(attribute.value) }
}

function doomed(
  { payload, version }: Call,
  list: readonly KmipAttribute[],
): { readonly name: KmipAttributeName; readonly instances: readonly KmipAttribute[] } {
  if (version.major < 2) {
    const name = attributeReferenceFromTtlv(requiredChild(payload, TAG.AttributeName))
    const index = optionalValueAt(payload, TAG.AttributeIndex, 'Integer') ?? 0
    return { name, instances: [instanceAt(list, name, index)] }
  }
  const current = child(payload, TAG.CurrentAttribute)
  const reference = child(payload, TAG.AttributeReference)
  if ((current === undefined) === (reference === undefined)) {
    throw new KmipRefusal('InvalidMessage', 'expected a value or an attribute, and not both')
  }
  if (current !== undefined) {
    const attribute = attributeFromTtlv(onlyItem(current), version)
    return { name: attribute, instances: [instanceWith(list, attribute)] }
  }
  const name = attributeReferenceFromTtlv(requiredChild(payload, TAG.AttributeReference))
  const instances = instancesOf(list, name)
  if (instances.length > 0) return { name, instances }
  throw new KmipRefusal('AttributeNotFound', 'the object does not have this attribute')
}

/** Stores the change. The answer of 1.x has the attribute in it. */
function changed(
  call: Call,
  object: ManagedObject,
  attributes: readonly KmipAttribute[],
  one: KmipAttribute | undefined,
): Answer {
  const after = withHistory(withValues({ ...object, attributes }, [], call.now), call.now)
  checkDates(after)
  checkSize(call, after)
  call.store.put(after)
  return {
    items: [
      textString(TAG.UniqueIdentifier, object.id),
      call.version.major < 2 && one !== undefined
        ? attributeToTtlv(inAnswer(one, call.version), call.version)
        : undefined,
    ],
  }
}

/** Always Sensitive and Never Extractable do not come back once they were false. */
function withHistory(object: ManagedObject, now: bigint): ManagedObject {
  const values: Ttlv[] = []
  if (booleanOf(object, TAG.AlwaysSensitive) && !booleanOf(object, TAG.Sensitive)) {
    values.push(boolean(TAG.AlwaysSensitive, false))
  }
  if (booleanOf(object, TAG.NeverExtractable) && booleanOf(object, TAG.Extractable)) {
    values.push(boolean(TAG.NeverExtractable, false))
  }
  return values.length === 0 ? object : withValues(object, values, now)
}

function onlyItem(container: Ttlv): Ttlv {
  const [item, ...others] = asStructure(container).value
  if (item !== undefined && others.length === 0) return item
  throw new KmipRefusal('InvalidMessage', 'expected one attribute')
}
