import type { Dispatcher } from 'undici'
import { messageOf, PlatformError } from '../../core/errors.js'
import type { Logger } from '../../core/logger.js'
import type { RootKey } from '../../store/index.js'
import { signDelivery, webhookRetryMs } from '../domain/webhooks.js'
import type { AttestationStore, StoredWebhook } from '../ports.js'
import { WEBHOOK_PURPOSE, webhookContext } from './webhook-seal.js'

const TIMEOUT_MS = 10_000
/** Events that one webhook gets in one round: the others wait for the next. */
const PER_ROUND = 50

/**
 * Brings events to the webhooks that are due, each in order, and remembers how far it came.
 *
 * An event that a receiver does not accept (anything but 2xx) is tried again later, and those after it wait. What was
 * delivered and not yet remembered when the process ended comes again.
 */
export async function deliverWebhooks(
  deps: {
    readonly store: AttestationStore
    readonly rootKey: RootKey
    readonly issuer: string
    readonly dispatcher: Dispatcher
    readonly logger: Logger
  },
  nowMs: number,
): Promise<void> {
  const due = await deps.store.transaction((tx) => tx.listDueWebhooks(nowMs))
  for (const webhook of due) await deliverTo(deps, webhook, nowMs)
}

async function deliverTo(
  deps: Parameters<typeof deliverWebhooks>[0],
  webhook: StoredWebhook,
  nowMs: number,
): Promise<void> {
  const { store, logger } = deps
  const { webhookId } = webhook
  const events = await store.transaction((tx) => tx.listEvents(webhook.deliveredSeq, PER_ROUND))
  using secret = deps.rootKey.open(WEBHOOK_PURPOSE, webhookContext(webhookId), webhook.sealedSecret)
  for (const event of events) {
    try {
      const { issuer } = deps
      const delivery = secret.use((octets) =>
        signDelivery(event, { secret: octets, issuer, nowMs }),
      )
      await send(deps.dispatcher, webhook.url, delivery)
    } catch (error) {
      const failures = webhook.failures + 1
      const nextTryMs = nowMs + webhookRetryMs(failures)
      const lastError = messageOf(error).slice(0, 500)
      logger.warn({ event: 'webhook.failed', webhookId, failures, err: error }, 'not delivered')
      await store.transaction((tx) =>
        tx.webhookFailed(webhookId, { failures, nextTryMs, lastError }),
      )
      return
    }
    await store.transaction((tx) => tx.webhookDelivered(webhookId, event.seq))
  }
}

async function send(
  dispatcher: Dispatcher,
  url: string,
  { body, headers }: { readonly body: string; readonly headers: Readonly<Record<string, string>> },
): Promise<void> {
  const { origin, pathname, search } = new URL(url)
  const answer = await dispatcher.request({
    origin,
    path: pathname + search,
    method: 'POST',
    headers,
    body,
    signal: AbortSignal.timeout(TIMEOUT_MS),
  })
  await answer.body.dump({ limit: 64 * 1024 })
  if (answer.statusCode < 200 || answer.statusCode > 299) {
    throw new PlatformError('UNAVAILABLE', `expected status 2xx, found ${answer.statusCode}`)
  }
}
