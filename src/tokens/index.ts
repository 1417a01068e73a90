export {
  type AttestationResultExpectations,
  peekAttestationResult,
  signAttestationResult,
  type UnverifiedToken,
  verifyAttestationResult,
} from './attestation-result.js'
export {
  ATTESTATION_RESULT_PROFILE,
  type AttestationResultClaims,
  MAX_TOKEN_LIFETIME_SECONDS,
} from './attestation-result-claims.js'
export {
  createDpopProof,
  type DpopExpectations,
  type DpopProof,
  type DpopProofInput,
  MAX_PROOF_AGE_SECONDS,
  verifyDpopProof,
} from './dpop.js'
export { TokenError, type TokenErrorCode } from './errors.js'
export {
  type GuestResult,
  type GuestResultExpectations,
  signGuestResult,
  verifyGuestResult,
} from './guest-result.js'
export { GUEST_RESULT_PROFILE, type GuestResultClaims } from './guest-result-claims.js'
export { MAX_SKEW_SECONDS } from './issued-token.js'
export {
  decryptSession,
  decryptWithContentKey,
  encryptToBindingKey,
  encryptToSession,
} from './jwe.js'
export {
  kidOfOutsideToken,
  OUTSIDE_ALGORITHMS,
  type OutsideAlgorithm,
  type OutsideKeys,
  readOutsideKeys,
  verifyOutsideToken,
} from './outside-token.js'
export { createPlacement, type Placement, verifyPlacement } from './placement.js'
export {
  jwkThumbprint,
  type PublicJwk,
  parsePublicJwk,
  type SignatureAlgorithm,
} from './public-key.js'
export { type AnswerSealer, sealAnswer } from './sealed-answer.js'
export {
  exportSigningKey,
  generateSessionKeys,
  generateSigningKey,
  importSigningKey,
  type PublishedJwk,
  type PublishedJwks,
  publicJwks,
  type SessionKey,
  type SessionKeys,
  type SigningKey,
} from './signing-key.js'
export { importJwks, type VerificationKey, type VerificationKeys } from './verification-keys.js'
