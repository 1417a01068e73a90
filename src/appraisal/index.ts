export { appraise, type EventLogReport } from './appraise.js'
export type { ReferenceValues } from './base-images.js'
export { bootQuestions } from './boot-rules.js'
export { bootView } from './boot-view.js'
export { verifyBundle } from './bundle.js'
export type { TpmClock } from './clock.js'
export {
  type DecodedEvidence,
  decodeEvidence,
  type IdentityVerdict,
  verifyEvidence,
} from './evidence.js'
export { type GuestBundleTrust, verifyGuestBundle } from './guest-bundle.js'
export {
  type DecodedGuestEvidence,
  decodeGuestEvidence,
  decodeGuestKeys,
  type GuestKeys,
  type GuestKeysVerdict,
  verifyGuestKeys,
  verifyGuestQuote,
} from './guest-evidence.js'
export { type GuestHostVerdict, verifyGuestHost } from './guest-host.js'
export {
  appraiseGuest,
  checkGuestPolicy,
  DEFAULT_GUEST_POLICY,
  guestPolicyDigest,
  rulesOfGuests,
} from './guest-policy.js'
export { appraiseIma, type ImaAppraisal, type ImaEvidence } from './ima.js'
export { checkPolicy, DEFAULT_POLICY, policyDigest } from './policy.js'
