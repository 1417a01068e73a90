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
export { appraiseIma, type ImaAppraisal, type ImaEvidence } from './ima.js'
export { checkPolicy, DEFAULT_POLICY, policyDigest } from './policy.js'
