import type { CanonicalValue } from '../../core/canonical-json.js'

/** What happened to hosts and to what they are judged by; for people and programs that watch the site. */
export const EVENT_TYPES = [
  'host.enrolled',
  'host.trusted',
  'host.refused',
  'host.late',
  'host.rebooted',
  'host.resumed',
  'host.revoked',
  'host.removed',
  'guest.attested',
  'guest.refused',
  'guest.moved',
  'guest.revoked',
  'guest.removed',
  'guest-policy.set',
  'policy.activated',
  'policy.tokens-ended',
  'base-image.added',
  'base-image.removed',
  'reference-signer.added',
  'reference-signer.removed',
  'anchor.added',
  'anchor.removed',
  'revocation-list.added',
  'revocation-list.removed',
  'endorsement-key.added',
  'endorsement-key.removed',
  'revoked-key.added',
  'revoked-key.removed',
  'signing-key.rotated',
] as const

export type AttestationEventType = (typeof EVENT_TYPES)[number]

export interface NewEvent {
  readonly atMs: number
  readonly type: AttestationEventType
  readonly hostId?: string
  readonly cluster?: string
  readonly detail: { readonly [name: string]: CanonicalValue }
}

export interface StoredEvent extends NewEvent {
  /** Rises by at least one with each event. */
  readonly seq: number
}
