import { lengthPrefixed, utf8 } from '../../core/bytes.js'

/** What the secrets of webhooks are sealed for. */
export const WEBHOOK_PURPOSE = 'webhook-secret'

export function webhookContext(webhookId: string): Uint8Array {
  return lengthPrefixed(utf8('attestation'), utf8(webhookId))
}
