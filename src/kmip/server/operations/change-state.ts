import { OPERATION, REVOCATION_REASON_CODE } from '../../enumerations.js'
import { TAG } from '../../tags.js'
import {
  child,
  dateTime,
  enumeration,
  optionalValueAt,
  requiredChild,
  structure,
  type Ttlv,
  textString,
  valueAt,
} from '../../ttlv.js'
import {
  type Answer,
  type Call,
  checkFields,
  livingObjectOf,
  type Operation,
  objectOf,
} from '../call.js'
import { type KmipState, movedTo } from '../lifecycle.js'
import { type ManagedObject, stateOf, withValues } from '../object.js'

const V1_0 = { major: 1, minor: 0 }

/** @see KMIP 2.1 Specification, clause 6.1.1 */
export const ACTIVATE: Operation = {
  operation: OPERATION.Activate,
  since: V1_0,
  fields: [TAG.UniqueIdentifier],
  run: (call) => moved(call, livingObjectOf(call), 'Active', [now(call, TAG.ActivationDate)]),
}

/** @see KMIP 2.1 Specification, clause 6.1.49 */
export const REVOKE: Operation = {
  operation: OPERATION.Revoke,
  since: V1_0,
  fields: [TAG.UniqueIdentifier, TAG.RevocationReason, TAG.CompromiseOccurrenceDate],
  run: revoke,
}

/** @see KMIP 2.1 Specification, clause 6.1.15 */
export const DESTROY: Operation = {
  operation: OPERATION.Destroy,
  since: V1_0,
  fields: [TAG.UniqueIdentifier],
  run: destroy,
}

function revoke(call: Call): Answer {
  const object = objectOf(call)
  const reason = requiredChild(call.payload, TAG.RevocationReason)
  checkFields(reason, [TAG.RevocationReasonCode, TAG.RevocationMessage])
  const code = valueAt(reason, TAG.RevocationReasonCode, 'Enumeration')
  const message = optionalValueAt(reason, TAG.RevocationMessage, 'TextString')
  const kept = structure(TAG.RevocationReason, [
    enumeration(TAG.RevocationReasonCode, code),
    message === undefined ? undefined : textString(TAG.RevocationMessage, message),
  ])
  const { KeyCompromise, CACompromise } = REVOCATION_REASON_CODE
  if (code !== KeyCompromise && code !== CACompromise) {
    return moved(call, object, 'Deactivated', [kept, now(call, TAG.DeactivationDate)])
  }
  const wasDestroyed = stateOf(object, call.now) === 'Destroyed'
  return moved(call, object, wasDestroyed ? 'DestroyedCompromised' : 'Compromised', [
    kept,
    now(call, TAG.CompromiseDate),
    occurrence(call),
  ])
}

function destroy(call: Call): Answer {
  const object = livingObjectOf(call)
  const isCompromised = stateOf(object, call.now) === 'Compromised'
  const next = isCompromised ? 'DestroyedCompromised' : 'Destroyed'
  return moved(call, { ...object, body: undefined }, next, [now(call, TAG.DestroyDate)])
}

/** Throws `KMIP_REFUSED`, Wrong Key Lifecycle State. */
function moved(
  call: Call,
  object: ManagedObject,
  state: KmipState,
  values: readonly (Ttlv | undefined)[],
): Answer {
  const next = movedTo(stateOf(object, call.now), state)
  const written = values.filter((value) => value !== undefined)
  call.store.put({ ...withValues(object, written, call.now), state: next })
  return { items: [textString(TAG.UniqueIdentifier, object.id)] }
}

function occurrence(call: Call): Ttlv | undefined {
  const item = child(call.payload, TAG.CompromiseOccurrenceDate)
  return item && dateTime(item.tag, valueAt(call.payload, item.tag, 'DateTime'))
}

function now(call: Call, tag: number): Ttlv {
  return dateTime(tag, call.now)
}
