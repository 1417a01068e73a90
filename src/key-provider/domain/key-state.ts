import { PlatformError } from '../../core/errors.js'

/**
 * States of a primary key, as NIST SP 800-57 Part 1 Rev. 5, section 7, has them.
 *
 * `pre-active`: made, not used yet. `active`: wraps and unwraps. `deactivated`: unwraps. `compromised`: somebody else may
 * know it; unwraps only where the provider's settings say so, for the keys to be wrapped anew. `destroyed`: gone for good.
 */
export const KEY_STATES = [
  'pre-active',
  'active',
  'deactivated',
  'compromised',
  'destroyed',
] as const
export type KeyState = (typeof KEY_STATES)[number]

/** Where a state leads. What is not here is refused: no key becomes trusted again. */
const TRANSITIONS: Readonly<Record<KeyState, readonly KeyState[]>> = {
  'pre-active': ['active', 'compromised', 'destroyed'],
  active: ['deactivated', 'compromised'],
  deactivated: ['compromised', 'destroyed'],
  compromised: ['destroyed'],
  destroyed: [],
}

/** @throws PlatformError `KEY_STATE` */
export function requireTransition(version: number, from: KeyState, to: KeyState): void {
  if (TRANSITIONS[from].includes(to)) return
  const allowed = TRANSITIONS[from].join(' or ') || 'no other state'
  throw new PlatformError(
    'KEY_STATE',
    `version ${version} is ${from}: expected ${allowed}, found ${to}`,
  )
}
