import { newUuid } from '../../core/random.js'
import type { Secret } from '../../core/secret.js'
import { isAttributeOf } from '../attribute-names.js'
import { attributesFromTtlv, type KmipAttribute } from '../attributes.js'
import { OBJECT_TYPE } from '../enumerations.js'
import { TAG } from '../tags.js'
import {
  boolean,
  child,
  children,
  dateTime,
  enumeration,
  integer,
  type Structure,
  structure,
  type Ttlv,
  valueAt,
} from '../ttlv.js'
import type { ProtocolVersion } from '../version.js'
import { added } from './attribute-list.js'
import { checkGivenAtCreation } from './attribute-rules.js'
import { checkValue } from './attribute-types.js'
import type { Call } from './call.js'
import type { ObjectFacts } from './key-block.js'
import { copyOf, dateOf, type ManagedObject, singleValue } from './object.js'
import { KmipRefusal } from './refusal.js'
import { checkNames } from './unique-names.js'

/**
 * The attributes that a request gives to a new object, checked one by one. Templates, which later versions gave up,
 * are refused. Throws `KMIP_REFUSED`, `KMIP_MESSAGE`.
 */
export function givenAttributes(call: Call): readonly KmipAttribute[] {
  const container = child(
    call.payload,
    call.version.major < 2 ? TAG.TemplateAttribute : TAG.Attributes,
  )
  if (container === undefined) return []
  if (call.version.major < 2 && children(container, TAG.Name).length > 0) {
    throw new KmipRefusal('FeatureNotSupported', 'this server keeps no templates')
  }
  return attributesFromTtlv(container, call.version).map((one) =>
    checkedAttribute(one, call.version),
  )
}

/** An attribute of a request with octets of its own. Throws `KMIP_REFUSED` on one that the version does not have. */
export function checkedAttribute(
  attribute: KmipAttribute,
  version: ProtocolVersion,
): KmipAttribute {
  if (attribute.kind === 'standard') {
    if (!isAttributeOf(attribute.tag, version)) {
      throw new KmipRefusal('UnsupportedAttribute', 'this version does not have the attribute')
    }
    checkValue(attribute.value)
  }
  return { ...attribute, value: copyOf(attribute.value) }
}

export interface NewObject {
  readonly objectType: number
  readonly body: Secret
  readonly facts: ObjectFacts
  readonly digest: Ttlv | undefined
  readonly attributes: readonly KmipAttribute[]
}

/**
 * Puts a new object with its attributes into the store. Throws `KMIP_REFUSED` on attributes that clients may not
 * give, on several values for one of them, on values that contradict the object, on names that others have.
 */
export function storeNewObject(call: Call, made: NewObject): ManagedObject {
  const { facts, attributes } = made
  for (const attribute of attributes) checkGivenAtCreation(attribute)
  const given = attributes.reduce<readonly KmipAttribute[]>(
    (list, one) => added(list, withFullCount(one)).list,
    [],
  )
  checkAgreement(given, facts)
  checkNames(call, given)
  const has = (tag: number): boolean =>
    given.some((one) => one.kind === 'standard' && one.tag === tag)
  const defaults = [
    ...ownAttributes(call, made),
    ...defaultAttributes(given, made.objectType),
  ].filter((value) => !has(value.tag))
  const object: ManagedObject = {
    id: newUuid(),
    owner: call.client,
    objectType: made.objectType,
    state: 'PreActive',
    body: made.body,
    attributes: [...given, ...defaults.map(singleValue)],
  }
  checkDates(object)
  checkSize(call, object)
  call.store.put(object)
  return object
}

/** Throws `KMIP_REFUSED`, Server Limit Exceeded, on an object that has grown too large. */
export function checkSize(call: Call, object: ManagedObject): void {
  const { maxAttributes, maxObjectOctets } = call.server
  if (object.attributes.length > maxAttributes) {
    throw new KmipRefusal(
      'ServerLimitExceeded',
      `an object has ${maxAttributes} attributes at most`,
    )
  }
  if ((object.body?.length ?? 0) > maxObjectOctets) {
    throw new KmipRefusal('ServerLimitExceeded', `an object has ${maxObjectOctets} octets at most`)
  }
}

