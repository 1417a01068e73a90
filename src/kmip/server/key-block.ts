import { createHash } from 'node:crypto'
import { Secret } from '../../core/secret.js'
import { encodeTtlv } from '../encode.js'
import {
  CRYPTOGRAPHIC_ALGORITHM,
  HASHING_ALGORITHM,
  KEY_FORMAT_TYPE,
  OBJECT_TYPE,
} from '../enumerations.js'
import { TAG } from '../tags.js'
import {
  asStructure,
  byteString,
  child,
  enumeration,
  integer,
  optionalValueAt,
  requiredChild,
  type Structure,
  structure,
  type Ttlv,
  typedValue,
  valueAt,
} from '../ttlv.js'
import { type ManagedObject, objectTag, useBody } from './object.js'
import { KmipRefusal } from './refusal.js'

/** What an object says of itself. */
export interface ObjectFacts {
  readonly formatType: number | undefined
  readonly algorithm: number | undefined
  readonly lengthBits: number | undefined
  readonly certificateType: number | undefined
  readonly certificateOctets: number | undefined
}

const NO_FACTS: ObjectFacts = {
  formatType: undefined,
  algorithm: undefined,
  lengthBits: undefined,
  certificateType: undefined,
  certificateOctets: undefined,
}

/**
 * Reads an object that is to be registered; throws `KMIP_MESSAGE` on one that lacks what its type has, `KMIP_REFUSED`
 * on a symmetric key of another length than it says.
 *
 * Not checked: whether the octets of other keys and of certificates are what their format says, and anything of keys
 * that come wrapped.
 */
export function factsOf(objectType: number, object: Structure): ObjectFacts {
  if (objectType === OBJECT_TYPE.OpaqueObject) {
    valueAt(object, TAG.OpaqueDataType, 'Enumeration')
    valueAt(object, TAG.OpaqueDataValue, 'ByteString')
    return NO_FACTS
  }
  if (objectType === OBJECT_TYPE.Certificate) {
    return {
      ...NO_FACTS,
      certificateType: valueAt(object, TAG.CertificateType, 'Enumeration'),
      certificateOctets: valueAt(object, TAG.CertificateValue, 'ByteString').length,
    }
  }
  if (objectType === OBJECT_TYPE.SecretData) valueAt(object, TAG.SecretDataType, 'Enumeration')
  const block = requiredChild(object, TAG.KeyBlock)
  const facts = {
    ...NO_FACTS,
    formatType: valueAt(block, TAG.KeyFormatType, 'Enumeration'),
    algorithm: optionalValueAt(block, TAG.CryptographicAlgorithm, 'Enumeration'),
    lengthBits: optionalValueAt(block, TAG.CryptographicLength, 'Integer'),
  }
  if (isWrapped(object)) {
    requiredChild(block, TAG.KeyValue)
    return facts
  }
  const value = asStructure(requiredChild(block, TAG.KeyValue))
  requiredChild(value, TAG.KeyMaterial)
  if (objectType === OBJECT_TYPE.SymmetricKey) checkLength(rawKeyOf(object), facts)
  return facts
}

/** Octets of a new key. A key of Triple DES has parity bits that its length does not count. */
export function keyOctets(algorithm: number, lengthBits: number): number {
  const { AES, DES3 } = CRYPTOGRAPHIC_ALGORITHM
  if (algorithm === AES && [128, 192, 256].includes(lengthBits)) return lengthBits / 8
  if (algorithm === DES3 && (lengthBits === 112 || lengthBits === 168)) return lengthBits / 7
  throw new KmipRefusal(
    'UnsupportedCryptographicParameters',
    'this server makes keys of AES with 128, 192 or 256 bits and of Triple DES with 112 or 168',
  )
}

/** The TTLV of a symmetric key in the format Raw; the octets of the key are copied. */
export function symmetricKeyBody(key: Uint8Array, algorithm: number, lengthBits: number): Secret {
  const { SymmetricKey } = OBJECT_TYPE
  return new Secret(
    encodeTtlv(
      structure(objectTag(SymmetricKey), [
        structure(TAG.KeyBlock, [
          enumeration(TAG.KeyFormatType, KEY_FORMAT_TYPE.Raw),
          structure(TAG.KeyValue, [byteString(TAG.KeyMaterial, key)]),
          enumeration(TAG.CryptographicAlgorithm, algorithm),
          integer(TAG.CryptographicLength, lengthBits),
        ]),
      ]),
    ),
  )
}

/** Lends the octets of a symmetric key; throws `KMIP_REFUSED` when the object is another or is kept wrapped. */
export function useKey<T>(object: ManagedObject, borrow: (key: Uint8Array) => T): T {
  return useBody(object, (body) => {
    if (object.objectType !== OBJECT_TYPE.SymmetricKey || isWrapped(body)) {
      throw new KmipRefusal('InvalidObjectType', 'expected a symmetric key that is not wrapped')
    }
    return borrow(rawKeyOf(body))
  })
}

/** The octets of a symmetric key in the formats Raw and Transparent Symmetric Key; not a copy. */
export function rawKeyOf(object: Structure): Uint8Array {
  const block = requiredChild(object, TAG.KeyBlock)
  const material = requiredChild(requiredChild(block, TAG.KeyValue), TAG.KeyMaterial)
  const format = valueAt(block, TAG.KeyFormatType, 'Enumeration')
  if (format === KEY_FORMAT_TYPE.TransparentSymmetricKey) {
    return valueAt(material, TAG.Key, 'ByteString')
  }
  if (format === KEY_FORMAT_TYPE.Raw) return typedValue(material, 'ByteString')
  throw new KmipRefusal('KeyFormatTypeNotSupported', 'a symmetric key is Raw or transparent here')
}

export function isWrapped(object: Structure): boolean {
  const block = child(object, TAG.KeyBlock)
  return block !== undefined && child(block, TAG.KeyWrappingData) !== undefined
}

/**
 * SHA-256 over the octets of the object, or over the TTLV of a key that is a structure.
 *
 * @see KMIP 2.1 Specification, clause 4.18
 */
export function digestOf(object: Structure, facts: ObjectFacts): Ttlv {
  const block = child(object, TAG.KeyBlock)
  const content =
    block === undefined
      ? (child(object, TAG.OpaqueDataValue) ?? requiredChild(object, TAG.CertificateValue))
      : contentOf(requiredChild(block, TAG.KeyValue))
  const octets = content.type === 'ByteString' ? content.value : encodeTtlv(content)
  return structure(TAG.Digest, [
    enumeration(TAG.HashingAlgorithm, HASHING_ALGORITHM.SHA_256),
    byteString(TAG.DigestValue, new Uint8Array(createHash('sha256').update(octets).digest())),
    facts.formatType === undefined ? undefined : enumeration(TAG.KeyFormatType, facts.formatType),
  ])
}

/** A wrapped Key Value is octets. */
function contentOf(keyValue: Ttlv): Ttlv {
  return keyValue.type === 'Structure' ? requiredChild(keyValue, TAG.KeyMaterial) : keyValue
}

function checkLength(key: Uint8Array, { algorithm, lengthBits }: ObjectFacts): void {
  const bits = algorithm === CRYPTOGRAPHIC_ALGORITHM.DES3 ? key.length * 7 : key.length * 8
  if (key.length === 0 || (lengthBits !== undefined && lengthBits !== bits)) {
    throw new KmipRefusal('InvalidField', 'the key has another length than it says')
  }
}
