import { TAG } from './tags.js'
import type { ProtocolVersion } from './version.js'

/** An attribute of the standard: its text in messages of 1.x, its tag in those of 2.x, and when it came. */
interface StandardAttribute {
  readonly name: string
  readonly tag: number
  /** The minor version of 1.x, nothing for those of 2.0 and later. */
  readonly sinceMinor: number | undefined
}

/** @see KMIP 1.4, clause 3; KMIP 2.1 Specification, clause 4 */
const ATTRIBUTES: readonly StandardAttribute[] = [
  ...since(0, {
    'Unique Identifier': TAG.UniqueIdentifier,
    Name: TAG.Name,
    'Object Type': TAG.ObjectType,
    'Cryptographic Algorithm': TAG.CryptographicAlgorithm,
    'Cryptographic Length': TAG.CryptographicLength,
    'Cryptographic Parameters': TAG.CryptographicParameters,
    'Cryptographic Domain Parameters': TAG.CryptographicDomainParameters,
    'Certificate Type': TAG.CertificateType,
    'Certificate Identifier': TAG.CertificateIdentifier,
    'Certificate Subject': TAG.CertificateSubject,
    'Certificate Issuer': TAG.CertificateIssuer,
    Digest: TAG.Digest,
    'Operation Policy Name': TAG.OperationPolicyName,
    'Cryptographic Usage Mask': TAG.CryptographicUsageMask,
    'Lease Time': TAG.LeaseTime,
    'Usage Limits': TAG.UsageLimits,
    State: TAG.State,
    'Initial Date': TAG.InitialDate,
    'Activation Date': TAG.ActivationDate,
    'Process Start Date': TAG.ProcessStartDate,
    'Protect Stop Date': TAG.ProtectStopDate,
    'Deactivation Date': TAG.DeactivationDate,
    'Destroy Date': TAG.DestroyDate,
    'Compromise Occurrence Date': TAG.CompromiseOccurrenceDate,
    'Compromise Date': TAG.CompromiseDate,
    'Revocation Reason': TAG.RevocationReason,
    'Archive Date': TAG.ArchiveDate,
    'Object Group': TAG.ObjectGroup,
    Link: TAG.Link,
    'Application Specific Information': TAG.ApplicationSpecificInformation,
    'Contact Information': TAG.ContactInformation,
    'Last Change Date': TAG.LastChangeDate,
  }),
  ...since(1, {
    'Certificate Length': TAG.CertificateLength,
    'X.509 Certificate Identifier': TAG.X_509CertificateIdentifier,
    'X.509 Certificate Subject': TAG.X_509CertificateSubject,
    'X.509 Certificate Issuer': TAG.X_509CertificateIssuer,
    'Digital Signature Algorithm': TAG.DigitalSignatureAlgorithm,
    Fresh: TAG.Fresh,
  }),
  ...since(2, {
    'Alternative Name': TAG.AlternativeName,
    'Key Value Present': TAG.KeyValuePresent,
    'Key Value Location': TAG.KeyValueLocation,
    'Original Creation Date': TAG.OriginalCreationDate,
  }),
  ...since(3, { 'Random Number Generator': TAG.RandomNumberGenerator }),
  ...since(4, {
    'PKCS#12 Friendly Name': TAG.PKCS_12FriendlyName,
    Description: TAG.Description,
    Comment: TAG.Comment,
    Sensitive: TAG.Sensitive,
    'Always Sensitive': TAG.AlwaysSensitive,
    Extractable: TAG.Extractable,
    'Never Extractable': TAG.NeverExtractable,
  }),
  ...since(undefined, {
    'Key Format Type': TAG.KeyFormatType,
    'Protection Level': TAG.ProtectionLevel,
    'Protection Period': TAG.ProtectionPeriod,
    'Protection Storage Mask': TAG.ProtectionStorageMask,
    'Quantum Safe': TAG.QuantumSafe,
    'Short Unique Identifier': TAG.ShortUniqueIdentifier,
  }),
]

const BY_NAME = new Map(ATTRIBUTES.map((attribute) => [attribute.name, attribute]))
const BY_TAG = new Map(ATTRIBUTES.map((attribute) => [attribute.tag, attribute]))

/** The tag of the attribute with this text, if the standard has it; runs of white space count as one space. */
export function attributeTag(name: string): number | undefined {
  return BY_NAME.get(name.replaceAll(/\s+/g, ' '))?.tag
}

/** The text of the attribute with this tag in messages of 1.x, if the standard has it. */
export function attributeName(tag: number): string | undefined {
  return BY_TAG.get(tag)?.name
}

/** Whether a version of KMIP has the attribute. Clients of 1.0 break on attributes of 1.1. */
export function isAttributeOf(tag: number, version: ProtocolVersion): boolean {
  const attribute = BY_TAG.get(tag)
  if (version.major >= 2) return true
  return attribute?.sinceMinor !== undefined && attribute.sinceMinor <= version.minor
}

function since(
  sinceMinor: number | undefined,
  tags: Readonly<Record<string, number>>,
): readonly StandardAttribute[] {
  return Object.entries(tags).map(([name, tag]) => ({ name, tag, sinceMinor }))
}
