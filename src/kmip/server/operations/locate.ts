import {
  attributeFromTtlv,
  attributesFromTtlv,
  isNamed,
  type KmipAttribute,
} from '../../attributes.js'
import { OBJECT_GROUP_MEMBER, OPERATION } from '../../enumerations.js'
import { STORAGE_STATUS_MASK } from '../../masks.js'
import { TAG } from '../../tags.js'
import { child, children, integer, optionalValueAt, type Ttlv, textString } from '../../ttlv.js'
import { compareVersions } from '../../version.js'
import { sameItem } from '../attribute-list.js'
import { checkValue } from '../attribute-types.js'
import type { Answer, Call, Operation } from '../call.js'
import { isDestroyed } from '../lifecycle.js'
import { attributesOf, booleanOf, type ManagedObject, stateOf } from '../object.js'
import { KmipRefusal } from '../refusal.js'

/** @see KMIP 2.1 Specification, clause 6.1.27 */
export const LOCATE: Operation = {
  operation: OPERATION.Locate,
  since: { major: 1, minor: 0 },
  fields: [TAG.MaximumItems, TAG.OffsetItems, TAG.StorageStatusMask, TAG.ObjectGroupMember],
  fieldsOf1: [TAG.Attribute],
  fieldsOf2: [TAG.Attributes],
  run: locate,
}

const HAS_LOCATED_ITEMS = { major: 1, minor: 3 }

/** The ids of the objects that match, the earliest first. */
function locate(call: Call): Answer {
  const { payload, version } = call
  const most = countAt(payload, TAG.MaximumItems)
  const offset = countAt(payload, TAG.OffsetItems) ?? 0
  const conditions = wanted(call)
  const isWanted = membership(optionalValueAt(payload, TAG.ObjectGroupMember, 'Enumeration'))
  const storage =
    optionalValueAt(payload, TAG.StorageStatusMask, 'Integer') ?? STORAGE_STATUS_MASK.OnLineStorage
  const found: string[] = []
  for (const object of call.store.ownedBy(call.client)) {
    const { OnLineStorage, DestroyedStorage } = STORAGE_STATUS_MASK
    const where = isDestroyed(stateOf(object, call.now)) ? DestroyedStorage : OnLineStorage
    if ((storage & where) === 0 || !isWanted(object)) continue
    if (matches(attributesOf(object, call.now), conditions)) found.push(object.id)
  }
  const given = found.slice(offset, most === undefined ? undefined : offset + most)
  const counted =
    (most !== undefined || offset > 0) && compareVersions(version, HAS_LOCATED_ITEMS) >= 0
  return {
    items: [
      counted ? integer(TAG.LocatedItems, found.length) : undefined,
      ...given.map((id) => textString(TAG.UniqueIdentifier, id)),
    ],
    placeholder: { id: given.length === 1 ? given[0] : undefined },
  }
}

function wanted({ payload, version }: Call): readonly KmipAttribute[] {
  const container = child(payload, TAG.Attributes)
  const attributes =
    version.major < 2
      ? children(payload, TAG.Attribute).map((one) => attributeFromTtlv(one, version))
      : container === undefined
        ? []
        : attributesFromTtlv(container, version)
  // Of a structure, a part may be asked for.
  for (const { kind, value } of attributes) {
    if (kind === 'standard' && value.type !== 'Structure') checkValue(value)
  }
  return attributes
}

/** Two dates of one name are a range, anything else has to match by itself. */
function matches(
  attributes: readonly KmipAttribute[],
  conditions: readonly KmipAttribute[],
): boolean {
  return conditions.every((condition) => {
    const values = attributes.filter((one) => isNamed(one, condition)).map(({ value }) => value)
    if (condition.value.type === 'DateTime' && condition.kind === 'standard') {
      const bounds = conditions.filter((one) => isNamed(one, condition))
      return values.some((value) => isBetween(value, bounds))
    }
    return values.some((value) => matchesValue(value, condition.value))
  })
}

function isBetween(value: Ttlv, bounds: readonly KmipAttribute[]): boolean {
  if (bounds.length > 2) throw new KmipRefusal('InvalidField', 'a range has two ends')
  if (value.type !== 'DateTime') return false
  const ends = bounds.flatMap((one) => (one.value.type === 'DateTime' ? [one.value.value] : []))
  return ends.some((end) => end <= value.value) && ends.some((end) => value.value <= end)
}

/** Of a mask all wanted bits are there, of a structure all wanted fields. */
function matchesValue(value: Ttlv, wantedValue: Ttlv): boolean {
  if (value.tag === TAG.CryptographicUsageMask) {
    if (value.type !== 'Integer' || wantedValue.type !== 'Integer') return false
    return (value.value & wantedValue.value) === wantedValue.value
  }
  if (value.type === 'Structure' && wantedValue.type === 'Structure') {
    return wantedValue.value.every((field) => value.value.some((one) => sameItem(one, field)))
  }
  return sameItem(value, wantedValue)
}

function membership(member: number | undefined): (object: ManagedObject) => boolean {
  if (member === undefined) return () => true
  if (member === OBJECT_GROUP_MEMBER.GroupMemberFresh) {
    return (object) => booleanOf(object, TAG.Fresh)
  }
  throw new KmipRefusal('FeatureNotSupported', 'groups have no default members here')
}

function countAt(payload: Ttlv, tag: number): number | undefined {
  const count = optionalValueAt(payload, tag, 'Integer')
  if (count === undefined || count >= 0) return count
  throw new KmipRefusal('InvalidField', 'expected a count')
}
