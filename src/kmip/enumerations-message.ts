// The values of KMIP 1.0 to 2.1, by the names of the XML encoding.
// See KMIP 2.1 Specification, clause 11; KMIP 1.4, clause 9.1.3.2.

export const OPERATION = {
  Create: 0x01,
  CreateKeyPair: 0x02,
  Register: 0x03,
  ReKey: 0x04,
  DeriveKey: 0x05,
  Certify: 0x06,
  ReCertify: 0x07,
  Locate: 0x08,
  Check: 0x09,
  Get: 0x0a,
  GetAttributes: 0x0b,
  GetAttributeList: 0x0c,
  AddAttribute: 0x0d,
  ModifyAttribute: 0x0e,
  DeleteAttribute: 0x0f,
  ObtainLease: 0x10,
  GetUsageAllocation: 0x11,
  Activate: 0x12,
  Revoke: 0x13,
  Destroy: 0x14,
  Archive: 0x15,
  Recover: 0x16,
  Validate: 0x17,
  Query: 0x18,
  Cancel: 0x19,
  Poll: 0x1a,
  Notify: 0x1b,
  Put: 0x1c,
  ReKeyKeyPair: 0x1d,
  DiscoverVersions: 0x1e,
  Encrypt: 0x1f,
  Decrypt: 0x20,
  Sign: 0x21,
  SignatureVerify: 0x22,
  MAC: 0x23,
  MACVerify: 0x24,
  RNGRetrieve: 0x25,
  RNGSeed: 0x26,
  Hash: 0x27,
  CreateSplitKey: 0x28,
  JoinSplitKey: 0x29,
  Import: 0x2a,
  Export: 0x2b,
  Log: 0x2c,
  Login: 0x2d,
  Logout: 0x2e,
  DelegatedLogin: 0x2f,
  AdjustAttribute: 0x30,
  SetAttribute: 0x31,
  SetEndpointRole: 0x32,
  PKCS_11: 0x33,
  Interop: 0x34,
  ReProvision: 0x35,
  SetDefaults: 0x36,
  SetConstraints: 0x37,
  GetConstraints: 0x38,
  QueryAsynchronousRequests: 0x39,
  Process: 0x3a,
  Ping: 0x3b,
} as const

export const RESULT_STATUS = {
  Success: 0x00,
  OperationFailed: 0x01,
  OperationPending: 0x02,
  OperationUndone: 0x03,
} as const

export const RESULT_REASON = {
  ItemNotFound: 0x0001,
  ResponseTooLarge: 0x0002,
  AuthenticationNotSuccessful: 0x0003,
  InvalidMessage: 0x0004,
  OperationNotSupported: 0x0005,
  MissingData: 0x0006,
  InvalidField: 0x0007,
  FeatureNotSupported: 0x0008,
  OperationCanceledByRequester: 0x0009,
  CryptographicFailure: 0x000a,
  IllegalOperation: 0x000b,
  PermissionDenied: 0x000c,
  ObjectArchived: 0x000d,
  IndexOutOfBounds: 0x000e,
  ApplicationNamespaceNotSupported: 0x000f,
  KeyFormatTypeNotSupported: 0x0010,
  KeyCompressionTypeNotSupported: 0x0011,
  EncodingOptionError: 0x0012,
  KeyValueNotPresent: 0x0013,
  AttestationRequired: 0x0014,
  AttestationFailed: 0x0015,
  Sensitive: 0x0016,
  NotExtractable: 0x0017,
  ObjectAlreadyExists: 0x0018,
  InvalidTicket: 0x0019,
  UsageLimitExceeded: 0x001a,
  NumericRange: 0x001b,
  InvalidDataType: 0x001c,
  ReadOnlyAttribute: 0x001d,
  MultiValuedAttribute: 0x001e,
  UnsupportedAttribute: 0x001f,
  AttributeInstanceNotFound: 0x0020,
  AttributeNotFound: 0x0021,
  AttributeReadOnly: 0x0022,
  AttributeSingleValued: 0x0023,
  BadCryptographicParameters: 0x0024,
  BadPassword: 0x0025,
  CodecError: 0x0026,
  IllegalObjectType: 0x0028,
  IncompatibleCryptographicUsageMask: 0x0029,
  InternalServerError: 0x002a,
  InvalidAsynchronousCorrelationValue: 0x002b,
  InvalidAttribute: 0x002c,
  InvalidAttributeValue: 0x002d,
  InvalidCorrelationValue: 0x002e,
  InvalidCSR: 0x002f,
  InvalidObjectType: 0x0030,
  KeyWrapTypeNotSupported: 0x0032,
  MissingInitializationVector: 0x0034,
  NonUniqueNameAttribute: 0x0035,
  ObjectDestroyed: 0x0036,
  ObjectNotFound: 0x0037,
  NotAuthorised: 0x0039,
  ServerLimitExceeded: 0x003a,
  UnknownEnumeration: 0x003b,
  UnknownMessageExtension: 0x003c,
  UnknownTag: 0x003d,
  UnsupportedCryptographicParameters: 0x003e,
  UnsupportedProtocolVersion: 0x003f,
  WrappingObjectArchived: 0x0040,
  WrappingObjectDestroyed: 0x0041,
  WrappingObjectNotFound: 0x0042,
  WrongKeyLifecycleState: 0x0043,
  ProtectionStorageUnavailable: 0x0044,
  PKCS_11CodecError: 0x0045,
  PKCS_11InvalidFunction: 0x0046,
  PKCS_11InvalidInterface: 0x0047,
  PrivateProtectionStorageUnavailable: 0x0048,
  PublicProtectionStorageUnavailable: 0x0049,
  UnknownObjectGroup: 0x004a,
  ConstraintViolation: 0x004b,
  DuplicateProcessRequest: 0x004c,
  GeneralFailure: 0x0100,
} as const

