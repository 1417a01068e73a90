export { type Assigned, type Compliance, complianceOf } from './compliance.js'
export {
  afterStep,
  describeStep,
  isAllowed,
  isAsWanted,
  type Obstacles,
  type PolicyStep,
  partsToOpen,
  planPolicyChange,
  requireNoObstacle,
} from './plan.js'
export {
  diskPart,
  nameOfPart,
  type PolicyPart,
  type VmProtection,
  type Wanted,
  type WantedParts,
} from './protection.js'
