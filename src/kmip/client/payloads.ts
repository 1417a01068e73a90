import { Secret } from '../../core/secret.js'
import { ENCODING_OPTION, KEY_FORMAT_TYPE, WRAPPING_METHOD } from '../enumerations.js'
import { KmipError } from '../errors.js'
import { TAG } from '../tags.js'
import {
  boolean,
  byteString,
  child,
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
} from '../ttlv.js'

/** How to encrypt: what is not given is the default of the key or of the server. */
export interface CryptographicParameters {
  readonly blockCipherMode?: number
  readonly paddingMethod?: number
  readonly cryptographicAlgorithm?: number
  readonly randomIv?: boolean
  readonly ivLength?: number
  readonly tagLength?: number
}

/** Wrap the key under another key of the server; the key block is wrapped without an encoding of its own. */
export interface KeyWrapping {
  readonly wrappingKeyId: string
  readonly blockCipherMode: number
}

export interface KmipKey {
  readonly id: string
  readonly objectType: number
  readonly formatType: number
  readonly algorithm: number | undefined
  readonly lengthBits: number | undefined
  /** The key, or the key wrapped. To be disposed of. */
  readonly material: Secret
  /** How it is wrapped: the material alone, or the TTLV of a Key Value; nothing when it is not. */
  readonly wrapped: 'material' | 'key-value' | undefined
}

/** @see KMIP 2.1 Specification, clause 7.11 */
export function parametersToTtlv(parameters: CryptographicParameters): Structure {
  const { blockCipherMode, paddingMethod, cryptographicAlgorithm, randomIv, ivLength, tagLength } =
    parameters
  return structure(TAG.CryptographicParameters, [
    given(blockCipherMode, (mode) => enumeration(TAG.BlockCipherMode, mode)),
    given(paddingMethod, (method) => enumeration(TAG.PaddingMethod, method)),
    given(cryptographicAlgorithm, (one) => enumeration(TAG.CryptographicAlgorithm, one)),
    given(randomIv, (is) => boolean(TAG.RandomIV, is)),
    given(ivLength, (octets) => integer(TAG.IVLength, octets)),
    given(tagLength, (octets) => integer(TAG.TagLength, octets)),
  ])
}

/**
 * Without an encoding option a server wraps the TTLV of the Key Value, so 1.0, which has none, gets that.
 *
 * @see KMIP 2.1 Specification, clause 7.20
 */
export function wrappingToTtlv(wrapping: KeyWrapping, hasEncodingOption: boolean): Structure {
  return structure(TAG.KeyWrappingSpecification, [
    enumeration(TAG.WrappingMethod, WRAPPING_METHOD.Encrypt),
    structure(TAG.EncryptionKeyInformation, [
      textString(TAG.UniqueIdentifier, wrapping.wrappingKeyId),
      parametersToTtlv({ blockCipherMode: wrapping.blockCipherMode }),
    ]),
    hasEncodingOption ? enumeration(TAG.EncodingOption, ENCODING_OPTION.NoEncoding) : undefined,
  ])
}

/** A symmetric key as an object to register. The item holds the octets that are given, not a copy. */
export function symmetricKeyToTtlv(material: Uint8Array, algorithm: number): Structure {
  return structure(TAG.SymmetricKey, [
    structure(TAG.KeyBlock, [
      enumeration(TAG.KeyFormatType, KEY_FORMAT_TYPE.Raw),
      structure(TAG.KeyValue, [byteString(TAG.KeyMaterial, material)]),
      enumeration(TAG.CryptographicAlgorithm, algorithm),
      integer(TAG.CryptographicLength, material.length * 8),
    ]),
  ])
}

/** The key of a response to Get; throws `KMIP_MESSAGE` when there is none that is octets. */
export function keyFromTtlv(payload: Structure): KmipKey {
  const objectType = valueAt(payload, TAG.ObjectType, 'Enumeration')
  const object = child(payload, TAG.SymmetricKey) ?? child(payload, TAG.SecretData)
  if (object === undefined) {
    throw new KmipError('KMIP_MESSAGE', 'expected a symmetric key or secret data')
  }
  const block = requiredChild(object, TAG.KeyBlock)
  const isWrapped = child(block, TAG.KeyWrappingData) !== undefined
  const value = requiredChild(block, TAG.KeyValue)
  const encoded = value.type === 'ByteString'
  if (encoded && !isWrapped) {
    throw new KmipError('KMIP_MESSAGE', 'expected a key value, found octets that are not wrapped')
  }
  const octets = encoded ? value.value : materialOf(requiredChild(value, TAG.KeyMaterial))
  return {
    id: valueAt(payload, TAG.UniqueIdentifier, 'TextString'),
    objectType,
    formatType: valueAt(block, TAG.KeyFormatType, 'Enumeration'),
    algorithm: optionalValueAt(block, TAG.CryptographicAlgorithm, 'Enumeration'),
    lengthBits: optionalValueAt(block, TAG.CryptographicLength, 'Integer'),
    material: new Secret(Uint8Array.from(octets)),
    wrapped: isWrapped ? (encoded ? 'key-value' : 'material') : undefined,
  }
}

/** An item for a value that is there. */
export function given<T>(value: T | undefined, build: (value: T) => Ttlv): Ttlv | undefined {
  return value === undefined ? undefined : build(value)
}

/** Raw material, or the key of a Transparent Symmetric Key. */
function materialOf(material: Ttlv): Uint8Array {
  return material.type === 'Structure'
    ? valueAt(material, TAG.Key, 'ByteString')
    : typedValue(material, 'ByteString')
}