/** Throws `KMIP_REFUSED` when an object would end before it begins. */
export function checkDates(object: ManagedObject): void {
  const activation = dateOf(object, TAG.ActivationDate)
  const deactivation = dateOf(object, TAG.DeactivationDate)
  if (activation !== undefined && deactivation !== undefined && deactivation < activation) {
    throw new KmipRefusal('InvalidAttributeValue', 'the deactivation is before the activation')
  }
}

/** What the server knows of an object that it makes or is given. */
function ownAttributes(call: Call, { facts, digest }: NewObject): readonly Ttlv[] {
  const { now } = call
  return [
    facts.algorithm && enumeration(TAG.CryptographicAlgorithm, facts.algorithm),
    facts.lengthBits && integer(TAG.CryptographicLength, facts.lengthBits),
    facts.formatType && enumeration(TAG.KeyFormatType, facts.formatType),
    facts.certificateType && enumeration(TAG.CertificateType, facts.certificateType),
    facts.certificateOctets && integer(TAG.CertificateLength, facts.certificateOctets),
    digest,
    dateTime(TAG.InitialDate, now),
    dateTime(TAG.OriginalCreationDate, now),
    dateTime(TAG.LastChangeDate, now),
  ].filter((value) => typeof value === 'object')
}

/** @see KMIP 2.1 Specification, clauses 4.23, 4.24, 4.26, 4.38, 4.50 */
function defaultAttributes(given: readonly KmipAttribute[], objectType: number): readonly Ttlv[] {
  if (objectType === OBJECT_TYPE.OpaqueObject) return []
  const isTrue = (tag: number, otherwise: boolean): boolean => {
    const found = given.find((one) => one.kind === 'standard' && one.tag === tag)
    return found?.value.type === 'Boolean' ? found.value.value : otherwise
  }
  const sensitive = isTrue(TAG.Sensitive, false)
  const extractable = isTrue(TAG.Extractable, true)
  return [
    boolean(TAG.Fresh, true),
    boolean(TAG.Sensitive, sensitive),
    boolean(TAG.AlwaysSensitive, sensitive),
    boolean(TAG.Extractable, extractable),
    boolean(TAG.NeverExtractable, !extractable),
  ]
}

/** What is said beside the object must be what the object says. */
function checkAgreement(given: readonly KmipAttribute[], facts: ObjectFacts): void {
  const pairs = [
    [TAG.CryptographicAlgorithm, facts.algorithm],
    [TAG.CryptographicLength, facts.lengthBits],
    [TAG.CertificateType, facts.certificateType],
  ] as const
  for (const [tag, fact] of pairs) {
    const said = given.find((one) => one.kind === 'standard' && one.tag === tag)?.value.value
    if (fact !== undefined && said !== undefined && said !== fact) {
      throw new KmipRefusal('InvalidField', 'an attribute contradicts the object')
    }
  }
}

/** Usage Limits begin with all that they allow. */
function withFullCount(attribute: KmipAttribute): KmipAttribute {
  if (attribute.kind !== 'standard' || attribute.tag !== TAG.UsageLimits) return attribute
  return { ...attribute, value: fullUsageLimits(attribute.value) }
}

/** @see KMIP 2.1 Specification, clause 4.64 */
export function fullUsageLimits(limits: Ttlv): Structure {
  const total = valueAt(limits, TAG.UsageLimitsTotal, 'LongInteger')
  return structure(TAG.UsageLimits, [
    { tag: TAG.UsageLimitsTotal, type: 'LongInteger', value: total },
    { tag: TAG.UsageLimitsCount, type: 'LongInteger', value: total },
    child(limits, TAG.UsageLimitsUnit),
  ])
}
