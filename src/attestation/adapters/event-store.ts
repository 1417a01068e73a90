import type { Selectable, Transaction } from 'kysely'
import type { CanonicalValue } from '../../core/canonical-json.js'
import type { AttestationEventType } from '../domain/events.js'
import type { AttestationTransaction, StoredWebhook } from '../ports.js'
import type { AttestationTables } from './tables.js'

type EventsAndWebhooks = Pick<
  AttestationTransaction,
  | 'addEvent'
  | 'listEvents'
  | 'newestEvent'
  | 'purgeEvents'
  | 'listWebhooks'
  | 'listDueWebhooks'
  | 'insertWebhook'
  | 'removeWebhook'
  | 'webhookDelivered'
  | 'webhookFailed'
>

/** Events, and the webhooks that they are delivered to. */
export function eventsAndWebhooks<T extends AttestationTables>(
  transaction: Transaction<T>,
): EventsAndWebhooks {
  const tx = transaction as unknown as Transaction<AttestationTables>
  const webhooks = () => tx.selectFrom('attestation_webhooks').selectAll().orderBy('created_at_ms')
  const newestEvent = async (): Promise<number> => {
    const row = await tx
      .selectFrom('attestation_events')
      .select('seq')
      .orderBy('seq', 'desc')
      .limit(1)
      .executeTakeFirst()
    return row?.seq ?? 0
  }
  return {
    async addEvent(event) {
      await tx
        .insertInto('attestation_events')
        .values({
          at_ms: event.atMs,
          type: event.type,
          host_id: event.hostId ?? null,
          cluster: event.cluster ?? null,
          detail: JSON.stringify(event.detail),
        })
        .execute()
    },

    async listEvents(afterSeq, limit) {
      const rows = await tx
        .selectFrom('attestation_events')
        .selectAll()
        .where('seq', '>', afterSeq)
        .orderBy('seq')
        .limit(limit)
        .execute()
      return rows.map((row) => ({
        seq: row.seq,
        atMs: row.at_ms,
        type: row.type as AttestationEventType,
        ...(row.host_id === null ? {} : { hostId: row.host_id }),
        ...(row.cluster === null ? {} : { cluster: row.cluster }),
        detail: JSON.parse(row.detail) as { [name: string]: CanonicalValue },
      }))
    },

    newestEvent,

    async purgeEvents(keep) {
      const last = (await newestEvent()) - keep
      if (last > 0) await tx.deleteFrom('attestation_events').where('seq', '<=', last).execute()
    },

    async listWebhooks() {
      return (await webhooks().execute()).map(storedWebhook)
    },

    async listDueWebhooks(nowMs) {
      const newest = await newestEvent()
      const rows = await webhooks()
        .where('next_try_ms', '<=', nowMs)
        .where('delivered_seq', '<', newest)
        .execute()
      return rows.map(storedWebhook)
    },

    async insertWebhook(webhook) {
      await tx
        .insertInto('attestation_webhooks')
        .values({
          webhook_id: webhook.webhookId,
          url: webhook.url,
          sealed_secret: webhook.sealedSecret,
          delivered_seq: webhook.deliveredSeq,
          failures: webhook.failures,
          next_try_ms: webhook.nextTryMs,
          last_error: webhook.lastError ?? null,
          created_at_ms: webhook.createdAtMs,
        })
        .execute()
    },

    async removeWebhook(webhookId) {
      const result = await tx
        .deleteFrom('attestation_webhooks')
        .where('webhook_id', '=', webhookId)
        .executeTakeFirst()
      return result.numDeletedRows > 0n
    },

    async webhookDelivered(webhookId, seq) {
      await tx
        .updateTable('attestation_webhooks')
        .set({ delivered_seq: seq, failures: 0, next_try_ms: 0, last_error: null })
        .where('webhook_id', '=', webhookId)
        .execute()
    },

    async webhookFailed(webhookId, { failures, nextTryMs, lastError }) {
      await tx
        .updateTable('attestation_webhooks')
        .set({ failures, next_try_ms: nextTryMs, last_error: lastError })
        .where('webhook_id', '=', webhookId)
        .execute()
    },
  }
}

function storedWebhook(row: Selectable<AttestationTables['attestation_webhooks']>): StoredWebhook {
  return {
    webhookId: row.webhook_id,
    url: row.url,
    sealedSecret: new Uint8Array(row.sealed_secret),
    deliveredSeq: row.delivered_seq,
    failures: row.failures,
    nextTryMs: row.next_try_ms,
    ...(row.last_error === null ? {} : { lastError: row.last_error }),
    createdAtMs: row.created_at_ms,
  }
}
