import { CREDENTIAL_TYPE, RESULT_STATUS } from './enumerations.js'
import { KmipError } from './errors.js'
import { TAG, tagName } from './tags.js'
import {
  asStructure,
  boolean,
  byteString,
  child,
  children,
  dateTime,
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
} from './ttlv.js'
import { type ProtocolVersion, versionFromTtlv, versionToTtlv } from './version.js'

/**
 * A request. Batch Count is not here: it is the number of items.
 *
 * @see KMIP 2.1 Specification, clauses 8.2 and 8.3
 */
export interface KmipRequest {
  readonly version: ProtocolVersion
  readonly maximumResponseSize?: number | undefined
  readonly clientCorrelationValue?: string | undefined
  readonly serverCorrelationValue?: string | undefined
  /** A Boolean in 1.x, an enumeration in 2.x. */
  readonly asynchronousIndicator?: Ttlv | undefined
  readonly attestationCapable?: boolean | undefined
  readonly attestationTypes?: readonly number[] | undefined
  readonly credentials?: readonly Structure[] | undefined
  readonly batchErrorContinuation?: number | undefined
  readonly batchOrder?: boolean | undefined
  readonly timeStamp?: bigint | undefined
  readonly items: readonly KmipRequestItem[]
}

export interface KmipRequestItem {
  readonly operation: number
  readonly ephemeral?: boolean | undefined
  /** Must be there in each item of several, and be another in each. */
  readonly batchItemId?: Uint8Array | undefined
  readonly payload: Structure
  readonly extensions?: readonly Structure[] | undefined
}

/** @see KMIP 2.1 Specification, clauses 8.2 and 8.4 */
export interface KmipResponse {
  readonly version: ProtocolVersion
  readonly timeStamp: bigint
  readonly nonce?: Structure | undefined
  readonly serverHashedPassword?: Uint8Array | undefined
  readonly attestationTypes?: readonly number[] | undefined
  readonly clientCorrelationValue?: string | undefined
  readonly serverCorrelationValue?: string | undefined
  readonly items: readonly KmipResponseItem[]
}

export interface KmipResponseItem {
  /** Not there when the server could not read the request. */
  readonly operation?: number | undefined
  readonly batchItemId?: Uint8Array | undefined
  readonly status: number
  readonly reason?: number | undefined
  /** Of the server, and untrusted. */
  readonly message?: string | undefined
  readonly asynchronousCorrelationValue?: Uint8Array | undefined
  readonly payload?: Structure | undefined
  readonly extensions?: readonly Structure[] | undefined
}

export function requestToTtlv(request: KmipRequest): Structure {
  const header = structure(TAG.RequestHeader, [
    versionToTtlv(request.version),
    given(request.maximumResponseSize, (size) => integer(TAG.MaximumResponseSize, size)),
    given(request.clientCorrelationValue, (text) => textString(TAG.ClientCorrelationValue, text)),
    given(request.serverCorrelationValue, (text) => textString(TAG.ServerCorrelationValue, text)),
    request.asynchronousIndicator,
    given(request.attestationCapable, (is) => boolean(TAG.AttestationCapableIndicator, is)),
    ...attestationTypes(request.attestationTypes),
    given(request.credentials, (credentials) => structure(TAG.Authentication, credentials)),
    given(request.batchErrorContinuation, (option) =>
      enumeration(TAG.BatchErrorContinuationOption, option),
    ),
    given(request.batchOrder, (is) => boolean(TAG.BatchOrderOption, is)),
    given(request.timeStamp, (seconds) => dateTime(TAG.TimeStamp, seconds)),
    integer(TAG.BatchCount, request.items.length),
  ])
  const items = request.items.map((item) =>
    structure(TAG.BatchItem, [
      enumeration(TAG.Operation, item.operation),
      given(item.ephemeral, (is) => boolean(TAG.Ephemeral, is)),
      given(item.batchItemId, (id) => byteString(TAG.UniqueBatchItemID, id)),
      item.payload,
      ...(item.extensions ?? []),
    ]),
  )
  return structure(TAG.RequestMessage, [header, ...items])
}

/**
 * Throws `KMIP_MESSAGE` on anything else than a request: missing, repeated or unknown fields, another count of
 * items than the header says, several items without an id for each.
 */
