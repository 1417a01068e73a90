import { createHash } from 'node:crypto'
import type { Kysely, Transaction } from 'kysely'
import { EvidenceBundle } from '../../api/hosts.js'
import { equalBytes } from '../../core/bytes.js'
import { jsonText, keptQuery, type Parameters } from '../../store/index.js'
import type { AttestationTransaction } from '../ports.js'
import type { AttestationTables } from './tables.js'

type Bundles = Pick<AttestationTransaction, 'findBundle' | 'listBundles' | 'addBundle'> & {
  removeBundles(hostId: string): Promise<void>
}

const readBundle = jsonText(EvidenceBundle)

/**
 * Bundles of evidence. The event log, most of a bundle, is kept apart and once, under its SHA-256: hosts bring the same
 * log again until they boot, and hosts of one kind often have the same.
 */
export function bundles<T extends AttestationTables>(transaction: Transaction<T>): Bundles {
  const tx = transaction as unknown as Transaction<AttestationTables>

  const removeUnusedLogs = async (digests: readonly (Uint8Array | null)[]): Promise<void> => {
    for (const digest of digests) {
      if (!digest) continue
      await tx
        .deleteFrom('attestation_event_logs')
        .where('digest', '=', digest)
        .where('digest', 'not in', (bundle) =>
          bundle
            .selectFrom('attestation_bundles')
            .select('log_digest')
            .where('log_digest', '=', digest)
            .$castTo<{ log_digest: Uint8Array }>(),
        )
        .execute()
    }
  }

  return {
    async findBundle(hostId, bundleId) {
      const newest = tx
        .selectFrom('attestation_bundles as bundle')
        .leftJoin('attestation_event_logs as log', 'log.digest', 'bundle.log_digest')
        .select(['bundle.bundle as bundle', 'log.log as log'])
        .where('bundle.host_id', '=', hostId)
        .orderBy('bundle.at_ms', 'desc')
        .orderBy('bundle.bundle_id')
        .limit(1)
      const row = await (bundleId === undefined
        ? newest
        : newest.where('bundle.bundle_id', '=', bundleId)
      ).executeTakeFirst()
      if (!row) return undefined
      const { evidence, ...rest } = readBundle(row.bundle)
      return { ...rest, evidence: row.log === null ? evidence : { ...evidence, eventLog: row.log } }
    },

    async listBundles(hostId, { after, limit }) {
      let query = tx
        .selectFrom('attestation_bundles')
        .select(['bundle_id', 'at_ms'])
        .where('host_id', '=', hostId)
        .orderBy('at_ms', 'desc')
        .orderBy('bundle_id')
      if (after !== undefined) {
        const [atMs = '', bundleId = ''] = after.split('/')
        query = query.where((row) =>
          row.or([
            row('at_ms', '<', Number(atMs)),
            row.and([row('at_ms', '=', Number(atMs)), row('bundle_id', '>', bundleId)]),
          ]),
        )
      }
      if (limit !== undefined) query = query.limit(limit)
      const rows = await query.execute()
      return rows.map((row) => ({ bundleId: row.bundle_id, atMs: row.at_ms }))
    },

    async addBundle(bundle, keep) {
      const { eventLog, ...evidence } = bundle.evidence
      const { bundleId, hostId } = bundle
      const digest = eventLog === undefined ? null : digestOf(eventLog)
      if (eventLog !== undefined && digest) {
        const { rows } = await selectLog(tx, { digest })
        if (rows.length === 0) await insertLog(tx, { digest, log: eventLog })
      }
      await insertBundle(tx, {
        bundleId,
        hostId,
        atMs: Date.parse(bundle.verdict.at),
        bundle: JSON.stringify({ ...bundle, evidence }),
        digest,
      })
      const { rows: removed } = await deleteOldest(tx, { hostId, keep })
      const others = removed
        .map(({ log_digest }) => log_digest)
        .filter((other) => !(digest && other && equalBytes(digest, other)))
      await removeUnusedLogs(others)
    },

    async removeBundles(hostId) {
      const removed = await tx
        .deleteFrom('attestation_bundles')
        .where('host_id', '=', hostId)
        .returning('log_digest')
        .execute()
      await removeUnusedLogs(removed.map(({ log_digest }) => log_digest))
    },
  }
}

interface Log {
  readonly digest: Uint8Array
}

const selectLog = keptQuery((db: Kysely<AttestationTables>, parameter: Parameters<Log>) =>
  db
    .selectFrom('attestation_event_logs')
    .select('digest')
    .where('digest', '=', parameter('digest')),
)

const insertLog = keptQuery(
  (db: Kysely<AttestationTables>, parameter: Parameters<Log & { readonly log: string }>) =>
    db
      .insertInto('attestation_event_logs')
      .values({ digest: parameter('digest'), log: parameter('log') }),
)

const insertBundle = keptQuery(
  (
    db: Kysely<AttestationTables>,
    parameter: Parameters<{
      readonly bundleId: string
      readonly hostId: string
      readonly atMs: number
      readonly bundle: string
      readonly digest: Uint8Array | null
    }>,
  ) =>
    db.insertInto('attestation_bundles').values({
      bundle_id: parameter('bundleId'),
      host_id: parameter('hostId'),
      at_ms: parameter('atMs'),
      bundle: parameter('bundle'),
      log_digest: parameter('digest'),
    }),
)

const deleteOldest = keptQuery(
  (
    db: Kysely<AttestationTables>,
    parameter: Parameters<{ readonly hostId: string; readonly keep: number }>,
  ) =>
    db
      .deleteFrom('attestation_bundles')
      .where('host_id', '=', parameter('hostId'))
      .where('bundle_id', 'not in', (row) =>
        row
          .selectFrom('attestation_bundles')
          .select('bundle_id')
          .where('host_id', '=', parameter('hostId'))
          .orderBy('at_ms', 'desc')
          .limit(parameter('keep')),
      )
      .returning('log_digest'),
)

function digestOf(text: string): Uint8Array {
  return new Uint8Array(createHash('sha256').update(text).digest())
}
