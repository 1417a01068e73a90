import { PlatformError } from '../../core/errors.js'
import type { SignatureAlgorithm } from '../../tokens/index.js'
import type {
  AttestationStore,
  AttestationTransaction,
  StoredSigningKey,
  StoredWebhook,
} from '../ports.js'
import { type Act, record } from './administration.js'
import { checkWebhookUrl, webhookSecretText } from './webhooks.js'

/** Longer than any token lives. */
const TOKEN_REMEMBERED_MS = 15 * 60 * 1000
const SECRET_OCTETS = 32
const MAX_WEBHOOKS = 32

export interface ResultsDeps {
  readonly store: AttestationStore
  readonly mode: 'production' | 'lab'
  readonly random: (octets: number) => Uint8Array
  readonly sealSecret: (webhookId: string, secret: Uint8Array) => Uint8Array
  /** Makes the key and runs `record` in one transaction. */
  readonly rotate: (
    algorithm: SignatureAlgorithm,
    nowMs: number,
    record: (tx: AttestationTransaction, kid: string) => Promise<void>,
  ) => Promise<StoredSigningKey>
}

/** What administrators do with tokens, signing keys and webhooks. Each act is one transaction with its audit record. */
export function createResults(deps: ResultsDeps) {
  const { store } = deps
  return {
    revokeToken: (act: Act, tokenId: string, reason: string) =>
      store.transaction(async (tx) => {
        const isNew = await tx.revokeToken(tokenId, act.nowMs + TOKEN_REMEMBERED_MS)
        if (!isNew) throw new PlatformError('CONFLICT', `token ${tokenId} is revoked already`)
        await record(tx, act, 'token.revoke', `token:${tokenId}`, { reason })
      }),

    rotateSigningKey: (act: Act, algorithm: SignatureAlgorithm) =>
      deps.rotate(algorithm, act.nowMs, async (tx, kid) => {
        await tx.addEvent({
          atMs: act.nowMs,
          type: 'signing-key.rotated',
          detail: { kid, algorithm, operator: act.operator },
        })
        await record(tx, act, 'signing-key.rotate', `signing-key:${kid}`, { algorithm })
      }),

    createWebhook: (act: Act, request: { readonly webhookId: string; readonly url: string }) =>
      store.transaction(async (tx) => {
        const { webhookId } = request
        if ((await tx.listWebhooks()).length >= MAX_WEBHOOKS) {
          throw new PlatformError('CONFLICT', `expected at most ${MAX_WEBHOOKS} webhooks`)
        }
        const secret = deps.random(SECRET_OCTETS)
        try {
          const webhook: StoredWebhook = {
            webhookId,
            url: checkWebhookUrl(request.url, deps.mode),
            sealedSecret: deps.sealSecret(webhookId, secret),
            deliveredSeq: await tx.newestEvent(),
            failures: 0,
            nextTryMs: 0,
            createdAtMs: act.nowMs,
          }
          await tx.insertWebhook(webhook)
          const { host } = new URL(webhook.url)
          await record(tx, act, 'webhook.create', `webhook:${webhookId}`, { host })
          return { secret: webhookSecretText(secret), webhook }
        } finally {
          secret.fill(0)
        }
      }),

    removeWebhook: (act: Act, webhookId: string) =>
      store.transaction(async (tx) => {
        if (!(await tx.removeWebhook(webhookId))) {
          throw new PlatformError('NOT_FOUND', `no webhook ${webhookId}`)
        }
        await record(tx, act, 'webhook.remove', `webhook:${webhookId}`, {})
      }),
  }
}

export type Results = ReturnType<typeof createResults>