export function requestFromTtlv(message: Ttlv): KmipRequest {
  checkTag(message, TAG.RequestMessage)
  const header = requiredChild(message, TAG.RequestHeader)
  checkFields(header, REQUEST_HEADER)
  const authentication = child(header, TAG.Authentication)
  const items = batchItems(message, header).map(requestItem)
  checkIds(items)
  return {
    version: versionFromTtlv(requiredChild(header, TAG.ProtocolVersion)),
    maximumResponseSize: optionalValueAt(header, TAG.MaximumResponseSize, 'Integer'),
    clientCorrelationValue: optionalValueAt(header, TAG.ClientCorrelationValue, 'TextString'),
    serverCorrelationValue: optionalValueAt(header, TAG.ServerCorrelationValue, 'TextString'),
    asynchronousIndicator: child(header, TAG.AsynchronousIndicator),
    attestationCapable: optionalValueAt(header, TAG.AttestationCapableIndicator, 'Boolean'),
    attestationTypes: attestationTypesOf(header),
    credentials: authentication && children(authentication, TAG.Credential).map(asStructure),
    batchErrorContinuation: optionalValueAt(
      header,
      TAG.BatchErrorContinuationOption,
      'Enumeration',
    ),
    batchOrder: optionalValueAt(header, TAG.BatchOrderOption, 'Boolean'),
    timeStamp: optionalValueAt(header, TAG.TimeStamp, 'DateTime'),
    items,
  }
}

export function responseToTtlv(response: KmipResponse): Structure {
  const header = structure(TAG.ResponseHeader, [
    versionToTtlv(response.version),
    dateTime(TAG.TimeStamp, response.timeStamp),
    response.nonce,
    given(response.serverHashedPassword, (hash) => byteString(TAG.ServerHashedPassword, hash)),
    ...attestationTypes(response.attestationTypes),
    given(response.clientCorrelationValue, (text) => textString(TAG.ClientCorrelationValue, text)),
    given(response.serverCorrelationValue, (text) => textString(TAG.ServerCorrelationValue, text)),
    integer(TAG.BatchCount, response.items.length),
  ])
  const items = response.items.map((item) =>
    structure(TAG.BatchItem, [
      given(item.operation, (operation) => enumeration(TAG.Operation, operation)),
      given(item.batchItemId, (id) => byteString(TAG.UniqueBatchItemID, id)),
      enumeration(TAG.ResultStatus, item.status),
      given(item.reason, (reason) => enumeration(TAG.ResultReason, reason)),
      given(item.message, (text) => textString(TAG.ResultMessage, text)),
      given(item.asynchronousCorrelationValue, (value) =>
        byteString(TAG.AsynchronousCorrelationValue, value),
      ),
      item.payload,
      ...(item.extensions ?? []),
    ]),
  )
  return structure(TAG.ResponseMessage, [header, ...items])
}

/** Throws `KMIP_MESSAGE` on anything else than a response, as `requestFromTtlv` does. */
export function responseFromTtlv(message: Ttlv): KmipResponse {
  checkTag(message, TAG.ResponseMessage)
  const header = requiredChild(message, TAG.ResponseHeader)
  checkFields(header, RESPONSE_HEADER)
  const nonce = child(header, TAG.Nonce)
  return {
    version: versionFromTtlv(requiredChild(header, TAG.ProtocolVersion)),
    timeStamp: valueAt(header, TAG.TimeStamp, 'DateTime'),
    nonce: nonce && asStructure(nonce),
    serverHashedPassword: optionalValueAt(header, TAG.ServerHashedPassword, 'ByteString'),
    attestationTypes: attestationTypesOf(header),
    clientCorrelationValue: optionalValueAt(header, TAG.ClientCorrelationValue, 'TextString'),
    serverCorrelationValue: optionalValueAt(header, TAG.ServerCorrelationValue, 'TextString'),
    items: batchItems(message, header).map(responseItem),
  }
}

/** A name and a password for the header of a request. @see KMIP 2.1 Specification, clause 9.2 */
export function passwordCredential(username: string, password: string | undefined): Structure {
  return structure(TAG.Credential, [
    enumeration(TAG.CredentialType, CREDENTIAL_TYPE.UsernameAndPassword),
    structure(TAG.CredentialValue, [
      textString(TAG.Username, username),
      given(password, (text) => textString(TAG.Password, text)),
    ]),
  ])
}

const REQUEST_HEADER: readonly number[] = [
  TAG.ProtocolVersion,
  TAG.MaximumResponseSize,
  TAG.ClientCorrelationValue,
  TAG.ServerCorrelationValue,
  TAG.AsynchronousIndicator,
  TAG.AttestationCapableIndicator,
  TAG.AttestationType,
  TAG.Authentication,
  TAG.BatchErrorContinuationOption,
  TAG.BatchOrderOption,
  TAG.TimeStamp,
  TAG.BatchCount,
]