export const BATCH_ERROR_CONTINUATION_OPTION = {
  Continue: 0x01,
  Stop: 0x02,
  Undo: 0x03,
} as const

export const ASYNCHRONOUS_INDICATOR = {
  Mandatory: 0x01,
  Optional: 0x02,
  Prohibited: 0x03,
} as const

export const CREDENTIAL_TYPE = {
  UsernameAndPassword: 0x01,
  Device: 0x02,
  Attestation: 0x03,
  OneTimePassword: 0x04,
  HashedPassword: 0x05,
  Ticket: 0x06,
} as const

export const ATTESTATION_TYPE = {
  TPMQuote: 0x01,
  TCGIntegrityReport: 0x02,
  SAMLAssertion: 0x03,
} as const

export const QUERY_FUNCTION = {
  QueryOperations: 0x01,
  QueryObjects: 0x02,
  QueryServerInformation: 0x03,
  QueryApplicationNamespaces: 0x04,
  QueryExtensionList: 0x05,
  QueryExtensionMap: 0x06,
  QueryAttestationTypes: 0x07,
  QueryRNGs: 0x08,
  QueryValidations: 0x09,
  QueryProfiles: 0x0a,
  QueryCapabilities: 0x0b,
  QueryClientRegistrationMethods: 0x0c,
  QueryDefaultsInformation: 0x0d,
  QueryStorageProtectionMasks: 0x0e,
} as const

export const UNIQUE_IDENTIFIER = {
  IDPlaceholder: 0x01,
  Certify: 0x02,
  Create: 0x03,
  CreateKeyPair: 0x04,
  CreateKeyPairPrivateKey: 0x05,
  CreateKeyPairPublicKey: 0x06,
  CreateSplitKey: 0x07,
  DeriveKey: 0x08,
  Import: 0x09,
  JoinSplitKey: 0x0a,
  Locate: 0x0b,
  Register: 0x0c,
  ReKey: 0x0d,
  ReCertify: 0x0e,
  ReKeyKeyPair: 0x0f,
  ReKeyKeyPairPrivateKey: 0x10,
  ReKeyKeyPairPublicKey: 0x11,
} as const

export const DATA = {
  Decrypt: 0x01,
  Encrypt: 0x02,
  Hash: 0x03,
  MACMACData: 0x04,
  RNGRetrieve: 0x05,
  SignSignatureData: 0x06,
  SignatureVerify: 0x07,
} as const

export const CANCELLATION_RESULT = {
  Canceled: 0x01,
  UnableToCancel: 0x02,
  Completed: 0x03,
  Failed: 0x04,
  Unavailable: 0x05,
} as const

export const PUT_FUNCTION = {
  New: 0x01,
  Replace: 0x02,
} as const

export const PROCESSING_STAGE = {
  Submitted: 0x01,
  InProcess: 0x02,
  Completed: 0x03,
} as const

export const ENDPOINT_ROLE = {
  Client: 0x01,
  Server: 0x02,
} as const

export const INTEROP_FUNCTION = {
  Begin: 0x01,
  End: 0x02,
  Reset: 0x03,
} as const

export const ADJUSTMENT_TYPE = {
  Increment: 0x01,
  Decrement: 0x02,
  Negate: 0x03,
} as const

export const TICKET_TYPE = {
  Login: 0x01,
} as const

export const ITEM_TYPE = {
  Structure: 0x01,
  Integer: 0x02,
  LongInteger: 0x03,
  BigInteger: 0x04,
  Enumeration: 0x05,
  Boolean: 0x06,
  TextString: 0x07,
  ByteString: 0x08,
  DateTime: 0x09,
  Interval: 0x0a,
  DateTimeExtended: 0x0b,
} as const

export const UNWRAP_MODE = {
  Unspecified: 0x01,
  Processed: 0x02,
  NotProcessed: 0x03,
} as const

export const DESTROY_ACTION = {
  Unspecified: 0x01,
  KeyMaterialDeleted: 0x02,
  KeyMaterialShredded: 0x03,
  MetaDataDeleted: 0x04,
  MetaDataShredded: 0x05,
  Deleted: 0x06,
  Shredded: 0x07,
} as const

export const SHREDDING_ALGORITHM = {
  Unspecified: 0x01,
  Cryptographic: 0x02,
  Unsupported: 0x03,
} as const

export const RNG_MODE = {
  Unspecified: 0x01,
  SharedInstantiation: 0x02,
  NonSharedInstantiation: 0x03,
} as const

export const CLIENT_REGISTRATION_METHOD = {
  Unspecified: 0x01,
  ServerPreGenerated: 0x02,
  ServerOnDemand: 0x03,
  ClientGenerated: 0x04,
  ClientRegistered: 0x05,
} as const

export const VALIDATION_AUTHORITY_TYPE = {
  Unspecified: 0x01,
  NISTCMVP: 0x02,
  CommonCriteria: 0x03,
} as const

export const VALIDATION_TYPE = {
  Unspecified: 0x01,
  Hardware: 0x02,
  Software: 0x03,
  Firmware: 0x04,
  Hybrid: 0x05,
} as const
