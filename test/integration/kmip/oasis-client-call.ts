import {
  attributeFromTtlv,
  attributeReferenceFromTtlv,
  attributesFromTtlv,
} from '../../../src/kmip/attributes.js'
import * as calls from '../../../src/kmip/client/calls.js'
import type { CryptographicParameters } from '../../../src/kmip/client/payloads.js'
import { type Call, DISCOVER_VERSIONS } from '../../../src/kmip/client/server.js'
import { OPERATION } from '../../../src/kmip/enumerations.js'
import { TAG } from '../../../src/kmip/tags.js'
import {
  asStructure,
  child,
  children,
  optionalValueAt,
  requiredChild,
  type Ttlv,
  typedValue,
  valueAt,
} from '../../../src/kmip/ttlv.js'
import type { ProtocolVersion } from '../../../src/kmip/version.js'

/** The call of our client that says what a request item of a case says; nothing when the client has none. */
export function clientCall(item: Ttlv, version: ProtocolVersion): Call<unknown> | undefined {
  const payload = requiredChild(item, TAG.RequestPayload)
  const operation = valueAt(item, TAG.Operation, 'Enumeration')
  const id = optionalValueAt(payload, TAG.UniqueIdentifier, 'TextString') ?? ''
  switch (operation) {
    case OPERATION.DiscoverVersions:
      return DISCOVER_VERSIONS
    case OPERATION.Ping:
      return calls.pingCall()
    case OPERATION.Query:
      return calls.queryCall(
        children(payload, TAG.QueryFunction).map((one) => typedValue(one, 'Enumeration')),
      )
    case OPERATION.Create:
      return calls.createCall(attributesOf(payload, version))
    case OPERATION.Register:
      return registerCall(payload, version)
    case OPERATION.Get:
      return calls.getCall(id, undefined)
    case OPERATION.ReKey:
      return calls.reKeyCall(id, optionalValueAt(payload, TAG.Offset, 'Interval'))
    case OPERATION.GetAttributes:
      return calls.getAttributesCall(
        id,
        [...children(payload, TAG.AttributeName), ...children(payload, TAG.AttributeReference)].map(
          attributeReferenceFromTtlv,
        ),
      )
    case OPERATION.GetAttributeList:
      return calls.getAttributeListCall(id)
    case OPERATION.Locate:
      return locateCall(payload, version)
    case OPERATION.AddAttribute:
      return calls.addAttributeCall(id, attributeOf(payload, version))
    case OPERATION.ModifyAttribute:
      return calls.modifyAttributeCall(id, attributeOf(payload, version))
    case OPERATION.SetAttribute:
      return calls.setAttributeCall(id, attributeOf(payload, version))
    case OPERATION.DeleteAttribute: {
      const name = child(payload, TAG.AttributeName) ?? child(payload, TAG.AttributeReference)
      return name && calls.deleteAttributeCall(id, attributeReferenceFromTtlv(name))
    }
    case OPERATION.Activate:
      return calls.activateCall(id)
    case OPERATION.Revoke:
      return revokeCall(id, payload)
    case OPERATION.Destroy:
      return calls.destroyCall(id)
    case OPERATION.Encrypt:
      return calls.encryptCall(cipherRequest(id, payload))
    case OPERATION.Decrypt: {
      const tag = optionalValueAt(payload, TAG.AuthenticatedEncryptionTag, 'ByteString')
      return calls.decryptCall({ ...cipherRequest(id, payload), ...(tag && { tag }) })
    }
    default:
      return undefined
  }
}

function registerCall(payload: Ttlv, version: ProtocolVersion): Call<string> | undefined {
  const key = child(payload, TAG.SymmetricKey)
  const block = key && requiredChild(key, TAG.KeyBlock)
  const value = block && child(block, TAG.KeyValue)
  const material = value && child(value, TAG.KeyMaterial)
  const algorithm = block && optionalValueAt(block, TAG.CryptographicAlgorithm, 'Enumeration')
  if (material?.type !== 'ByteString' || algorithm === undefined) return undefined
  return calls.registerCall(material.value, algorithm, attributesOf(payload, version))
}

function locateCall(payload: Ttlv, version: ProtocolVersion): Call<readonly string[]> {
  const maximumItems = optionalValueAt(payload, TAG.MaximumItems, 'Integer')
  const attributes =
    version.major < 2
      ? children(payload, TAG.Attribute).map((one) => attributeFromTtlv(one, version))
      : attributesOf(payload, version)
  return calls.locateCall({ attributes, ...(maximumItems !== undefined && { maximumItems }) })
}

function revokeCall(id: string, payload: Ttlv): Call<void> {
  const revocation = requiredChild(payload, TAG.RevocationReason)
  const message = optionalValueAt(revocation, TAG.RevocationMessage, 'TextString')
  const compromisedAt = optionalValueAt(payload, TAG.CompromiseOccurrenceDate, 'DateTime')
  return calls.revokeCall(id, {
    reason: valueAt(revocation, TAG.RevocationReasonCode, 'Enumeration'),
    ...(message !== undefined && { message }),
    ...(compromisedAt !== undefined && { compromisedAt }),
  })
}

function cipherRequest(id: string, payload: Ttlv): calls.EncryptRequest {
  const given = child(payload, TAG.CryptographicParameters)
  const iv = optionalValueAt(payload, TAG.IVCounterNonce, 'ByteString')
  const additionalData = optionalValueAt(
    payload,
    TAG.AuthenticatedEncryptionAdditionalData,
    'ByteString',
  )
  return {
    id,
    data: valueAt(payload, TAG.Data, 'ByteString'),
    ...(given && { parameters: parametersOf(given) }),
    ...(iv && { iv }),
    ...(additionalData && { additionalData }),
  }
}

function parametersOf(item: Ttlv): CryptographicParameters {
  const blockCipherMode = optionalValueAt(item, TAG.BlockCipherMode, 'Enumeration')
  const paddingMethod = optionalValueAt(item, TAG.PaddingMethod, 'Enumeration')
  const randomIv = optionalValueAt(item, TAG.RandomIV, 'Boolean')
  const tagLength = optionalValueAt(item, TAG.TagLength, 'Integer')
  return {
    ...(blockCipherMode !== undefined && { blockCipherMode }),
    ...(paddingMethod !== undefined && { paddingMethod }),
    ...(randomIv !== undefined && { randomIv }),
    ...(tagLength !== undefined && { tagLength }),
  }
}

function attributesOf(payload: Ttlv, version: ProtocolVersion) {
  const container = child(payload, version.major < 2 ? TAG.TemplateAttribute : TAG.Attributes)
  return container === undefined ? [] : attributesFromTtlv(container, version)
}

function attributeOf(payload: Ttlv, version: ProtocolVersion) {
  if (version.major < 2) return attributeFromTtlv(requiredChild(payload, TAG.Attribute), version)
  const [item] = asStructure(requiredChild(payload, TAG.NewAttribute)).value
  if (item === undefined) throw new Error('expected an attribute in the case')
  return attributeFromTtlv(item, version)
}
