import { PlatformError } from '../../core/errors.js'
import { describeFinding, type Finding, failures } from '../../core/finding.js'
import type { AttestationStore } from '../ports.js'

/** Refuses what a guest brought, after the audit has which checks failed: it changes nothing else. */
export async function refuseGuest(
  store: AttestationStore,
  vmId: string,
  nowMs: number,
  findings: readonly Finding[],
): Promise<never> {
  await store.transaction((tx) =>
    tx.audit({
      atMs: nowMs,
      actor: 'unknown',
      action: 'guest.attestation',
      subject: `vm:${vmId}`,
      outcome: 'refused',
      detail: { findings: failures(findings).map(describeFinding) },
    }),
  )
  throw guestRefused()
}

/** Always with the same words: which check failed is for administrators. */
export function guestRefused(): PlatformError {
  return new PlatformError('ATTESTATION_REFUSED', 'the evidence was not accepted')
}
