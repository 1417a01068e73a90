import {
  BLOCK_CIPHER_MODE,
  CRYPTOGRAPHIC_ALGORITHM,
  DERIVATION_METHOD,
  DIGITAL_SIGNATURE_ALGORITHM,
  DRBG_ALGORITHM,
  FIPS186_VARIATION,
  HASHING_ALGORITHM,
  MASK_GENERATOR,
  PADDING_METHOD,
  RECOMMENDED_CURVE,
  RNG_ALGORITHM,
} from './enumerations-cryptography.js'
import {
  ADJUSTMENT_TYPE,
  ASYNCHRONOUS_INDICATOR,
  ATTESTATION_TYPE,
  BATCH_ERROR_CONTINUATION_OPTION,
  CANCELLATION_RESULT,
  CLIENT_REGISTRATION_METHOD,
  CREDENTIAL_TYPE,
  DATA,
  DESTROY_ACTION,
  ENDPOINT_ROLE,
  INTEROP_FUNCTION,
  ITEM_TYPE,
  OPERATION,
  PROCESSING_STAGE,
  PUT_FUNCTION,
  QUERY_FUNCTION,
  RESULT_REASON,
  RESULT_STATUS,
  RNG_MODE,
  SHREDDING_ALGORITHM,
  TICKET_TYPE,
  UNIQUE_IDENTIFIER,
  UNWRAP_MODE,
  VALIDATION_AUTHORITY_TYPE,
  VALIDATION_TYPE,
} from './enumerations-message.js'
import {
  ALTERNATIVE_NAME_TYPE,
  CERTIFICATE_REQUEST_TYPE,
  CERTIFICATE_TYPE,
  ENCODING_OPTION,
  KEY_COMPRESSION_TYPE,
  KEY_FORMAT_TYPE,
  KEY_ROLE_TYPE,
  KEY_VALUE_LOCATION_TYPE,
  KEY_WRAP_TYPE,
  LINK_TYPE,
  NAME_TYPE,
  NIST_KEY_TYPE,
  OBJECT_GROUP_MEMBER,
  OBJECT_TYPE,
  PROTECTION_LEVEL,
  REVOCATION_REASON_CODE,
  ROTATE_NAME_TYPE,
  SECRET_DATA_TYPE,
  SPLIT_KEY_METHOD,
  STATE,
  USAGE_LIMITS_UNIT,
  VALIDITY_INDICATOR,
  WRAPPING_METHOD,
} from './enumerations-object.js'
import { PROFILE_NAME } from './enumerations-profile.js'
import { CRYPTOGRAPHIC_USAGE_MASK, PROTECTION_STORAGE_MASK, STORAGE_STATUS_MASK } from './masks.js'
import { TAG, tagName } from './tags.js'

export * from './enumerations-cryptography.js'
export * from './enumerations-message.js'
export * from './enumerations-object.js'
export { CRYPTOGRAPHIC_USAGE_MASK } from './masks.js'

type Names = Readonly<Record<string, number>>

