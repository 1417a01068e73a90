import { lengthPrefixed, utf8 } from '../core/bytes.js'
import { digestOf } from '../core/digest.js'

/** Everything that the quote of a guest must be bound to, as octets or text that both sides have. */
export interface GuestBinding {
  readonly nonce: Uint8Array
  readonly vmId: string
  /** Identifier of the attestation service, as it names itself with the nonce. */
  readonly verifier: string
  /** Out of the credential: whoever has it made the quote with the key that the credential was made for. */
  readonly secret: Uint8Array
  /** RFC 7638 thumbprint (SHA-256, base64url); absent where the guest gives no key. */
  readonly proofKeyThumbprint?: string | undefined
  /** The boot event log; absent where the guest gives none. */
  readonly eventLog?: Uint8Array | undefined
}

const DOMAIN = 'sigillo guest evidence v1'

/**
 * The 32 octets that the quote of a guest carries as qualifying data (`extraData`).
 *
 * Each part has its length before it, and an absent part differs from an empty one. The domain keeps the quote of a
 * guest from ever being one of a host.
 *
 * @see docs/guest-attestation.md
 */
export function guestEvidenceDigest(binding: GuestBinding): Uint8Array {
  const { proofKeyThumbprint, eventLog } = binding
  return digestOf(
    'sha256',
    lengthPrefixed(
      utf8(DOMAIN),
      binding.nonce,
      utf8(binding.vmId),
      utf8(binding.verifier),
      binding.secret,
      ...(proofKeyThumbprint ? [utf8('proof key'), utf8(proofKeyThumbprint)] : []),
      ...(eventLog ? [utf8('event log'), digestOf('sha256', eventLog)] : []),
    ),
  )
}
