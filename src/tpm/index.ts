export {
  HASH_ALGORITHMS,
  type HashAlgorithm,
  type HashName,
  hashById,
  TPM_ALG,
} from './algorithms.js'
export {
  ATTEST_TYPES,
  type Attest,
  type ClockInfo,
  encodeAttest,
  parseAttest,
  TPM_GENERATED,
} from './attest.js'
export { type Credential, makeCredential } from './credential.js'
export { kdfa, kdfe } from './kdf.js'
export {
  encodePcrSelections,
  type PcrSelection,
  parsePcrSelections,
  pcrDigest,
} from './pcr.js'
export {
  ENDORSEMENT_NAME,
  policyAuthorizeNvDigest,
  policyOrDigest,
  policyPcrDigest,
  policySecretDigest,
} from './policy.js'
export {
  attributesOf,
  type EccCurve,
  encodePublicArea,
  encodeTpm2bPublic,
  type KeyScheme,
  nameOf,
  type ObjectAttribute,
  type PublicArea,
  parsePublicArea,
  parseTpm2bPublic,
  publicKeyOf,
} from './public-area.js'
export {
  decodeResponseCode,
  describeResponseCode,
  type ResponseCode,
} from './response-codes.js'
export { hasRocaFingerprint } from './roca.js'
export { MAX_SEALED_OCTETS, nameOfSealedObject, sealedObjectTemplate } from './sealed-object.js'
export { encodeSignature, parseSignature, type Signature } from './signature.js'
export { encodeSized, parseSized } from './sized.js'
export {
  type AttestationKeyKind,
  attestationKeyTemplate,
  bindingKeyTemplate,
  EK_TEMPLATES,
  STORAGE_PRIMARY_TEMPLATE,
} from './templates.js'
export type {
  Attested,
  BankDigest,
  Hierarchy,
  KeyBlob,
  LoadedKey,
  QuoteRequest,
  Tpm,
  TpmProperties,
} from './tpm.js'
export { verifyAttest } from './verify-attest.js'
export { verifyCertify } from './verify-certify.js'
export { verifyAttestationKey, verifyBindingKey, verifyEndorsementKey } from './verify-keys.js'
export { type Quote, type QuoteVerdict, verifyQuote } from './verify-quote.js'
