import type { FastifyRequest } from 'fastify'
import {
  ATTESTATION_EVENT_STREAM,
  createWebhook,
  listAttestationEvents,
  listWebhooks,
  removeWebhook,
} from '../../api/attestation-events.js'
import {
  introspectToken,
  listSigningKeys,
  revokeToken,
  rotateSigningKey,
} from '../../api/tokens.js'
import type { Clock } from '../../core/clock.js'
import { isoTime } from '../../core/clock.js'
import { pageOf, readPage } from '../../core/page.js'
import { newUuid } from '../../core/random.js'
import { type App, addEventStream, addOperation, type CallerAccess } from '../../http/index.js'
import type { SigningKeys } from '../adapters/signing-keys.js'
import { type Introspection, introspect } from '../domain/introspection.js'
import type { Results } from '../domain/results.js'
import { eventView } from '../domain/webhooks.js'
import type { AttestationStore, StoredSigningKey, StoredWebhook } from '../ports.js'

const SERVICE = 'attestation'
const FOR_PEOPLE = { access: { people: SERVICE } } as const
const EVENTS_AT_ONCE = 200

/** Tokens after they were issued, the keys that sign them, and events. */
export function addResultRoutes(
  app: App,
  deps: {
    readonly store: AttestationStore
    readonly results: Results
    readonly signingKeys: SigningKeys
    readonly issuer: string
    readonly audiences: readonly string[]
    readonly callers: CallerAccess
    readonly clock: Clock
  },
): void {
  const { store, results, signingKeys, clock } = deps
  const actOf = (request: FastifyRequest) => deps.callers.actOf(request, clock.nowMs())

  addOperation(app, introspectToken, FOR_PEOPLE, async ({ body }) =>
    introspectionView(
      await introspect(
        {
          store,
          keys: () => signingKeys.verificationKeys(),
          issuer: deps.issuer,
          audiences: deps.audiences,
        },
        body.token,
        clock.nowMs(),
      ),
    ),
  )
  addOperation(app, revokeToken, FOR_PEOPLE, async ({ params, body, request }) => {
    await results.revokeToken(actOf(request), params.tokenId, body.reason)
    return {}
  })

  addOperation(app, listSigningKeys, FOR_PEOPLE, async ({ query }) => {
    const { items, ...next } = await pageOf(signingKeys.list(), query, ({ kid }) => kid)
    return { keys: items.map(signingKeyView), ...next }
  })
  addOperation(app, rotateSigningKey, FOR_PEOPLE, async ({ body, request }) =>
    signingKeyView(await results.rotateSigningKey(actOf(request), body.algorithm ?? 'ES256')),
  )

  addOperation(app, listAttestationEvents, FOR_PEOPLE, async ({ query }) => {
    const { items, ...next } = await store.transaction((tx) =>
      readPage(
        query,
        ({ after, limit }) => tx.listEvents(Number(after ?? 0), limit ?? EVENTS_AT_ONCE),
        ({ seq }) => String(seq),
      ),
    )
    return { events: items.map(eventView), ...next }
  })
  addEventStream(app, {
    ...ATTESTATION_EVENT_STREAM,
    access: { needs: ATTESTATION_EVENT_STREAM.needs, service: SERVICE },
    newestId: () => store.transaction((tx) => tx.newestEvent()),
    eventsAfter: async (seq) =>
      (await store.transaction((tx) => tx.listEvents(seq, EVENTS_AT_ONCE))).map((event) => ({
        id: event.seq,
        type: event.type,
        data: eventView(event),
      })),
  })

  addOperation(app, createWebhook, FOR_PEOPLE, async ({ body, request }) => {
    const { secret, webhook } = await results.createWebhook(actOf(request), {
      webhookId: newUuid(),
      url: body.url,
    })
    return { secret, webhook: webhookView(webhook) }
  })
  addOperation(app, listWebhooks, FOR_PEOPLE, async ({ query }) => {
    const all = await store.transaction((tx) => tx.listWebhooks())
    const { items, ...next } = await pageOf(all, query, ({ webhookId }) => webhookId)
    return { webhooks: items.map(webhookView), ...next }
  })
  addOperation(app, removeWebhook, FOR_PEOPLE, async ({ params, request }) => {
    await results.removeWebhook(actOf(request), params.webhookId)
    return {}
  })
}

function introspectionView(introspection: Introspection) {
  return introspection.active
    ? { active: true, claims: { ...introspection.claims } }
    : { ...introspection }
}

function signingKeyView({ kid, algorithm, createdAtMs, retiredAtMs }: StoredSigningKey) {
  return {
    kid,
    algorithm,
    createdAt: isoTime(createdAtMs),
    ...(retiredAtMs === undefined ? {} : { retiredAt: isoTime(retiredAtMs) }),
  }
}

function webhookView(webhook: StoredWebhook) {
  return {
    webhookId: webhook.webhookId,
    url: webhook.url,
    deliveredSeq: webhook.deliveredSeq,
    failures: webhook.failures,
    ...(webhook.failures === 0 ? {} : { nextTryAt: isoTime(webhook.nextTryMs) }),
    ...(webhook.lastError === undefined ? {} : { lastError: webhook.lastError }),
    createdAt: isoTime(webhook.createdAtMs),
  }
}
