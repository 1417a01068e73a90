// The values of KMIP 1.0 to 2.1, by the names of the XML encoding.
// See KMIP 2.1 Specification, clause 11; KMIP 1.4, clause 9.1.3.2.

export const OBJECT_TYPE = {
  Certificate: 0x01,
  SymmetricKey: 0x02,
  PublicKey: 0x03,
  PrivateKey: 0x04,
  SplitKey: 0x05,
  Template: 0x06,
  SecretData: 0x07,
  OpaqueObject: 0x08,
  PGPKey: 0x09,
  CertificateRequest: 0x0a,
} as const

export const STATE = {
  PreActive: 0x01,
  Active: 0x02,
  Deactivated: 0x03,
  Compromised: 0x04,
  Destroyed: 0x05,
  DestroyedCompromised: 0x06,
} as const

export const NAME_TYPE = {
  UninterpretedTextString: 0x01,
  URI: 0x02,
} as const

export const ALTERNATIVE_NAME_TYPE = {
  UninterpretedTextString: 0x01,
  URI: 0x02,
  ObjectSerialNumber: 0x03,
  EmailAddress: 0x04,
  DNSName: 0x05,
  X_500DistinguishedName: 0x06,
  IPAddress: 0x07,
} as const

export const LINK_TYPE = {
  CertificateLink: 0x0101,
  PublicKeyLink: 0x0102,
  PrivateKeyLink: 0x0103,
  DerivationBaseObjectLink: 0x0104,
  DerivedKeyLink: 0x0105,
  ReplacementObjectLink: 0x0106,
  ReplacedObjectLink: 0x0107,
  ParentLink: 0x0108,
  ChildLink: 0x0109,
  PreviousLink: 0x010a,
  NextLink: 0x010b,
  PKCS_12CertificateLink: 0x010c,
  PKCS_12PasswordLink: 0x010d,
  WrappingKeyLink: 0x010e,
} as const

export const REVOCATION_REASON_CODE = {
  Unspecified: 0x01,
  KeyCompromise: 0x02,
  CACompromise: 0x03,
  AffiliationChanged: 0x04,
  Superseded: 0x05,
  CessationOfOperation: 0x06,
  PrivilegeWithdrawn: 0x07,
} as const

export const USAGE_LIMITS_UNIT = {
  Byte: 0x01,
  Object: 0x02,
} as const

export const OBJECT_GROUP_MEMBER = {
  GroupMemberFresh: 0x01,
  GroupMemberDefault: 0x02,
} as const

export const KEY_FORMAT_TYPE = {
  Raw: 0x01,
  Opaque: 0x02,
  PKCS_1: 0x03,
  PKCS_8: 0x04,
  X_509: 0x05,
  ECPrivateKey: 0x06,
  TransparentSymmetricKey: 0x07,
  TransparentDSAPrivateKey: 0x08,
  TransparentDSAPublicKey: 0x09,
  TransparentRSAPrivateKey: 0x0a,
  TransparentRSAPublicKey: 0x0b,
  TransparentDHPrivateKey: 0x0c,
  TransparentDHPublicKey: 0x0d,
  TransparentECDSAPrivateKey: 0x0e,
  TransparentECDSAPublicKey: 0x0f,
  TransparentECDHPrivateKey: 0x10,
  TransparentECDHPublicKey: 0x11,
  TransparentECMQVPrivateKey: 0x12,
  TransparentECMQVPublicKey: 0x13,
  TransparentECPrivateKey: 0x14,
  TransparentECPublicKey: 0x15,
  PKCS_12: 0x16,
  PKCS_10: 0x17,
} as const

export const KEY_COMPRESSION_TYPE = {
  ECPublicKeyTypeUncompressed: 0x01,
  ECPublicKeyTypeX9_62CompressedPrime: 0x02,
  ECPublicKeyTypeX9_62CompressedChar2: 0x03,
  ECPublicKeyTypeX9_62Hybrid: 0x04,
} as const

export const KEY_WRAP_TYPE = {
  NotWrapped: 0x01,
  AsRegistered: 0x02,
} as const

export const WRAPPING_METHOD = {
  Encrypt: 0x01,
  MACSign: 0x02,
  EncryptThenMACSign: 0x03,
  MACSignThenEncrypt: 0x04,
  TR_31: 0x05,
} as const

export const ENCODING_OPTION = {
  NoEncoding: 0x01,
  TTLVEncoding: 0x02,
} as const

export const KEY_VALUE_LOCATION_TYPE = {
  UninterpretedTextString: 0x01,
  URI: 0x02,
} as const

export const KEY_ROLE_TYPE = {
  BDK: 0x01,
  CVK: 0x02,
  DEK: 0x03,
  MKAC: 0x04,
  MKSMC: 0x05,
  MKSMI: 0x06,
  MKDAC: 0x07,
  MKDN: 0x08,
  MKCP: 0x09,
  MKOTH: 0x0a,
  KEK: 0x0b,
  MAC16609: 0x0c,
  MAC97971: 0x0d,
  MAC97972: 0x0e,
  MAC97973: 0x0f,
  MAC97974: 0x10,
  MAC97975: 0x11,
  ZPK: 0x12,
  PVKIBM: 0x13,
  PVKPVV: 0x14,
  PVKOTH: 0x15,
  DUKPT: 0x16,
  IV: 0x17,
  TRKBK: 0x18,
} as const

export const CERTIFICATE_TYPE = {
  X_509: 0x01,
  PGP: 0x02,
} as const

export const CERTIFICATE_REQUEST_TYPE = {
  CRMF: 0x01,
  PKCS_10: 0x02,
  PEM: 0x03,
  PGP: 0x04,
} as const

export const VALIDITY_INDICATOR = {
  Valid: 0x01,
  Invalid: 0x02,
  Unknown: 0x03,
} as const

export const SECRET_DATA_TYPE = {
  Password: 0x01,
  Seed: 0x02,
} as const

export const SPLIT_KEY_METHOD = {
  XOR: 0x01,
  PolynomialSharingGF2_16: 0x02,
  PolynomialSharingPrimeField: 0x03,
  PolynomialSharingGF2_8: 0x04,
} as const

export const PROTECTION_LEVEL = {
  High: 0x01,
  Low: 0x02,
} as const

export const ROTATE_NAME_TYPE = {
  UninterpretedTextString: 0x01,
  URI: 0x02,
} as const

export const NIST_KEY_TYPE = {
  PrivateSignatureKey: 0x01,
  PublicSignatureVerificationKey: 0x02,
  SymmetricAuthenticationKey: 0x03,
  PrivateAuthenticationKey: 0x04,
  PublicAuthenticationKey: 0x05,
  SymmetricDataEncryptionKey: 0x06,
  SymmetricKeyWrappingKey: 0x07,
  SymmetricRandomNumberGenerationKey: 0x08,
  SymmetricMasterKey: 0x09,
  PrivateKeyTransportKey: 0x0a,
  PublicKeyTransportKey: 0x0b,
  SymmetricKeyAgreementKey: 0x0c,
  PrivateStaticKeyAgreementKey: 0x0d,
  PublicStaticKeyAgreementKey: 0x0e,
  PrivateEphemeralKeyAgreementKey: 0x0f,
  PublicEphemeralKeyAgreementKey: 0x10,
  SymmetricAuthorizationKey: 0x11,
  PrivateAuthorizationKey: 0x12,
  PublicAuthorizationKey: 0x13,
} as const
