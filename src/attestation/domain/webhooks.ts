import { createHmac } from 'node:crypto'
import { view } from '../../core/bytes.js'
import { isoTime, secondsOf } from '../../core/clock.js'
import { PlatformError } from '../../core/errors.js'
import type { StoredEvent } from './events.js'

const SECRET_PREFIX = 'whsec_'
const FIRST_RETRY_MS = 1_000
const LONGEST_RETRY_MS = 3_600_000

/** One delivery: what is sent, and what proves who sent it. */
export interface Delivery {
  readonly body: string
  readonly headers: Readonly<Record<string, string>>
}

/** The text of a webhook's secret: what the receiver verifies deliveries with. */
export function webhookSecretText(octets: Uint8Array): string {
  return SECRET_PREFIX + view(octets).toString('base64')
}

/**
 * An event as it is delivered: signed with HMAC-SHA-256 over identifier, time and body.
 *
 * A receiver refuses times that are far from its own, and remembers identifiers: a delivery may come twice.
 *
 * @see Standard Webhooks, "Signature scheme"
 */
export function signDelivery(
  event: StoredEvent,
  options: { readonly secret: Uint8Array; readonly issuer: string; readonly nowMs: number },
): Delivery {
  const id = `evt_${event.seq}`
  const timestamp = String(secondsOf(options.nowMs))
  const body = JSON.stringify({
    type: event.type,
    timestamp: isoTime(event.atMs),
    data: { issuer: options.issuer, ...eventView(event) },
  })
  const mac = createHmac('sha256', options.secret).update(`${id}.${timestamp}.${body}`).digest()
  return {
    body,
    headers: {
      'content-type': 'application/json',
      'webhook-id': id,
      'webhook-timestamp': timestamp,
      'webhook-signature': `v1,${mac.toString('base64')}`,
    },
  }
}

/** An event as the API shows it. */
export function eventView(event: StoredEvent) {
  return {
    seq: event.seq,
    at: isoTime(event.atMs),
    type: event.type,
    ...(event.hostId === undefined ? {} : { hostId: event.hostId }),
    ...(event.cluster === undefined ? {} : { cluster: event.cluster }),
    detail: { ...event.detail },
  }
}

/** When to deliver again after a failure: doubling from a second to an hour. */
export function webhookRetryMs(failures: number): number {
  return Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(failures - 1, 20))
}

/**
 * The URL of a webhook: https; http only to this machine and only in a laboratory.
 *
 * @throws PlatformError `REQUEST_INVALID`
 */
export function checkWebhookUrl(text: string, mode: 'production' | 'lab'): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  const isLocal = mode === 'lab' && url?.protocol === 'http:' && url.hostname === '127.0.0.1'
  const isNamed = url?.username === '' && url.password === ''
  if (!(isNamed && (url.protocol === 'https:' || isLocal))) {
    throw new PlatformError('REQUEST_INVALID', 'expected an https URL without a user and password')
  }
  return url.href
}
