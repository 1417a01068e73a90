import { TAG, tagName } from '../tags.js'
import { asStructure, child, type Structure, type Ttlv } from '../ttlv.js'
import type { ProtocolVersion } from '../version.js'
import { isDestroyed } from './lifecycle.js'
import type { ManagedObject } from './object.js'
import { stateOf } from './object.js'
import { KmipRefusal } from './refusal.js'
import type { ObjectStore } from './store.js'

/** One item of a batch that is being done. */
export interface Call {
  readonly payload: Structure
  readonly version: ProtocolVersion
  /** Who asks; see `ManagedObject.owner`. */
  readonly client: string
  /** Seconds. */
  readonly now: bigint
  readonly store: ObjectStore
  readonly server: ServerFacts
  /** The object of an earlier item of the batch, which an item without an identifier means. */
  readonly placeholder: string | undefined
}

/** What is the same for every call. */
export interface ServerFacts {
  /** The versions that are spoken, best first. */
  readonly versions: readonly ProtocolVersion[]
  readonly operations: readonly Operation[]
  /** Octets of one object, as TTLV. */
  readonly maxObjectOctets: number
  /** Attributes of one object. */
  readonly maxAttributes: number
}

export interface Answer {
  readonly items: readonly (Ttlv | undefined)[]
  /** Octets with secrets that stand in the items and nowhere else: filled with zeros once they are written. */
  readonly wipe?: readonly Uint8Array[]
  /** What the ID placeholder is after it: an id, nothing, or as it was when it is not there. */
  readonly placeholder?: { readonly id: string | undefined }
}

export interface Operation {
  readonly operation: number
  /** The first version that has it. */
  readonly since: ProtocolVersion
  /** What may stand in the payload, in every version and in those of one major version. Anything else is refused. */
  readonly fields: readonly number[]
  readonly fieldsOf1?: readonly number[]
  readonly fieldsOf2?: readonly number[]
  readonly run: (call: Call) => Answer
}

/** ID Placeholder of the enumeration that 2.x has as a Unique Identifier. */
const ID_PLACEHOLDER = 1

/** The id of the object that is meant; throws `KMIP_REFUSED` when there is none. */
export function idOf(call: Call): string {
  const item = child(call.payload, TAG.UniqueIdentifier)
  if (item?.type === 'TextString') return item.value
  const meansPlaceholder =
    item === undefined || (item.type === 'Enumeration' && item.value === ID_PLACEHOLDER)
  if (!meansPlaceholder) {
    throw new KmipRefusal('FeatureNotSupported', 'an object is named by its text or ID Placeholder')
  }
  if (call.placeholder !== undefined) return call.placeholder
  throw new KmipRefusal('ObjectNotFound', 'no object is named, and none was before in the batch')
}

/** The object that is meant. Throws `KMIP_REFUSED`; those of others are not found, as if they were not there. */
export function objectOf(call: Call): ManagedObject {
  const object = call.store.get(idOf(call), call.client)
  if (object !== undefined) return object
  throw new KmipRefusal('ObjectNotFound', 'no object with this identifier')
}

/** The object that is meant, which is not destroyed; throws `KMIP_REFUSED`. */
export function livingObjectOf(call: Call): ManagedObject {
  const object = objectOf(call)
  if (!isDestroyed(stateOf(object, call.now))) return object
  throw new KmipRefusal('ObjectDestroyed', 'the object was destroyed')
}

/** Throws `KMIP_REFUSED`, Invalid Message, on an item that has no place in a structure. */
export function checkFields(item: Ttlv, known: readonly number[]): void {
  const unknown = asStructure(item).value.find(({ tag }) => !known.includes(tag))
  if (unknown === undefined) return
  throw new KmipRefusal('InvalidMessage', `${tagName(unknown.tag)} has no place here`)
}
