import { createHmac } from 'node:crypto'
import type { GuestEvidence, GuestPolicy } from '../../api/guests.js'
import { decodeGuestKeys, verifyGuestKeys } from '../../appraisal/index.js'
import { lengthPrefixed, timingSafeEqual, utf8 } from '../../core/bytes.js'
import { type Finding, failed, failures, passed } from '../../core/finding.js'
import type { Secret } from '../../core/secret.js'
import { makeCredential } from '../../tpm/index.js'
import type { AttestationStore } from '../ports.js'
import { guestPolicyOf } from './guest-policies.js'
import { refuseGuest } from './guest-refusal.js'
import { createNonce } from './nonce.js'
import { type EndorsementRules, storedTrust } from './trust.js'

export interface GuestChallenge {
  readonly nonce: Uint8Array
  readonly credentialBlob: Uint8Array
  readonly encryptedSecret: Uint8Array
  readonly policy: GuestPolicy
}

const SECRET_DOMAIN = 'sigillo guest credential v1'

/**
 * Gives a nonce, and in a credential a secret that only the virtual TPM with these two keys can open.
 *
 * Nothing is stored: the secret is a MAC over the nonce and both keys. A guest needs no state either; it may make another
 * attestation key each time.
 *
 * @throws PlatformError `ATTESTATION_REFUSED` where the keys are not those of a virtual TPM that was certified for this VM
 */
export async function challengeGuest(
  deps: {
    readonly store: AttestationStore
    readonly rules: EndorsementRules
    readonly nonceKey: Secret
  },
  request: Pick<GuestEvidence, 'vmId' | 'ekPublic' | 'ekCertificate' | 'akPublic'>,
  input: {
    /** 16 octets from the system's generator. */
    readonly random: Uint8Array
    readonly nowMs: number
  },
): Promise<GuestChallenge> {
  const { nowMs } = input
  const keys = decodeGuestKeys(request)
  const trust = await deps.store.transaction((tx) => storedTrust(tx, deps.rules, 'vms'))
  const verdict = verifyGuestKeys(keys, { trust, nowMs })
  if (failures(verdict.findings).length > 0) {
    return refuseGuest(deps.store, keys.vmId, nowMs, verdict.findings)
  }
  const { ek, akName, names } = verdict
  const { policy } = await deps.store.transaction(async (tx) =>
    guestPolicyOf(tx, names && (await tx.findHost(names.hostId))?.cluster),
  )
  return deps.nonceKey.use((key) => {
    const nonce = createNonce({
      key,
      hostId: nonceContext(keys.vmId),
      nowMs,
      random: input.random,
    })
    const secret = credentialSecret(key, { nonce, ekPublic: keys.ekPublic, akName })
    try {
      return { nonce, policy, ...makeCredential({ ek, akName, secret }) }
    } finally {
      secret.fill(0)
    }
  })
}

/** Checks that the guest had the secret of the credential for this nonce and these keys. */
export function verifyCredentialSecret(
  key: Uint8Array,
  credential: CredentialBinding,
  secret: Uint8Array,
): Finding {
  const expected = credentialSecret(key, credential)
  const isSame = secret.length === expected.length && timingSafeEqual(secret, expected)
  expected.fill(0)
  return isSame
    ? passed('credential')
    : failed('credential', 'GUEST_CREDENTIAL', 'the secret of the credential', 'another')
}

/** What a nonce is for: never the same as for a host, whose id has no colon. */
export function nonceContext(vmId: string): string {
  return `vm:${vmId}`
}

interface CredentialBinding {
  readonly nonce: Uint8Array
  readonly ekPublic: Uint8Array
  readonly akName: Uint8Array
}

function credentialSecret(
  key: Uint8Array,
  { nonce, ekPublic, akName }: CredentialBinding,
): Uint8Array {
  const hmac = createHmac('sha256', key)
  hmac.update(lengthPrefixed(utf8(SECRET_DOMAIN), nonce, ekPublic, akName))
  return new Uint8Array(hmac.digest())
}
