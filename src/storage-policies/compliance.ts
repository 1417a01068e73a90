import { isAsWanted } from './plan.js'
import type { VmProtection, Wanted } from './protection.js'

/** The policy that a part of a VM was given, and the policy as it is now. */
export interface Assigned {
  readonly policy: string
  /** What was asked when it was given. */
  readonly given: Wanted
  /** What it asks now. */
  readonly now: Wanted
}

/**
 * - `compliant`: the part is as its policy asks.
 * - `out-of-date`: it is as the policy asked when it was given, and the policy was changed since: apply it again.
 * - `not-compliant`: it is not, and was not; the reason says how it differs.
 */
export type Compliance =
  | { readonly state: 'compliant' }
  | { readonly state: 'out-of-date'; readonly reason: string }
  | { readonly state: 'not-compliant'; readonly reason: string }

/** How the home, or the disk of this name, is beside its policy. */
export function complianceOf(
  vm: VmProtection,
  disk: string | undefined,
  { policy, given, now }: Assigned,
): Compliance {
  const encrypted =
    disk === undefined
      ? vm.provider !== undefined
      : vm.disks.some(({ name, encrypted }) => name === disk && encrypted)
  const provider = encrypted ? vm.provider : undefined
  if (isAsWanted(encrypted, provider, now)) return { state: 'compliant' }
  const found = encrypted ? `encrypted with ${provider}` : 'plain'
  if (isAsWanted(encrypted, provider, given)) {
    const reason = `policy ${policy} was changed: expected ${wordsOf(now)}, found ${found}; apply it again`
    return { state: 'out-of-date', reason }
  }
  return { state: 'not-compliant', reason: `expected ${wordsOf(now)}, found ${found}` }
}

function wordsOf({ encrypted, provider }: Wanted): string {
  if (!encrypted) return 'plain'
  return provider === undefined ? 'encrypted' : `encrypted with ${provider}`
}
