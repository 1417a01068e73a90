import type { STATE } from '../enumerations.js'
import { KmipRefusal } from './refusal.js'

/** @see KMIP 2.1 Specification, clause 4.53; NIST SP 800-57 Part 1, clause 7 */
export type KmipState = keyof typeof STATE

/** From where to where an object may go, and nowhere else. */
const TRANSITIONS: Readonly<Record<KmipState, readonly KmipState[]>> = {
  PreActive: ['Active', 'Compromised', 'Destroyed'],
  Active: ['Deactivated', 'Compromised'],
  Deactivated: ['Compromised', 'Destroyed'],
  Compromised: ['DestroyedCompromised'],
  Destroyed: ['DestroyedCompromised'],
  DestroyedCompromised: [],
}

/** The next state; throws `KMIP_REFUSED`, Wrong Key Lifecycle State, when the table does not have the step. */
export function movedTo(from: KmipState, to: KmipState): KmipState {
  if (TRANSITIONS[from].includes(to)) return to
  throw new KmipRefusal('WrongKeyLifecycleState', `an object that is ${from} cannot be ${to}`)
}

/** Dates at which an object moves by itself; seconds. */
export interface LifecycleDates {
  readonly activation: bigint | undefined
  readonly deactivation: bigint | undefined
}

/** The state after the moves that time has made. */
export function stateAt(state: KmipState, dates: LifecycleDates, now: bigint): KmipState {
  const { activation, deactivation } = dates
  let current = state
  if (current === 'PreActive' && activation !== undefined && activation <= now) {
    current = movedTo(current, 'Active')
  }
  if (current === 'Active' && deactivation !== undefined && deactivation <= now) {
    current = movedTo(current, 'Deactivated')
  }
  return current
}

export function isDestroyed(state: KmipState): boolean {
  return state === 'Destroyed' || state === 'DestroyedCompromised'
}
