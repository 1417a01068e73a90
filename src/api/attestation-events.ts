import { type Static, Type } from 'typebox'
import { Empty, Exactly, Name, Next, NumberedPageQuery, PageQuery, Time, Uuid } from './common.js'
import { onSite } from './needs.js'
import { operation } from './operation.js'

const BASE = '/attestation/v1'

export const AttestationEventView = Exactly({
  seq: Type.Integer(),
  at: Time,
  type: Type.String({ description: 'host.trusted, host.refused, host.late, policy.activated, …' }),
  hostId: Type.Optional(Name),
  cluster: Type.Optional(Name),
  detail: Type.Record(Type.String(), Type.Unknown()),
})
export type AttestationEventView = Static<typeof AttestationEventView>

export const listAttestationEvents = operation({
  id: 'listAttestationEvents',
  needs: onSite('TrustedAdmin.ReadTrustedHosts'),
  summary: 'Events, oldest first',
  method: 'GET',
  path: `${BASE}/events`,
  status: 200,
  query: Exactly(NumberedPageQuery),
  answer: Exactly({ events: Type.Array(AttestationEventView), next: Next }),
})

/** Server-Sent Events: not a JSON answer, and so not an operation. */
export const ATTESTATION_EVENT_STREAM = {
  id: 'streamAttestationEvents',
  needs: onSite('TrustedAdmin.ReadTrustedHosts'),
  summary: 'Events as they happen, as Server-Sent Events',
  path: `${BASE}/events/stream`,
} as const

export const WebhookView = Exactly({
  webhookId: Uuid,
  url: Type.String(),
  deliveredSeq: Type.Integer({ description: 'every event up to this one was delivered' }),
  failures: Type.Integer({ description: 'in a row' }),
  nextTryAt: Type.Optional(Time),
  lastError: Type.Optional(Type.String()),
  createdAt: Time,
})

export const createWebhook = operation({
  id: 'createWebhook',
  needs: onSite('TrustedAdmin.ManageTrustedHosts'),
  summary: 'Have events delivered to a URL, signed; the secret is shown once',
  method: 'POST',
  path: `${BASE}/webhooks`,
  status: 201,
  body: Exactly({ url: Type.String({ maxLength: 2000 }) }),
  answer: Exactly({ secret: Type.String(), webhook: WebhookView }),
})

export const listWebhooks = operation({
  id: 'listWebhooks',
  needs: onSite('TrustedAdmin.ReadTrustedHosts'),
  summary: 'Webhooks, and how far each came',
  method: 'GET',
  path: `${BASE}/webhooks`,
  status: 200,
  query: Exactly(PageQuery),
  answer: Exactly({ webhooks: Type.Array(WebhookView), next: Next }),
})

export const removeWebhook = operation({
  id: 'removeWebhook',
  needs: onSite('TrustedAdmin.ManageTrustedHosts'),
  summary: 'Deliver events to a URL no longer',
  method: 'DELETE',
  path: `${BASE}/webhooks/:webhookId`,
  status: 200,
  params: Exactly({ webhookId: Uuid }),
  answer: Empty,
})
