import type { Secret } from '../../core/secret.js'
import type { KmipAttribute } from '../attributes.js'
import { decodeTtlv } from '../decode.js'
import { encodeTtlv } from '../encode.js'
import { OBJECT_TYPE, STATE } from '../enumerations.js'
import { TAG } from '../tags.js'
import {
  asStructure,
  dateTime,
  enumeration,
  type Structure,
  type Ttlv,
  textString,
} from '../ttlv.js'
import { type KmipState, stateAt } from './lifecycle.js'
import { KmipRefusal } from './refusal.js'

/** One managed object. Never changed: a change is another object with the same id. */
export interface ManagedObject {
  readonly id: string
  /** The client whose certificate it was made with; others do not learn that it exists. */
  readonly owner: string
  readonly objectType: number
  /** As it was when it was last written; see `stateOf`. */
  readonly state: KmipState
  /** The TTLV of the object; nothing when it is destroyed. */
  readonly body: Secret | undefined
  /** All but Unique Identifier, Object Type and State. Each with an index among those of its name. */
  readonly attributes: readonly KmipAttribute[]
}

/** The object that a request or response carries, by its type: types without an entry are not managed here. */
const OBJECT_TAG: ReadonlyMap<number, number> = new Map([
  [OBJECT_TYPE.Certificate, TAG.Certificate],
  [OBJECT_TYPE.SymmetricKey, TAG.SymmetricKey],
  [OBJECT_TYPE.PublicKey, TAG.PublicKey],
  [OBJECT_TYPE.PrivateKey, TAG.PrivateKey],
  [OBJECT_TYPE.SecretData, TAG.SecretData],
  [OBJECT_TYPE.OpaqueObject, TAG.OpaqueObject],
  [OBJECT_TYPE.PGPKey, TAG.PGPKey],
])

export const OBJECT_TYPES: readonly number[] = [...OBJECT_TAG.keys()]

/** Throws `KMIP_REFUSED`, Invalid Object Type. */
export function objectTag(objectType: number): number {
  const tag = OBJECT_TAG.get(objectType)
  if (tag !== undefined) return tag
  throw new KmipRefusal('InvalidObjectType', 'this server does not manage objects of this type')
}

/** The state now: time moves objects. */
export function stateOf(object: ManagedObject, now: bigint): KmipState {
  const dates = {
    activation: dateOf(object, TAG.ActivationDate),
    deactivation: dateOf(object, TAG.DeactivationDate),
  }
  return stateAt(object.state, dates, now)
}

/** The one date of this kind; seconds. */
export function dateOf(object: ManagedObject, tag: number): bigint | undefined {
  const value = standardValue(object, tag)
  return value?.type === 'DateTime' ? value.value : undefined
}

/** The first value of a standard attribute. */
export function standardValue(object: ManagedObject, tag: number): Ttlv | undefined {
  return object.attributes.find((one) => one.kind === 'standard' && one.value.tag === tag)?.value
}

export function booleanOf(object: ManagedObject, tag: number): boolean {
  const value = standardValue(object, tag)
  return value?.type === 'Boolean' && value.value
}

export function usageMaskOf(object: ManagedObject): number {
  const value = standardValue(object, TAG.CryptographicUsageMask)
  return value?.type === 'Integer' ? value.value : 0
}

/** The object in a form that is read, for one call: its octets are those of the secret. */
export function useBody<T>(object: ManagedObject, borrow: (body: Structure) => T): T {
  if (object.body === undefined) {
    throw new KmipRefusal('ObjectDestroyed', 'the object was destroyed')
  }
  return object.body.use((octets) => borrow(asStructure(decodeTtlv(octets))))
}

/** The object with other values for single-valued attributes, and the time of the change. */
export function withValues(
  object: ManagedObject,
  values: readonly Ttlv[],
  now: bigint,
): ManagedObject {
  const all = [...values, dateTime(TAG.LastChangeDate, now)]
  const tags = new Set(all.map(({ tag }) => tag))
  const kept = object.attributes.filter((one) => one.kind === 'vendor' || !tags.has(one.value.tag))
  return { ...object, attributes: [...kept, ...all.map(singleValue)] }
}

/** A standard attribute that has one value. */
export function singleValue(value: Ttlv): KmipAttribute {
  return { kind: 'standard', tag: value.tag, value, index: 0 }
}

/** Every attribute, with those that are not stored as such. */
export function attributesOf(object: ManagedObject, now: bigint): readonly KmipAttribute[] {
  return [
    singleValue(textString(TAG.UniqueIdentifier, object.id)),
    singleValue(enumeration(TAG.ObjectType, object.objectType)),
    ...object.attributes,
    singleValue(enumeration(TAG.State, STATE[stateOf(object, now)])),
  ]
}

/** A copy that shares no octets with the message that it came in: that one is filled with zeros. */
export function copyOf(item: Ttlv): Ttlv {
  return decodeTtlv(encodeTtlv(item))
}
