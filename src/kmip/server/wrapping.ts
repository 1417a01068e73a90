import { createCipheriv } from 'node:crypto'
import {
  attributeReferenceFromTtlv,
  attributeToTtlv,
  isNamed,
  type KmipAttributeName,
} from '../attributes.js'
import { encodeTtlv } from '../encode.js'
import {
  BLOCK_CIPHER_MODE,
  CRYPTOGRAPHIC_USAGE_MASK,
  ENCODING_OPTION,
  WRAPPING_METHOD,
} from '../enumerations.js'
import { TAG } from '../tags.js'
import {
  asStructure,
  byteString,
  child,
  children,
  optionalValueAt,
  requiredChild,
  type Structure,
  structure,
  type Ttlv,
  valueAt,
} from '../ttlv.js'
import type { ProtocolVersion } from '../version.js'
import { checkFields } from './call.js'
import { isWrapped, rawKeyOf, useKey } from './key-block.js'
import type { ManagedObject } from './object.js'
import { stateOf, usageMaskOf } from './object.js'
import { KmipRefusal } from './refusal.js'

/** What a Key Wrapping Specification asks for: AES key wrap of RFC 3394, and nothing else. */
export interface WrappingRequest {
  readonly wrappingKeyId: string
  readonly information: Structure
  readonly encoding: number | undefined
  readonly attributeNames: readonly KmipAttributeName[]
}

const DEFAULT_IV = Buffer.from('a6a6a6a6a6a6a6a6', 'hex')

/** Throws `KMIP_REFUSED` on what this server does not wrap with. @see KMIP 2.1 Specification, clause 7.20 */
export function wrappingRequestOf(specification: Ttlv): WrappingRequest {
  checkFields(specification, [
    ...[TAG.WrappingMethod, TAG.EncryptionKeyInformation, TAG.EncodingOption],
    ...[TAG.AttributeName, TAG.AttributeReference],
  ])
  if (valueAt(specification, TAG.WrappingMethod, 'Enumeration') !== WRAPPING_METHOD.Encrypt) {
    throw new KmipRefusal('FeatureNotSupported', 'this server wraps keys by encryption alone')
  }
  const information = asStructure(requiredChild(specification, TAG.EncryptionKeyInformation))
  const parameters = child(information, TAG.CryptographicParameters)
  const mode = parameters && optionalValueAt(parameters, TAG.BlockCipherMode, 'Enumeration')
  if (mode !== undefined && mode !== BLOCK_CIPHER_MODE.NISTKeyWrap) {
    throw new KmipRefusal('FeatureNotSupported', 'this server wraps keys by NIST key wrap alone')
  }
  const names = asStructure(specification).value.filter(
    ({ tag }) => tag === TAG.AttributeName || tag === TAG.AttributeReference,
  )
  const encoding = optionalValueAt(specification, TAG.EncodingOption, 'Enumeration')
  if (encoding === ENCODING_OPTION.NoEncoding && names.length > 0) {
    throw new KmipRefusal('EncodingOptionError', 'attributes need the encoding TTLV')
  }
  return {
    wrappingKeyId: valueAt(information, TAG.UniqueIdentifier, 'TextString'),
    information,
    encoding,
    attributeNames: names.map(attributeReferenceFromTtlv),
  }
}

/** A key block whose Key Value is wrapped under a key. The wrapping key must be active and for wrapping. */
export function wrappedObject(
  object: ManagedObject,
  body: Structure,
  request: WrappingRequest,
  wrappingKey: ManagedObject,
  { now, version }: { readonly now: bigint; readonly version: ProtocolVersion },
): Structure {
  if (stateOf(wrappingKey, now) !== 'Active') {
    throw new KmipRefusal('WrongKeyLifecycleState', 'the wrapping key is not active')
  }
  if ((usageMaskOf(wrappingKey) & CRYPTOGRAPHIC_USAGE_MASK.WrapKey) === 0) {
    throw new KmipRefusal('IncompatibleCryptographicUsageMask', 'the key is not for wrapping')
  }
  const block = child(body, TAG.KeyBlock)
  if (block === undefined || isWrapped(body)) {
    throw new KmipRefusal('IllegalObjectType', 'this object cannot be wrapped')
  }
  const content = contentToWrap(object, body, block, request, version)
  try {
    const keyValue = useKey(wrappingKey, (key) => wrap(key, content))
    const wrapped = asStructure(block).value.map((item) =>
      item.tag === TAG.KeyValue ? byteString(TAG.KeyValue, keyValue) : item,
    )
    const data = structure(TAG.KeyWrappingData, [
      { tag: TAG.WrappingMethod, type: 'Enumeration', value: WRAPPING_METHOD.Encrypt },
      request.information,
      request.encoding === undefined
        ? undefined
        : { tag: TAG.EncodingOption, type: 'Enumeration', value: request.encoding },
    ])
    const others = body.value.filter((item) => item !== block)
    return structure(body.tag, [...others, structure(TAG.KeyBlock, [...wrapped, data])])
  } finally {
    content.fill(0)
  }
}

/** Without an option the TTLV of the Key Value is what is wrapped. */
function contentToWrap(
  object: ManagedObject,
  body: Structure,
  block: Ttlv,
  request: WrappingRequest,
  version: ProtocolVersion,
): Uint8Array {
  if (request.encoding === ENCODING_OPTION.NoEncoding) return Uint8Array.from(rawKeyOf(body))
  const attributes = object.attributes
    .filter((one) => request.attributeNames.some((name) => isNamed(one, name)))
    .map((one) => attributeToTtlv({ ...one, index: undefined }, version))
  const material = children(requiredChild(block, TAG.KeyValue), TAG.KeyMaterial)
  const more =
    version.major < 2 || attributes.length === 0
      ? attributes
      : [structure(TAG.Attributes, attributes)]
  return encodeTtlv(structure(TAG.KeyValue, [...material, ...more]))
}

/** @see RFC 3394, section 2.2.1 */
function wrap(key: Uint8Array, content: Uint8Array): Uint8Array {
  if (![16, 24, 32].includes(key.length) || content.length < 16 || content.length % 8 !== 0) {
    throw new KmipRefusal('CryptographicFailure', 'key wrap needs a key of AES and whole blocks')
  }
  const cipher = createCipheriv(`id-aes${key.length * 8}-wrap`, key, DEFAULT_IV)
  return new Uint8Array(Buffer.concat([cipher.update(content), cipher.final()]))
}
