import {
  attributeFromTtlv,
  attributeNameText,
  attributeReferenceFromTtlv,
  attributeReferenceToTtlv,
  attributesFromTtlv,
  attributesToTtlv,
  attributeToTtlv,
  type KmipAttribute,
  type KmipAttributeName,
} from '../attributes.js'
import { OBJECT_TYPE, OPERATION } from '../enumerations.js'
import { KmipError } from '../errors.js'
import { TAG } from '../tags.js'
import {
  byteString,
  children,
  dateTime,
  enumeration,
  integer,
  interval,
  optionalValueAt,
  requiredChild,
  type Structure,
  structure,
  type Ttlv,
  textString,
  typedValue,
  valueAt,
} from '../ttlv.js'
import { compareVersions, type ProtocolVersion } from '../version.js'
import {
  type CryptographicParameters,
  given,
  type KeyWrapping,
  type KmipKey,
  keyFromTtlv,
  parametersToTtlv,
  symmetricKeyToTtlv,
  wrappingToTtlv,
} from './payloads.js'
import type { Call } from './server.js'

export interface ServerDescription {
  readonly operations: readonly number[]
  readonly objectTypes: readonly number[]
  readonly vendor: string | undefined
}

export interface Encrypted {
  readonly data: Uint8Array
  readonly iv: Uint8Array | undefined
  readonly tag: Uint8Array | undefined
}

export interface EncryptRequest {
  readonly id: string
  readonly parameters?: CryptographicParameters
  readonly data: Uint8Array
  readonly iv?: Uint8Array
  /** 1.4 and later. */
  readonly additionalData?: Uint8Array
}

export interface DecryptRequest extends EncryptRequest {
  /** 1.4 and later. */
  readonly tag?: Uint8Array
}

export interface LocateRequest {
  readonly attributes: readonly KmipAttribute[]
  readonly maximumItems?: number
  /** 1.3 and later. */
  readonly offsetItems?: number
}

const V1_1: ProtocolVersion = { major: 1, minor: 1 }
const V1_2: ProtocolVersion = { major: 1, minor: 2 }
const V1_3: ProtocolVersion = { major: 1, minor: 3 }
const V1_4: ProtocolVersion = { major: 1, minor: 4 }
const V2_0: ProtocolVersion = { major: 2, minor: 0 }
const V2_1: ProtocolVersion = { major: 2, minor: 1 }

export function queryCall(functions: readonly number[]): Call<ServerDescription> {
  return {
    operation: OPERATION.Query,
    idempotent: true,
    payload: () => functions.map((one) => enumeration(TAG.QueryFunction, one)),
    read: (payload) => ({
      operations: numbersAt(payload, TAG.Operation),
      objectTypes: numbersAt(payload, TAG.ObjectType),
      vendor: optionalValueAt(payload, TAG.VendorIdentification, 'TextString'),
    }),
  }
}

export function pingCall(): Call<void> {
  return {
    operation: OPERATION.Ping,
    idempotent: true,
    payload: (version) => {
      need(version, V2_1, 'Ping')
      return []
    },
    read: () => undefined,
  }
}

export function createCall(attributes: readonly KmipAttribute[]): Call<string> {
  return {
    operation: OPERATION.Create,
    idempotent: false,
    payload: (version) => [
      enumeration(TAG.ObjectType, OBJECT_TYPE.SymmetricKey),
      attributesToTtlv(attributes, version),
    ],
    read: idOf,
  }
}

export function registerCall(
  material: Uint8Array,
  algorithm: number,
  attributes: readonly KmipAttribute[],
): Call<string> {
  return {
    operation: OPERATION.Register,
    idempotent: false,
    payload: (version) => [
      enumeration(TAG.ObjectType, OBJECT_TYPE.SymmetricKey),
      attributesToTtlv(attributes, version),
      symmetricKeyToTtlv(material, algorithm),
    ],
    read: idOf,
  }
}

export function reKeyCall(id: string, offsetSeconds: number | undefined): Call<string> {
  return {
    operation: OPERATION.ReKey,
    idempotent: false,
    payload: () => [uid(id), given(offsetSeconds, (seconds) => interval(TAG.Offset, seconds))],
    read: idOf,
  }
}

export function getCall(id: string, wrapping: KeyWrapping | undefined): Call<KmipKey> {
  return {
    operation: OPERATION.Get,
    idempotent: true,
    payload: (version) => [
      uid(id),
      given(wrapping, (one) => wrappingToTtlv(one, compareVersions(version, V1_1) >= 0)),
    ],
    read: (payload) => {
      const key = keyFromTtlv(payload)
      if (key.id === id) return key
      key.material.dispose()
      throw new KmipError('KMIP_MESSAGE', 'expected the key that was asked for, found another')
    },
  }
}

export function locateCall(request: LocateRequest): Call<readonly string[]> {
  return {
    operation: OPERATION.Locate,
    idempotent: true,
    payload: (version) => {
      if (request.offsetItems !== undefined) need(version, V1_3, 'Offset Items')
      const attributes =
        version.major < 2
          ? request.attributes.map((one) => attributeToTtlv(one, version))
          : [attributesToTtlv(request.attributes, version)]
      return [
        given(request.maximumItems, (count) => integer(TAG.MaximumItems, count)),
        given(request.offsetItems, (count) => integer(TAG.OffsetItems, count)),
        ...attributes,
      ]
    },
    read: (payload) =>
      children(payload, TAG.UniqueIdentifier).map((item) => typedValue(item, 'TextString')),
  }
}

