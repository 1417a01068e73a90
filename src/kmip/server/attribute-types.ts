import { TAG, tagName } from '../tags.js'
import type { Ttlv, TtlvType } from '../ttlv.js'
import { KmipRefusal } from './refusal.js'

/** The types of the values of the attributes that this server keeps. @see KMIP 2.1 Specification, clause 4 */
const TYPES: ReadonlyMap<number, TtlvType> = new Map([
  ...ofType('Integer', [
    ...[TAG.CryptographicLength, TAG.CryptographicUsageMask, TAG.CertificateLength],
    ...[TAG.ProtectionStorageMask],
  ]),
  ...ofType('Enumeration', [
    ...[TAG.CryptographicAlgorithm, TAG.ObjectType, TAG.State, TAG.CertificateType],
    ...[TAG.DigitalSignatureAlgorithm, TAG.KeyFormatType, TAG.ProtectionLevel],
  ]),
  ...ofType('TextString', [
    ...[TAG.UniqueIdentifier, TAG.ObjectGroup, TAG.ContactInformation, TAG.Description],
    ...[TAG.Comment, TAG.OperationPolicyName, TAG.PKCS_12FriendlyName],
  ]),
  ...ofType('Boolean', [
    ...[TAG.Fresh, TAG.Sensitive, TAG.AlwaysSensitive, TAG.Extractable, TAG.NeverExtractable],
    ...[TAG.QuantumSafe, TAG.KeyValuePresent],
  ]),
  ...ofType('Interval', [TAG.LeaseTime, TAG.ProtectionPeriod]),
  ...ofType('DateTime', [
    ...[TAG.ActivationDate, TAG.DeactivationDate, TAG.ProcessStartDate, TAG.ProtectStopDate],
    ...[TAG.InitialDate, TAG.LastChangeDate, TAG.OriginalCreationDate, TAG.DestroyDate],
    ...[TAG.CompromiseDate, TAG.CompromiseOccurrenceDate, TAG.ArchiveDate],
  ]),
  ...ofType('ByteString', [TAG.ShortUniqueIdentifier]),
  ...ofType('Structure', [
    ...[TAG.Name, TAG.Link, TAG.ApplicationSpecificInformation, TAG.AlternativeName],
    ...[TAG.CryptographicParameters, TAG.CryptographicDomainParameters, TAG.UsageLimits],
    ...[TAG.RandomNumberGenerator, TAG.Digest, TAG.RevocationReason],
  ]),
])

interface Field {
  readonly tag: number
  readonly type: TtlvType
  readonly optional?: boolean
}

/** What stands in structures that the server reads, or compares. */
const FIELDS: ReadonlyMap<number, readonly Field[]> = new Map<number, readonly Field[]>([
  [
    TAG.Name,
    [
      { tag: TAG.NameValue, type: 'TextString' },
      { tag: TAG.NameType, type: 'Enumeration' },
    ],
  ],
  [
    TAG.AlternativeName,
    [
      { tag: TAG.AlternativeNameValue, type: 'TextString' },
      { tag: TAG.AlternativeNameType, type: 'Enumeration' },
    ],
  ],
  [
    TAG.Link,
    [
      { tag: TAG.LinkType, type: 'Enumeration' },
      { tag: TAG.LinkedObjectIdentifier, type: 'TextString' },
    ],
  ],
  [
    TAG.ApplicationSpecificInformation,
    [
      { tag: TAG.ApplicationNamespace, type: 'TextString' },
      { tag: TAG.ApplicationData, type: 'TextString', optional: true },
    ],
  ],
  [
    TAG.UsageLimits,
    [
      { tag: TAG.UsageLimitsTotal, type: 'LongInteger' },
      { tag: TAG.UsageLimitsCount, type: 'LongInteger', optional: true },
      { tag: TAG.UsageLimitsUnit, type: 'Enumeration' },
    ],
  ],
])

/**
 * Throws `KMIP_REFUSED`, Invalid Attribute Value, when a value is not of the type of its attribute or lacks a field
 * of it. Values of tags that are no attribute here pass: `attribute-rules.ts` refuses those.
 */
export function checkValue(value: Ttlv): void {
  const type = TYPES.get(value.tag)
  if (type !== undefined && type !== value.type) {
    throw wrong(value.tag, `expected ${type}, found ${value.type}`)
  }
  const fields = FIELDS.get(value.tag)
  if (fields === undefined || value.type !== 'Structure') return
  for (const { tag } of value.value) {
    if (!fields.some((field) => field.tag === tag)) throw wrong(value.tag, 'found another field')
  }
  for (const { tag, type: fieldType, optional } of fields) {
    const found = value.value.filter((item) => item.tag === tag)
    if (found.length === 0 && optional === true) continue
    if (found.length !== 1 || found[0]?.type !== fieldType) {
      throw wrong(value.tag, `expected one ${tagName(tag)} of type ${fieldType}`)
    }
  }
}

function wrong(tag: number, message: string): KmipRefusal {
  return new KmipRefusal('InvalidAttributeValue', `${tagName(tag)}: ${message}`)
}

function ofType(type: TtlvType, tags: readonly number[]): readonly (readonly [number, TtlvType])[] {
  return tags.map((tag) => [tag, type])
}
