import type { KmipAttribute } from '../../attributes.js'
import { LINK_TYPE, OBJECT_TYPE, OPERATION } from '../../enumerations.js'
import { TAG } from '../../tags.js'
import {
  dateTime,
  enumeration,
  optionalValueAt,
  type Structure,
  structure,
  textString,
} from '../../ttlv.js'
import { added } from '../attribute-list.js'
import { isMultiple } from '../attribute-rules.js'
import { type Answer, type Call, livingObjectOf, type Operation } from '../call.js'
import { givenAttributes } from '../new-object.js'
import { dateOf, type ManagedObject, singleValue, withValues } from '../object.js'
import { KmipRefusal } from '../refusal.js'
import { isName } from '../unique-names.js'
import { makeSymmetricKey } from './create.js'

/** @see KMIP 2.1 Specification, clause 6.1.46 */
export const REKEY: Operation = {
  operation: OPERATION.ReKey,
  since: { major: 1, minor: 0 },
  fields: [TAG.UniqueIdentifier, TAG.Offset],
  fieldsOf1: [TAG.TemplateAttribute],
  fieldsOf2: [TAG.Attributes, TAG.ProtectionStorageMasks],
  run: rekey,
}

/** What a replacement does not take over: what is of the one object, or of its one life. */
const NOT_TAKEN_OVER: readonly number[] = [
  ...[TAG.Digest, TAG.InitialDate, TAG.OriginalCreationDate, TAG.LastChangeDate],
  ...[TAG.CompromiseDate, TAG.CompromiseOccurrenceDate, TAG.RevocationReason, TAG.DestroyDate],
  ...[TAG.ArchiveDate, TAG.LeaseTime, TAG.Fresh, TAG.Link, TAG.KeyFormatType],
  ...[TAG.AlwaysSensitive, TAG.NeverExtractable],
]

const DATES: readonly number[] = [
  ...[TAG.ActivationDate, TAG.ProcessStartDate, TAG.ProtectStopDate, TAG.DeactivationDate],
]

function rekey(call: Call): Answer {
  const old = livingObjectOf(call)
  if (old.objectType !== OBJECT_TYPE.SymmetricKey) {
    throw new KmipRefusal('InvalidObjectType', 'this operation replaces symmetric keys alone')
  }
  const offset = optionalValueAt(call.payload, TAG.Offset, 'Interval')
  const given = givenAttributes(call)
  const attributes = merged(takenOver(old, offset, call.now), given)
  // Its names are the replacement's now.
  const nameless = { ...old, attributes: old.attributes.filter((one) => !isName(one)) }
  call.store.put(nameless)
  const id = makeSymmetricKey(call, attributes)
  call.store.put(linked(call, nameless, LINK_TYPE.ReplacementObjectLink, id))
  const replacement = call.store.get(id, call.client)
  if (replacement === undefined) throw new TypeError('the replacement was stored a moment ago')
  call.store.put(linked(call, replacement, LINK_TYPE.ReplacedObjectLink, old.id))
  return { items: [textString(TAG.UniqueIdentifier, id)], placeholder: { id } }
}

function takenOver(
  old: ManagedObject,
  offset: number | undefined,
  now: bigint,
): readonly KmipAttribute[] {
  const kept = old.attributes.filter(
    (one) =>
      one.kind === 'vendor' || !(NOT_TAKEN_OVER.includes(one.tag) || DATES.includes(one.tag)),
  )
  return [...kept, ...newDates(old, offset, now)]
}

/**
 * The dates of the replacement: as they were, or all moved as its activation is, which comes so long after now.
 *
 * @see KMIP 2.1 Specification, clause 6.1.46, table "Computing new Dates from Offset during Re-key"
 */
function newDates(
  old: ManagedObject,
  offset: number | undefined,
  now: bigint,
): readonly KmipAttribute[] {
  const before = dateOf(old, TAG.ActivationDate)
  const activation = offset === undefined ? before : now + BigInt(offset)
  const moved = before === undefined || activation === undefined ? 0n : activation - before
  return DATES.flatMap((tag) => {
    const date = tag === TAG.ActivationDate ? activation : dateOf(old, tag)
    if (date === undefined) return []
    return [singleValue(dateTime(tag, tag === TAG.ActivationDate ? date : date + moved))]
  })
}

/** What is given stands in the place of single values, and beside others. */
function merged(
  taken: readonly KmipAttribute[],
  given: readonly KmipAttribute[],
): readonly KmipAttribute[] {
  const replaced = new Set(
    given.flatMap((one) => (one.kind === 'standard' && !isMultiple(one) ? [one.tag] : [])),
  )
  return [...taken.filter((one) => one.kind === 'vendor' || !replaced.has(one.tag)), ...given]
}

function linked(call: Call, object: ManagedObject, linkType: number, id: string): ManagedObject {
  const link: Structure = structure(TAG.Link, [
    enumeration(TAG.LinkType, linkType),
    textString(TAG.LinkedObjectIdentifier, id),
  ])
  const others = object.attributes.filter(
    (one) => !(one.kind === 'standard' && one.tag === TAG.Link && isOfType(one, linkType)),
  )
  const { list } = added(others, { kind: 'standard', tag: TAG.Link, value: link })
  return withValues({ ...object, attributes: list }, [], call.now)
}

function isOfType({ value }: KmipAttribute, linkType: number): boolean {
  return optionalValueAt(value, TAG.LinkType, 'Enumeration') === linkType
}