const RESPONSE_HEADER: readonly number[] = [
  TAG.ProtocolVersion,
  TAG.TimeStamp,
  TAG.Nonce,
  TAG.ServerHashedPassword,
  TAG.AttestationType,
  TAG.ClientCorrelationValue,
  TAG.ServerCorrelationValue,
  TAG.BatchCount,
]

const REQUEST_ITEM: readonly number[] = [
  TAG.Operation,
  TAG.Ephemeral,
  TAG.UniqueBatchItemID,
  TAG.RequestPayload,
  TAG.MessageExtension,
]

const RESPONSE_ITEM: readonly number[] = [
  TAG.Operation,
  TAG.UniqueBatchItemID,
  TAG.ResultStatus,
  TAG.ResultReason,
  TAG.ResultMessage,
  TAG.AsynchronousCorrelationValue,
  TAG.ResponsePayload,
  TAG.MessageExtension,
]

function requestItem(item: Ttlv): KmipRequestItem {
  checkFields(item, REQUEST_ITEM)
  return {
    operation: valueAt(item, TAG.Operation, 'Enumeration'),
    ephemeral: optionalValueAt(item, TAG.Ephemeral, 'Boolean'),
    batchItemId: optionalValueAt(item, TAG.UniqueBatchItemID, 'ByteString'),
    payload: asStructure(requiredChild(item, TAG.RequestPayload)),
    extensions: extensionsOf(item),
  }
}

function responseItem(item: Ttlv): KmipResponseItem {
  checkFields(item, RESPONSE_ITEM)
  const payload = child(item, TAG.ResponsePayload)
  const status = valueAt(item, TAG.ResultStatus, 'Enumeration')
  if (status > RESULT_STATUS.OperationUndone) {
    throw new KmipError('KMIP_MESSAGE', 'expected a status of the standard', {
      path: 'BatchItem/ResultStatus',
    })
  }
  return {
    operation: optionalValueAt(item, TAG.Operation, 'Enumeration'),
    batchItemId: optionalValueAt(item, TAG.UniqueBatchItemID, 'ByteString'),
    status,
    reason: optionalValueAt(item, TAG.ResultReason, 'Enumeration'),
    message: optionalValueAt(item, TAG.ResultMessage, 'TextString'),
    asynchronousCorrelationValue: optionalValueAt(
      item,
      TAG.AsynchronousCorrelationValue,
      'ByteString',
    ),
    payload: payload && asStructure(payload),
    extensions: extensionsOf(item),
  }
}

function batchItems(message: Ttlv, header: Ttlv): readonly Ttlv[] {
  const items = children(message, TAG.BatchItem)
  const [first, ...rest] = asStructure(message).value
  if (first !== header || rest.length !== items.length) {
    throw new KmipError('KMIP_MESSAGE', 'expected a header and batch items alone')
  }
  const count = valueAt(header, TAG.BatchCount, 'Integer')
  if (count !== items.length || count === 0) {
    throw new KmipError('KMIP_MESSAGE', `expected ${count} batch items, found ${items.length}`)
  }
  return items
}

function checkIds(items: readonly KmipRequestItem[]): void {
  if (items.length === 1) return
  const ids = new Set<string>()
  for (const { batchItemId } of items) {
    if (batchItemId !== undefined) ids.add(Buffer.from(batchItemId).toString('hex'))
  }
  if (ids.size !== items.length) {
    throw new KmipError('KMIP_MESSAGE', 'expected an id of its own for each batch item')
  }
}

function checkTag(message: Ttlv, tag: number): void {
  if (message.tag !== tag) {
    throw new KmipError('KMIP_MESSAGE', `expected ${tagName(tag)}, found ${tagName(message.tag)}`)
  }
}

function checkFields(item: Ttlv, known: readonly number[]): void {
  const unknown = asStructure(item).value.find(({ tag }) => !known.includes(tag))
  if (unknown !== undefined) {
    throw new KmipError('KMIP_MESSAGE', 'found a field that has no place here', {
      path: `${tagName(item.tag)}/${tagName(unknown.tag)}`,
    })
  }
}

function extensionsOf(item: Ttlv): readonly Structure[] | undefined {
  const found = children(item, TAG.MessageExtension)
  return found.length === 0 ? undefined : found.map(asStructure)
}

function attestationTypes(types: readonly number[] | undefined): readonly Ttlv[] {
  return (types ?? []).map((type) => enumeration(TAG.AttestationType, type))
}

function attestationTypesOf(header: Ttlv): readonly number[] | undefined {
  const found = children(header, TAG.AttestationType)
  if (found.length === 0) return undefined
  return found.map((item) => typedValue(item, 'Enumeration'))
}

function given<T>(value: T | undefined, build: (value: T) => Ttlv): Ttlv | undefined {
  return value === undefined ? undefined : build(value)
}
