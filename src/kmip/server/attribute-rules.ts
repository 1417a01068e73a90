import type { KmipAttribute, KmipAttributeName } from '../attributes.js'
import { TAG, tagName } from '../tags.js'
import type { KmipState } from './lifecycle.js'
import { KmipRefusal } from './refusal.js'

/**
 * When a client may write an attribute: never, when the object is made, before it is active, before it is
 * deactivated, or always.
 */
type Writable = 'never' | 'creation' | 'pre-active' | 'active' | 'always'

interface Rule {
  readonly write: Writable
  readonly multiple: boolean
}

/** @see KMIP 2.1 Specification, clause 4: the table of rules of each attribute */
const RULES: ReadonlyMap<number, Rule> = new Map([
  ...rules('never', false, [
    ...[TAG.UniqueIdentifier, TAG.ObjectType, TAG.State, TAG.InitialDate, TAG.LastChangeDate],
    ...[TAG.DestroyDate, TAG.CompromiseDate, TAG.CompromiseOccurrenceDate, TAG.RevocationReason],
    ...[TAG.ArchiveDate, TAG.LeaseTime, TAG.AlwaysSensitive, TAG.NeverExtractable],
    ...[TAG.KeyFormatType, TAG.KeyValuePresent, TAG.ShortUniqueIdentifier, TAG.CertificateLength],
  ]),
  ...rules('never', true, [TAG.Digest]),
  ...rules('creation', false, [
    ...[TAG.CryptographicAlgorithm, TAG.CryptographicLength, TAG.CryptographicUsageMask],
    ...[TAG.CryptographicDomainParameters, TAG.OperationPolicyName, TAG.Fresh],
    ...[TAG.OriginalCreationDate, TAG.RandomNumberGenerator, TAG.ProtectionStorageMask],
    ...[TAG.CertificateType, TAG.DigitalSignatureAlgorithm],
  ]),
  ...rules('pre-active', false, [TAG.ActivationDate, TAG.UsageLimits]),
  ...rules('active', false, [TAG.ProcessStartDate, TAG.ProtectStopDate, TAG.DeactivationDate]),
  ...rules('always', false, [
    ...[TAG.ContactInformation, TAG.Description, TAG.Comment, TAG.Sensitive, TAG.Extractable],
    ...[TAG.PKCS_12FriendlyName, TAG.ProtectionLevel, TAG.ProtectionPeriod, TAG.QuantumSafe],
  ]),
  ...rules('always', true, [
    ...[TAG.Name, TAG.ObjectGroup, TAG.Link, TAG.ApplicationSpecificInformation],
    ...[TAG.CryptographicParameters, TAG.AlternativeName],
  ]),
])

/** Throws `KMIP_REFUSED` when a client may not give the attribute to a new object. */
export function checkGivenAtCreation(attribute: KmipAttribute): void {
  const rule = ruleOf(attribute)
  if (rule.write === 'never') throw readOnly(attribute)
}

/** Throws `KMIP_REFUSED` when a client may not add, change or delete the attribute of an object in this state. */
export function checkWritable(name: KmipAttributeName, state: KmipState): void {
  const { write } = ruleOf(name)
  if (write === 'never' || write === 'creation') throw readOnly(name)
  const open =
    write === 'always' || state === 'PreActive' || (write === 'active' && state === 'Active')
  if (!open) {
    throw new KmipRefusal(
      'WrongKeyLifecycleState',
      `${textOf(name)} cannot be changed on an object that is ${state}`,
    )
  }
}

export function isMultiple(name: KmipAttributeName): boolean {
  return ruleOf(name).multiple
}

function ruleOf(name: KmipAttributeName): Rule {
  if (name.kind === 'vendor') {
    if (name.vendor === '') {
      throw new KmipRefusal('InvalidAttribute', 'the standard has no attribute of this name')
    }
    // Those of the vendor y are the server's.
    return { write: name.vendor === 'y' ? 'never' : 'always', multiple: true }
  }
  const rule = RULES.get(name.tag)
  if (rule !== undefined) return rule
  throw new KmipRefusal('UnsupportedAttribute', `this server does not keep ${textOf(name)}`)
}

function readOnly(name: KmipAttributeName): KmipRefusal {
  return new KmipRefusal('AttributeReadOnly', `${textOf(name)} is not written by clients`)
}

function textOf(name: KmipAttributeName): string {
  return name.kind === 'standard' ? tagName(name.tag) : 'the attribute'
}

function rules(
  write: Writable,
  multiple: boolean,
  tags: readonly number[],
): readonly (readonly [number, Rule])[] {
  return tags.map((tag) => [tag, { write, multiple }])
}