export function getAttributesCall(
  id: string,
  names: readonly KmipAttributeName[],
): Call<readonly KmipAttribute[]> {
  return {
    operation: OPERATION.GetAttributes,
    idempotent: true,
    payload: (version) => [uid(id), ...names.map((one) => attributeReferenceToTtlv(one, version))],
    read: (payload, version) => {
      if (version.major >= 2) {
        return attributesFromTtlv(requiredChild(payload, TAG.Attributes), version)
      }
      return children(payload, TAG.Attribute).map((one) => attributeFromTtlv(one, version))
    },
  }
}

export function getAttributeListCall(id: string): Call<readonly KmipAttributeName[]> {
  return {
    operation: OPERATION.GetAttributeList,
    idempotent: true,
    payload: () => [uid(id)],
    read: (payload, version) =>
      children(payload, version.major < 2 ? TAG.AttributeName : TAG.AttributeReference).map(
        attributeReferenceFromTtlv,
      ),
  }
}

export function addAttributeCall(id: string, attribute: KmipAttribute): Call<void> {
  return attributeCall(OPERATION.AddAttribute, id, attribute)
}

export function modifyAttributeCall(id: string, attribute: KmipAttribute): Call<void> {
  return attributeCall(OPERATION.ModifyAttribute, id, attribute)
}

export function setAttributeCall(id: string, attribute: KmipAttribute): Call<void> {
  const call = attributeCall(OPERATION.SetAttribute, id, attribute)
  return {
    ...call,
    // The same value twice is the same value.
    idempotent: true,
    payload: (version) => {
      need(version, V2_0, 'Set Attribute')
      return call.payload(version)
    },
  }
}

export function deleteAttributeCall(id: string, name: KmipAttributeName): Call<void> {
  return {
    operation: OPERATION.DeleteAttribute,
    idempotent: false,
    payload: (version) => [
      uid(id),
      version.major < 2
        ? textString(TAG.AttributeName, attributeNameText(name))
        : attributeReferenceToTtlv(name, version),
    ],
    read: () => undefined,
  }
}

export function activateCall(id: string): Call<void> {
  return {
    operation: OPERATION.Activate,
    idempotent: false,
    payload: () => [uid(id)],
    read: () => undefined,
  }
}

export interface Revocation {
  /** Revocation Reason Code. */
  readonly reason: number
  readonly message?: string
  /** Seconds; needed when the key is compromised. */
  readonly compromisedAt?: bigint
}

export function revokeCall(id: string, revocation: Revocation): Call<void> {
  return {
    operation: OPERATION.Revoke,
    idempotent: false,
    payload: () => [
      uid(id),
      structure(TAG.RevocationReason, [
        enumeration(TAG.RevocationReasonCode, revocation.reason),
        given(revocation.message, (text) => textString(TAG.RevocationMessage, text)),
      ]),
      given(revocation.compromisedAt, (time) => dateTime(TAG.CompromiseOccurrenceDate, time)),
    ],
    read: () => undefined,
  }
}

export function destroyCall(id: string): Call<void> {
  return {
    operation: OPERATION.Destroy,
    idempotent: false,
    payload: () => [uid(id)],
    read: () => undefined,
  }
}

export function encryptCall(request: EncryptRequest): Call<Encrypted> {
  return {
    operation: OPERATION.Encrypt,
    idempotent: true,
    payload: (version) => cipherPayload(request, version),
    read: (payload) => ({
      data: Uint8Array.from(valueAt(payload, TAG.Data, 'ByteString')),
      iv: copyAt(payload, TAG.IVCounterNonce),
      tag: copyAt(payload, TAG.AuthenticatedEncryptionTag),
    }),
  }
}

export function decryptCall(request: DecryptRequest): Call<Uint8Array> {
  return {
    operation: OPERATION.Decrypt,
    idempotent: true,
    payload: (version) => [
      ...cipherPayload(request, version),
      given(request.tag, (octets) => byteString(TAG.AuthenticatedEncryptionTag, octets)),
    ],
    read: (payload) => Uint8Array.from(valueAt(payload, TAG.Data, 'ByteString')),
  }
}

function cipherPayload(
  request: EncryptRequest,
  version: ProtocolVersion,
): readonly (Ttlv | undefined)[] {
  need(version, V1_2, 'Encrypt and Decrypt')
  if (request.additionalData !== undefined) need(version, V1_4, 'authenticated encryption')
  return [
    uid(request.id),
    given(request.parameters, parametersToTtlv),
    byteString(TAG.Data, request.data),
    given(request.iv, (octets) => byteString(TAG.IVCounterNonce, octets)),
    given(request.additionalData, (octets) =>
      byteString(TAG.AuthenticatedEncryptionAdditionalData, octets),
    ),
  ]
}

function attributeCall(operation: number, id: string, attribute: KmipAttribute): Call<void> {
  return {
    operation,
    idempotent: false,
    payload: (version) => [
      uid(id),
      version.major < 2
        ? attributeToTtlv(attribute, version)
        : structure(TAG.NewAttribute, [attributeToTtlv(attribute, version)]),
    ],
    read: () => undefined,
  }
}

function need(version: ProtocolVersion, least: ProtocolVersion, what: string): void {
  if (compareVersions(version, least) < 0) {
    throw new KmipError(
      'KMIP_VERSION',
      `${what} needs KMIP ${least.major}.${least.minor}, the server has ${version.major}.${version.minor}`,
    )
  }
}

function uid(id: string): Ttlv {
  return textString(TAG.UniqueIdentifier, id)
}

function idOf(payload: Structure): string {
  return valueAt(payload, TAG.UniqueIdentifier, 'TextString')
}

function numbersAt(payload: Structure, tag: number): readonly number[] {
  return children(payload, tag).map((item) => typedValue(item, 'Enumeration'))
}

function copyAt(payload: Structure, tag: number): Uint8Array | undefined {
  const octets = optionalValueAt(payload, tag, 'ByteString')
  return octets && Uint8Array.from(octets)
}
