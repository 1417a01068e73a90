import { isPlatformError } from '../../core/errors.js'
import { BATCH_ERROR_CONTINUATION_OPTION, RESULT_REASON, RESULT_STATUS } from '../enumerations.js'
import type { KmipRequest, KmipRequestItem, KmipResponseItem } from '../message.js'
import { TAG } from '../tags.js'
import { optionalValueAt, structure } from '../ttlv.js'
import { compareVersions, type ProtocolVersion } from '../version.js'
import { type Answer, type Call, checkFields, type Operation, type ServerFacts } from './call.js'
import { KmipRefusal } from './refusal.js'
import type { ObjectStore } from './store.js'

export interface BatchContext {
  readonly client: string
  readonly now: bigint
  readonly store: ObjectStore
  readonly server: ServerFacts
  /** Told of errors that no request should be able to cause: mistakes of this server. */
  readonly fault: (error: unknown) => void
}

export interface BatchResult {
  readonly items: readonly KmipResponseItem[]
  /** See `Answer`. */
  readonly wipe: readonly Uint8Array[]
}

/**
 * Does the items of a request in their order. An item that fails changes nothing; after it the others are done, left
 * out or undone, as the request says. Nothing is committed here.
 *
 * @see KMIP 2.1 Specification, clauses 9.3 and 10.2
 */
export function runBatch(request: KmipRequest, context: BatchContext): BatchResult {
  const { Continue, Stop, Undo } = BATCH_ERROR_CONTINUATION_OPTION
  const option = request.batchErrorContinuation ?? Stop
  const begin = context.store.mark()
  const items: KmipResponseItem[] = []
  const wipe: Uint8Array[] = []
  let placeholder: string | undefined
  for (const item of request.items) {
    const mark = context.store.mark()
    try {
      const answer = runItem(item, request.version, placeholder, context)
      wipe.push(...(answer.wipe ?? []))
      if (answer.placeholder !== undefined) placeholder = answer.placeholder.id
      items.push(succeeded(item, answer))
    } catch (error) {
      context.store.undo(mark)
      items.push(failedItem(item, error, request.version, context.fault))
      if (option === Undo) {
        context.store.undo(begin)
        return { items: items.map(undone), wipe }
      }
      if (option !== Continue) return { items, wipe }
    }
  }
  return { items, wipe }
}

/** The answer to an item that was refused, or could not be done. */
export function failedItem(
  item: Pick<KmipRequestItem, 'operation' | 'batchItemId'> | undefined,
  error: unknown,
  version: ProtocolVersion,
  fault: (error: unknown) => void,
): KmipResponseItem {
  return {
    operation: item?.operation,
    batchItemId: item?.batchItemId,
    status: RESULT_STATUS.OperationFailed,
    ...reasonOf(error, version, fault),
  }
}

function reasonOf(
  error: unknown,
  version: ProtocolVersion,
  fault: (error: unknown) => void,
): { readonly reason: number; readonly message: string } {
  if (error instanceof KmipRefusal) {
    return { reason: error.reasonIn(version), message: error.message }
  }
  if (isPlatformError(error, 'KMIP_MESSAGE') || isPlatformError(error, 'KMIP_VERSION')) {
    return { reason: RESULT_REASON.InvalidMessage, message: error.message }
  }
  fault(error)
  return { reason: RESULT_REASON.GeneralFailure, message: 'the server made a mistake' }
}

function runItem(
  item: KmipRequestItem,
  version: ProtocolVersion,
  placeholder: string | undefined,
  context: BatchContext,
): Answer {
  const operation = context.server.operations.find((one) => one.operation === item.operation)
  if (operation === undefined || compareVersions(operation.since, version) > 0) {
    throw new KmipRefusal('OperationNotSupported', 'this server does not have the operation')
  }
  if (item.ephemeral === true) {
    throw new KmipRefusal('FeatureNotSupported', 'this server keeps what it makes')
  }
  for (const extension of item.extensions ?? []) {
    if (optionalValueAt(extension, TAG.CriticalityIndicator, 'Boolean') === true) {
      throw new KmipRefusal('FeatureNotSupported', 'this server knows no message extensions')
    }
  }
  checkFields(item.payload, fieldsOf(operation, version))
  const { client, now, store, server } = context
  const call: Call = { payload: item.payload, version, client, now, store, server, placeholder }
  return operation.run(call)
}

function fieldsOf(operation: Operation, version: ProtocolVersion): readonly number[] {
  const more = version.major < 2 ? operation.fieldsOf1 : operation.fieldsOf2
  return [...operation.fields, ...(more ?? [])]
}

function succeeded(item: KmipRequestItem, answer: Answer): KmipResponseItem {
  return {
    operation: item.operation,
    batchItemId: item.batchItemId,
    status: RESULT_STATUS.Success,
    payload: structure(TAG.ResponsePayload, answer.items),
  }
}

/** What was done before the item that failed; that one keeps its reason. */
function undone(item: KmipResponseItem): KmipResponseItem {
  if (item.status !== RESULT_STATUS.Success) return item
  const { operation, batchItemId } = item
  return { operation, batchItemId, status: RESULT_STATUS.OperationUndone }
}
