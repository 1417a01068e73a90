import type { AttestationStore } from '../ports.js'
import { policyOf } from './attestation.js'

/** Without a rule of the policy, a host is late when it has missed two tokens. */
const MISSED_TOKENS = 2

/**
 * Finds hosts that are trusted and have not attested in time; they are `late` from now on, and not served until they
 * attest again.
 *
 * @returns how many were found
 */
export async function markLateHosts(store: AttestationStore, nowMs: number): Promise<number> {
  return store.transaction(async (tx) => {
    let found = 0
    for (const { hostId, cluster, acceptedAtMs } of await tx.listTrustedHosts()) {
      const { policy, epoch } = await policyOf(tx, cluster)
      const maxAgeSeconds = policy.maxAgeSeconds ?? MISSED_TOKENS * policy.tokenTtlSeconds
      const ageSeconds = Math.floor((nowMs - acceptedAtMs) / 1000)
      if (ageSeconds <= maxAgeSeconds) continue
      await tx.setState({ hostId, cluster }, 'late', { newEpoch: false, policyEpoch: epoch, nowMs })
      await tx.addEvent({
        atMs: nowMs,
        type: 'host.late',
        hostId,
        cluster,
        detail: { ageSeconds, maxAgeSeconds },
      })
      await tx.audit({
        atMs: nowMs,
        actor: 'service',
        action: 'host.late',
        subject: `host:${hostId}`,
        outcome: 'done',
        detail: { ageSeconds, maxAgeSeconds },
      })
      found += 1
    }
    return found
  })
}
