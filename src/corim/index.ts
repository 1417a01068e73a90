export type { CborLimits } from './cbor.js'
export { readCorimKey } from './cose-signature.js'
export type { Digest } from './digests.js'
export type { Identifier } from './identifier.js'
export type {
  Corim,
  CorimTag,
  Entity,
  Environment,
  Measurement,
  ReferenceValue,
  Validity,
} from './manifest.js'
export { CORIM_LIMITS, CORIM_PROFILES, parseCorim } from './parse-corim.js'
export {
  type PcrReferenceValues,
  type PcrState,
  pcrReferenceValues,
} from './pcr-reference-values.js'
export {
  parseReferenceJson,
  type ReferenceBank,
  type ReferenceValuesFile,
  ReferenceValuesSchema,
} from './reference-json.js'
export { type CorimSigner, readCorimSigner, type SignerClaims } from './signed-corim.js'
export { type CorimVerdict, verifyCorimValidity, verifySignedCorim } from './verify-signed-corim.js'