/** The enumerations by the name of the tag that carries them. */
const BY_TAG_NAME: Readonly<Record<string, Names>> = {
  Operation: OPERATION,
  ResultStatus: RESULT_STATUS,
  ResultReason: RESULT_REASON,
  BatchErrorContinuationOption: BATCH_ERROR_CONTINUATION_OPTION,
  AsynchronousIndicator: ASYNCHRONOUS_INDICATOR,
  CredentialType: CREDENTIAL_TYPE,
  AttestationType: ATTESTATION_TYPE,
  QueryFunction: QUERY_FUNCTION,
  UniqueIdentifier: UNIQUE_IDENTIFIER,
  Data: DATA,
  CancellationResult: CANCELLATION_RESULT,
  PutFunction: PUT_FUNCTION,
  ProcessingStage: PROCESSING_STAGE,
  EndpointRole: ENDPOINT_ROLE,
  InteropFunction: INTEROP_FUNCTION,
  AdjustmentType: ADJUSTMENT_TYPE,
  TicketType: TICKET_TYPE,
  ItemType: ITEM_TYPE,
  UnwrapMode: UNWRAP_MODE,
  DestroyAction: DESTROY_ACTION,
  ShreddingAlgorithm: SHREDDING_ALGORITHM,
  RNGMode: RNG_MODE,
  ClientRegistrationMethod: CLIENT_REGISTRATION_METHOD,
  ValidationAuthorityType: VALIDATION_AUTHORITY_TYPE,
  ValidationType: VALIDATION_TYPE,
  ObjectType: OBJECT_TYPE,
  State: STATE,
  NameType: NAME_TYPE,
  AlternativeNameType: ALTERNATIVE_NAME_TYPE,
  LinkType: LINK_TYPE,
  RevocationReasonCode: REVOCATION_REASON_CODE,
  UsageLimitsUnit: USAGE_LIMITS_UNIT,
  ObjectGroupMember: OBJECT_GROUP_MEMBER,
  KeyFormatType: KEY_FORMAT_TYPE,
  KeyCompressionType: KEY_COMPRESSION_TYPE,
  KeyWrapType: KEY_WRAP_TYPE,
  WrappingMethod: WRAPPING_METHOD,
  EncodingOption: ENCODING_OPTION,
  KeyValueLocationType: KEY_VALUE_LOCATION_TYPE,
  KeyRoleType: KEY_ROLE_TYPE,
  CertificateType: CERTIFICATE_TYPE,
  CertificateRequestType: CERTIFICATE_REQUEST_TYPE,
  ValidityIndicator: VALIDITY_INDICATOR,
  SecretDataType: SECRET_DATA_TYPE,
  SplitKeyMethod: SPLIT_KEY_METHOD,
  ProtectionLevel: PROTECTION_LEVEL,
  RotateNameType: ROTATE_NAME_TYPE,
  NISTKeyType: NIST_KEY_TYPE,
  CryptographicAlgorithm: CRYPTOGRAPHIC_ALGORITHM,
  BlockCipherMode: BLOCK_CIPHER_MODE,
  PaddingMethod: PADDING_METHOD,
  HashingAlgorithm: HASHING_ALGORITHM,
  DigitalSignatureAlgorithm: DIGITAL_SIGNATURE_ALGORITHM,
  MaskGenerator: MASK_GENERATOR,
  DerivationMethod: DERIVATION_METHOD,
  RNGAlgorithm: RNG_ALGORITHM,
  DRBGAlgorithm: DRBG_ALGORITHM,
  FIPS186Variation: FIPS186_VARIATION,
  RecommendedCurve: RECOMMENDED_CURVE,
  ProfileName: PROFILE_NAME,
  AttributeReference: TAG,
  MaskGeneratorHashingAlgorithm: HASHING_ALGORITHM,
  // of PKCS #11: the functions and codes that a connection begins and ends with
  PKCS_11Function: { C_Initialize: 1, C_Finalize: 2, C_GetInfo: 3 },
  PKCS_11ReturnCode: { OK: 0 },
}

/** The masks by the name of the tag that carries them. */
const MASK_BY_TAG_NAME: Readonly<Record<string, Names>> = {
  CryptographicUsageMask: CRYPTOGRAPHIC_USAGE_MASK,
  StorageStatusMask: STORAGE_STATUS_MASK,
  ProtectionStorageMask: PROTECTION_STORAGE_MASK,
}

/** The name of a value of the enumeration that a tag carries, if the standard has one. */
export function enumerationName(tag: number, value: number): string | undefined {
  return nameOf(BY_TAG_NAME[tagName(tag)], value)
}

/** The value with this name of the enumeration that a tag carries, if the standard has one. */
export function enumerationValue(tag: number, name: string): number | undefined {
  return valueNamed(BY_TAG_NAME[tagName(tag)], name)
}

/** The names of the bits that are set, with spaces; nothing for a tag without a mask or a bit without a name. */
export function maskNames(tag: number, mask: number): string | undefined {
  const names = MASK_BY_TAG_NAME[tagName(tag)]
  if (names === undefined || mask === 0) return undefined
  const set = Object.entries(names).filter(([, bit]) => (mask & bit) !== 0)
  const named = set.reduce((sum, [, bit]) => sum | bit, 0)
  return named === mask ? set.map(([name]) => name).join(' ') : undefined
}

/** The bit with this name in the mask that a tag carries, if the standard has one. */
export function maskBit(tag: number, name: string): number | undefined {
  return valueNamed(MASK_BY_TAG_NAME[tagName(tag)], name)
}

function nameOf(names: Names | undefined, value: number): string | undefined {
  if (names === undefined) return undefined
  return Object.keys(names).find((name) => names[name] === value)
}

function valueNamed(names: Names | undefined, name: string): number | undefined {
  return names !== undefined && Object.hasOwn(names, name) ? names[name] : undefined
}
