import { lengthPrefixed, utf8 } from '../core/bytes.js'
import { digestOf } from '../core/digest.js'

/** Everything that a quote must be bound to, as octets or text that both sides have. */
export interface EvidenceBinding {
  readonly nonce: Uint8Array
  readonly hostId: string
  /** Identifier of the attestation service, as it names itself with the nonce. */
  readonly verifier: string
  /** RFC 7638 thumbprints (SHA-256, base64url). */
  readonly proofKeyThumbprint: string
  readonly sessionKeyThumbprint: string
  /** Name of the binding key; absent where the host gives none. */
  readonly bindingKeyName?: Uint8Array | undefined
  /** The boot event log; absent where the host gives none. */
  readonly eventLog?: Uint8Array | undefined
}

const DOMAIN = 'sigillo evidence v1'
const DEVICE_DOMAIN = 'sigillo device enrolment v1'

/**
 * The 32 octets that a quote carries as qualifying data (`extraData`), and the certification of the binding key too.
 *
 * Each part has its length before it, and an absent part differs from an empty one, so no two bindings share a digest.
 *
 * @see RFC 9683, section 3 (freshness and binding of evidence); docs/protocol.md
 */
export function evidenceDigest(binding: EvidenceBinding): Uint8Array {
  const { bindingKeyName, eventLog } = binding
  return sha256(
    lengthPrefixed(
      utf8(DOMAIN),
      binding.nonce,
      utf8(binding.hostId),
      utf8(binding.verifier),
      utf8(binding.proofKeyThumbprint),
      utf8(binding.sessionKeyThumbprint),
      ...(bindingKeyName ? [utf8('binding key'), bindingKeyName] : []),
      ...(eventLog ? [utf8('event log'), sha256(eventLog)] : []),
    ),
  )
}

function sha256(octets: Uint8Array): Uint8Array {
  return digestOf('sha256', octets)
}

/**
 * The 32 octets that an initial attestation key certifies an attestation key with: bound to one host id and one ticket,
 * so that what it says is of use for one enrolment.
 */
export function deviceQualification(hostId: string, ticket: string): Uint8Array {
  return sha256(lengthPrefixed(utf8(DEVICE_DOMAIN), utf8(hostId), utf8(ticket)))
}
