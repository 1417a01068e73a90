import { decodeTtlv } from '../../decode.js'
import { encodeTtlv } from '../../encode.js'
import { KEY_FORMAT_TYPE, KEY_WRAP_TYPE, OBJECT_TYPE, OPERATION } from '../../enumerations.js'
import { TAG } from '../../tags.js'
import {
  asStructure,
  boolean,
  child,
  enumeration,
  optionalValueAt,
  type Structure,
  structure,
  textString,
  valueAt,
} from '../../ttlv.js'
import { type Answer, type Call, livingObjectOf, type Operation } from '../call.js'
import { isWrapped, rawKeyOf } from '../key-block.js'
import { isDestroyed } from '../lifecycle.js'
import { booleanOf, type ManagedObject, stateOf, useBody, withValues } from '../object.js'
import { KmipRefusal } from '../refusal.js'
import { wrappedObject, wrappingRequestOf } from '../wrapping.js'

/** @see KMIP 2.1 Specification, clause 6.1.22 */
export const GET: Operation = {
  operation: OPERATION.Get,
  since: { major: 1, minor: 0 },
  fields: [
    ...[TAG.UniqueIdentifier, TAG.KeyFormatType, TAG.KeyWrapType, TAG.KeyCompressionType],
    TAG.KeyWrappingSpecification,
  ],
  run: get,
}

function get(call: Call): Answer {
  const { payload } = call
  const object = livingObjectOf(call)
  if (child(payload, TAG.KeyCompressionType) !== undefined) {
    throw new KmipRefusal('KeyCompressionTypeNotSupported', 'this server does not compress keys')
  }
  const formatType = optionalValueAt(payload, TAG.KeyFormatType, 'Enumeration')
  const specification = child(payload, TAG.KeyWrappingSpecification)
  checkExtractable(object, specification !== undefined)
  return useBody(object, (body) => {
    checkWrapType(optionalValueAt(payload, TAG.KeyWrapType, 'Enumeration'), isWrapped(body))
    const plain = formatType === undefined ? body : inFormat(object, body, formatType)
    const request = specification && wrappingRequestOf(specification)
    const given =
      request === undefined
        ? plain
        : wrappedObject(object, plain, request, wrappingKey(call, request.wrappingKeyId), call)
    // The answer outlives the loan.
    const copy = encodeTtlv(given)
    if (booleanOf(object, TAG.Fresh)) {
      call.store.put(withValues(object, [boolean(TAG.Fresh, false)], call.now))
    }
    return {
      items: [
        enumeration(TAG.ObjectType, object.objectType),
        textString(TAG.UniqueIdentifier, object.id),
        decodeTtlv(copy),
      ],
      wipe: [copy],
    }
  })
}

/** @see KMIP 2.1 Specification, clauses 4.24 and 4.50 */
function checkExtractable(object: ManagedObject, wrapped: boolean): void {
  const isPublic = [OBJECT_TYPE.Certificate, OBJECT_TYPE.OpaqueObject].some(
    (type) => type === object.objectType,
  )
  if (isPublic) return
  if (!booleanOf(object, TAG.Extractable)) {
    throw new KmipRefusal('NotExtractable', 'the object does not leave the server')
  }
  if (booleanOf(object, TAG.Sensitive) && !wrapped) {
    throw new KmipRefusal('Sensitive', 'the object leaves the server wrapped alone')
  }
}

function checkWrapType(wrapType: number | undefined, wrapped: boolean): void {
  if (wrapType === undefined || wrapType === KEY_WRAP_TYPE.AsRegistered) return
  if (wrapType === KEY_WRAP_TYPE.NotWrapped && !wrapped) return
  throw new KmipRefusal('KeyWrapTypeNotSupported', 'this server does not unwrap keys')
}

/** A symmetric key can be had in two formats, everything else as it is kept. */
function inFormat(object: ManagedObject, body: Structure, formatType: number): Structure {
  const block = child(body, TAG.KeyBlock)
  if (block !== undefined && valueAt(block, TAG.KeyFormatType, 'Enumeration') === formatType) {
    return body
  }
  const { Raw, TransparentSymmetricKey } = KEY_FORMAT_TYPE
  const isKey = object.objectType === OBJECT_TYPE.SymmetricKey && !isWrapped(body)
  if (
    block === undefined ||
    !isKey ||
    !(formatType === Raw || formatType === TransparentSymmetricKey)
  ) {
    throw new KmipRefusal('KeyFormatTypeNotSupported', 'the object is not kept in this format')
  }
  const key = { type: 'ByteString', value: rawKeyOf(body) } as const
  const material =
    formatType === Raw
      ? { ...key, tag: TAG.KeyMaterial }
      : structure(TAG.KeyMaterial, [{ ...key, tag: TAG.Key }])
  const items = asStructure(block).value.map((item) => {
    if (item.tag === TAG.KeyFormatType) return enumeration(TAG.KeyFormatType, formatType)
    if (item.tag !== TAG.KeyValue) return item
    const others = asStructure(item).value.filter(({ tag }) => tag !== TAG.KeyMaterial)
    return structure(TAG.KeyValue, [material, ...others])
  })
  return structure(body.tag, [structure(TAG.KeyBlock, items)])
}

function wrappingKey(call: Call, id: string): ManagedObject {
  const object = call.store.get(id, call.client)
  if (object === undefined) {
    throw new KmipRefusal('WrappingObjectNotFound', 'no wrapping key with this identifier')
  }
  if (isDestroyed(stateOf(object, call.now))) {
    throw new KmipRefusal('WrappingObjectDestroyed', 'the wrapping key was destroyed')
  }
  return object
}
