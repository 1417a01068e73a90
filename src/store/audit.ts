import { createHash } from 'node:crypto'
import type { Transaction } from 'kysely'
import { type CanonicalValue, canonicalJson } from '../core/canonical-json.js'
import { type Finding, failed, passed } from '../core/finding.js'
import type { Store } from './store.js'
import type { FoundationTables } from './tables.js'

export type AuditOutcome = 'allowed' | 'refused' | 'done'

/** A security decision, as it is to be recorded. */
export interface AuditEntry {
  /** Which chain: one for each service. */
  readonly chain: string
  readonly atMs: number
  /** `operator:<name>`, `host:<id>` or `unknown`. */
  readonly actor: string
  /** What was asked for: `host.revoke`. */
  readonly action: string
  /** What it was about: `host:host-a`. */
  readonly subject: string
  readonly outcome: AuditOutcome
  /** Never a secret. */
  readonly detail: { readonly [name: string]: CanonicalValue }
}

export interface AuditRecord extends AuditEntry {
  /** From 1, without gaps. */
  readonly seq: number
  /** SHA-256 over the record and the hash of the one before, hexadecimal. */
  readonly hash: string
}

const DOMAIN = 'sigillo audit v1'
/** What stands for the hash before the first record. */
const GENESIS = '0'.repeat(64)
const PAGE = 1000

/** Appends a record to its chain, in the caller's transaction: what is not recorded does not happen. */
export async function appendAudit(
  tx: Transaction<FoundationTables>,
  entry: AuditEntry,
): Promise<{ readonly seq: number; readonly hash: string }> {
  const last = await tx
    .selectFrom('audit_records')
    .select(['seq', 'hash'])
    .where('chain', '=', entry.chain)
    .orderBy('seq', 'desc')
    .limit(1)
    .executeTakeFirst()
  const seq = (last?.seq ?? 0) + 1
  const hash = hashOf({ ...entry, seq }, last?.hash ?? GENESIS)
  await tx
    .insertInto('audit_records')
    .values({
      chain: entry.chain,
      seq,
      at_ms: entry.atMs,
      actor: entry.actor,
      action: entry.action,
      subject: entry.subject,
      outcome: entry.outcome,
      detail: canonicalJson(entry.detail),
      hash,
    })
    .execute()
  return { seq, hash }
}

/** Records of a chain in order, after `afterSeq`. */
export async function listAudit(
  store: Store,
  query: {
    readonly chain: string
    readonly afterSeq?: number | undefined
    readonly limit?: number | undefined
    readonly subject?: string | undefined
  },
): Promise<readonly AuditRecord[]> {
  let select = store
    .tables<FoundationTables>()
    .selectFrom('audit_records')
    .selectAll()
    .where('chain', '=', query.chain)
    .where('seq', '>', query.afterSeq ?? 0)
    .orderBy('seq')
    .limit(Math.min(query.limit ?? 100, PAGE))
  if (query.subject !== undefined) select = select.where('subject', '=', query.subject)
  return (await select.execute()).map((row) => ({
    chain: row.chain,
    seq: row.seq,
    atMs: row.at_ms,
    actor: row.actor,
    action: row.action,
    subject: row.subject,
    outcome: row.outcome,
    detail: JSON.parse(row.detail) as AuditRecord['detail'],
    hash: row.hash,
  }))
}

export interface AuditVerdict {
  readonly records: number
  /** Hash of the last record: kept elsewhere, it shows later whether the end was cut off. */
  readonly head: string
  readonly findings: readonly Finding[]
}

/**
 * Recomputes a chain: finds any record that was changed, removed, added or moved.
 *
 * That the end was cut off is found only with `expectedHead`, a hash that was kept elsewhere. One finding is reported
 * for the first record that does not fit, since nothing after it can be judged.
 */
export async function verifyAudit(
  store: Store,
  chain: string,
  expectedHead?: string,
): Promise<AuditVerdict> {
  let hash = GENESIS
  let seq = 0
  let headSeen = expectedHead === undefined || expectedHead === GENESIS
  for (;;) {
    const page = await listAudit(store, { chain, afterSeq: seq, limit: PAGE })
    for (const record of page) {
      const expected = hashOf({ ...record, seq: seq + 1 }, hash)
      if (record.seq !== seq + 1 || record.hash !== expected) {
        const finding = failed(
          'audit.chain',
          'AUDIT_BROKEN',
          `record ${seq + 1} with hash ${expected}`,
          `record ${record.seq} with hash ${record.hash}`,
        )
        return { records: seq, head: hash, findings: [finding] }
      }
      hash = record.hash
      seq = record.seq
      headSeen ||= hash === expectedHead
    }
    if (page.length < PAGE) break
  }
  return {
    records: seq,
    head: hash,
    findings: [
      passed('audit.chain', `${seq} records`),
      headSeen
        ? passed('audit.head')
        : failed('audit.head', 'AUDIT_TRUNCATED', `a record with hash ${expectedHead}`, 'none'),
    ],
  }
}

function hashOf(record: AuditEntry & { readonly seq: number }, previous: string): string {
  const { chain, seq, atMs, actor, action, subject, outcome, detail } = record
  const text = canonicalJson({ chain, seq, atMs, actor, action, subject, outcome, detail })
  return createHash('sha256').update(`${DOMAIN}\0${previous}\0`).update(text).digest('hex')
}
