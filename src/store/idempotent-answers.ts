import type { Transaction } from 'kysely'
import { lengthPrefixed, parseUtf8, utf8 } from '../core/bytes.js'
import type { Clock } from '../core/clock.js'
import type { RootKey } from './root-key.js'
import type { Store } from './store.js'
import type { FoundationTables } from './tables.js'

type Tx = Transaction<FoundationTables>

/** What answers are sealed for. */
export const ANSWER_PURPOSE = 'idempotent-answer'
const REMEMBERED_MS = 24 * 3_600_000

/**
 * Answers of a service that callers may ask for again within a day, sealed under its root key: some hold a secret that
 * is shown once.
 */
export function idempotentAnswers(
  store: Store,
  options: { readonly service: string; readonly rootKey: RootKey; readonly clock: Clock },
) {
  const { service, rootKey, clock } = options
  const context = (scope: string, key: string) => answerContext(service, scope, key)
  return {
    begin: (scope: string, key: string, requestDigest: string) =>
      store.transaction(async (tx: Tx) => {
        const nowMs = clock.nowMs()
        await tx.deleteFrom('idempotent_answers').where('expires_at_ms', '<', nowMs).execute()
        const row = await tx
          .selectFrom('idempotent_answers')
          .selectAll()
          .where('service', '=', service)
          .where('scope', '=', scope)
          .where('key', '=', key)
          .executeTakeFirst()
        if (!row) {
          await tx
            .insertInto('idempotent_answers')
            .values({
              ...{ service, scope, key, sealed: null },
              request_digest: requestDigest,
              expires_at_ms: nowMs + REMEMBERED_MS,
            })
            .execute()
          return 'new' as const
        }
        if (row.request_digest !== requestDigest) return 'other' as const
        if (row.sealed === null) return 'open' as const
        using secret = rootKey.open(ANSWER_PURPOSE, context(scope, key), new Uint8Array(row.sealed))
        return { answer: secret.use((octets) => JSON.parse(parseUtf8(octets)) as unknown) }
      }),

    finish: async (scope: string, key: string, answer: unknown): Promise<void> => {
      const octets = utf8(JSON.stringify(answer))
      const sealed = rootKey.seal(ANSWER_PURPOSE, context(scope, key), octets)
      octets.fill(0)
      await store.transaction((tx: Tx) =>
        tx
          .updateTable('idempotent_answers')
          .set({ sealed })
          .where('service', '=', service)
          .where('scope', '=', scope)
          .where('key', '=', key)
          .execute(),
      )
    },

    abandon: async (scope: string, key: string): Promise<void> => {
      await store.transaction((tx: Tx) =>
        tx
          .deleteFrom('idempotent_answers')
          .where('service', '=', service)
          .where('scope', '=', scope)
          .where('key', '=', key)
          .where('sealed', 'is', null)
          .execute(),
      )
    },
  }
}

export function answerContext(service: string, scope: string, key: string): Uint8Array {
  return lengthPrefixed(utf8(service), utf8(scope), utf8(key))
}
