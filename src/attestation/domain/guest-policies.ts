import type { GuestPolicy, GuestPolicyView } from '../../api/guests.js'
import { checkGuestPolicy, DEFAULT_GUEST_POLICY, guestPolicyDigest } from '../../appraisal/index.js'
import { isoTime } from '../../core/clock.js'
import type { GuestTransaction, StoredGuestPolicy } from '../guest-ports.js'
import type { AttestationStore } from '../ports.js'
import { type Act, record, tell } from './administration.js'

/** What guests on hosts of a cluster must prove. Each change is one transaction with its audit record. */
export function createGuestPolicies({ store }: { readonly store: AttestationStore }) {
  return {
    get: (cluster: string) =>
      store.transaction(async (tx) => policyView(cluster, await guestPolicyOf(tx, cluster))),

    /** @throws PlatformError `POLICY_INVALID` */
    set: (act: Act, cluster: string, policy: GuestPolicy) =>
      store.transaction(async (tx) => {
        const before = await guestPolicyOf(tx, cluster)
        const after: StoredGuestPolicy = {
          revision: before.revision + 1,
          policy: checkGuestPolicy(policy),
          updatedAtMs: act.nowMs,
        }
        await tx.saveGuestPolicy(cluster, after)
        const detail = { revision: after.revision, digest: guestPolicyDigest(after.policy) }
        await tell(tx, act, 'guest-policy.set', { cluster, detail })
        await record(tx, act, 'guest-policy.set', `guest-policy:${cluster}`, {
          ...detail,
          before: guestPolicyDigest(before.policy),
        })
        return policyView(cluster, after)
      }),
  }
}

export type GuestPolicies = ReturnType<typeof createGuestPolicies>

/** The policy for guests of a cluster, or the default where none was set. */
export async function guestPolicyOf(
  tx: Pick<GuestTransaction, 'findGuestPolicy'>,
  cluster: string | undefined,
): Promise<StoredGuestPolicy> {
  const stored = cluster === undefined ? undefined : await tx.findGuestPolicy(cluster)
  return stored ?? { revision: 0, policy: DEFAULT_GUEST_POLICY, updatedAtMs: 0 }
}

function policyView(cluster: string, stored: StoredGuestPolicy): GuestPolicyView {
  return {
    cluster,
    revision: stored.revision,
    digest: guestPolicyDigest(stored.policy),
    ...(stored.updatedAtMs > 0 ? { updatedAt: isoTime(stored.updatedAtMs) } : {}),
    policy: stored.policy,
  }
}
