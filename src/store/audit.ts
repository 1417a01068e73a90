import { createHash } from 'node:crypto'
import type { Kysely, Selectable, Transaction } from 'kysely'
import { parseUtf8, utf8 } from '../core/bytes.js'
import { type CanonicalValue, canonicalJson } from '../core/canonical-json.js'
import { PlatformError } from '../core/errors.js'
import { keptQuery, type Parameters } from './kept-query.js'
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
export const GENESIS = '0'.repeat(64)
/** One more than a page has, so that a reader knows whether there is another. */
const MOST_LISTED = 1001

/**
 * Appends a record to its chain, in the caller's transaction: what is not recorded does not happen.
 *
 * Text that UTF-8 cannot hold (half of a surrogate pair) is recorded with U+FFFD in its place. The time does not depend
 * on the length of the chain.
 */
export async function appendAudit(
  tx: Transaction<FoundationTables>,
  written: AuditEntry,
): Promise<{ readonly seq: number; readonly hash: string }> {
  const entry = {
    ...written,
    chain: storable(written.chain),
    actor: storable(written.actor),
    action: storable(written.action),
    subject: storable(written.subject),
  }
  const [last] = (await selectLast(tx, { chain: entry.chain })).rows
  const seq = (last?.seq ?? 0) + 1
  const detail = canonicalJson(entry.detail)
  const hash = hashOf({ ...entry, seq, detail }, last?.hash ?? GENESIS)
  await insertRecord(tx, { ...entry, seq, detail, hash })
  return { seq, hash }
}

const selectLast = keptQuery(
  (db: Kysely<FoundationTables>, parameter: Parameters<{ readonly chain: string }>) =>
    db
      .selectFrom('audit_records')
      .select(['seq', 'hash'])
      .where('chain', '=', parameter('chain'))
      .orderBy('seq', 'desc')
      .limit(1),
)

const insertRecord = keptQuery(
  (
    db: Kysely<FoundationTables>,
    parameter: Parameters<Omit<AuditRecord, 'detail'> & { readonly detail: string }>,
  ) =>
    db.insertInto('audit_records').values({
      chain: parameter('chain'),
      seq: parameter('seq'),
      at_ms: parameter('atMs'),
      actor: parameter('actor'),
      action: parameter('action'),
      subject: parameter('subject'),
      outcome: parameter('outcome'),
      detail: parameter('detail'),
      hash: parameter('hash'),
    }),
)

/**
 * Records of a chain in order, after `afterSeq`: 100, or `limit` up to 1001. Does not check the chain.
 *
 * @throws PlatformError `AUDIT_BROKEN` for a record that cannot be read
 */
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
    .limit(Math.min(query.limit ?? 100, MOST_LISTED))
  if (query.subject !== undefined) select = select.where('subject', '=', query.subject)
  return (await select.execute()).map(parseAuditRow)
}

/** @throws PlatformError `AUDIT_BROKEN` where the row is not as `appendAudit` writes rows */
export function parseAuditRow(row: Selectable<FoundationTables['audit_records']>): AuditRecord {
  try {
    const detail = JSON.parse(row.detail) as AuditRecord['detail']
    if (canonicalJson(detail) !== row.detail) throw new TypeError('the detail is not canonical')
    return {
      chain: row.chain,
      seq: row.seq,
      atMs: row.at_ms,
      actor: row.actor,
      action: row.action,
      subject: row.subject,
      outcome: row.outcome,
      detail,
      hash: row.hash,
    }
  } catch (cause) {
    const message = `expected record ${row.seq} of ${row.chain} as it was written, found it changed`
    throw new PlatformError('AUDIT_BROKEN', message, { cause })
  }
}

/** SHA-256, hexadecimal, over a domain tag, the hash of the record before, and the canonical JSON of the record. */
export function auditHash(record: AuditEntry & { readonly seq: number }, previous: string): string {
  return hashOf({ ...record, detail: canonicalJson(record.detail) }, previous)
}

function hashOf(
  record: Omit<AuditRecord, 'detail' | 'hash'> & { readonly detail: string },
  previous: string,
): string {
  const { chain, seq, atMs, actor, action, subject, outcome, detail } = record
  const [before, after] = [
    canonicalJson({ action, actor, atMs, chain }),
    canonicalJson({ outcome, seq, subject }),
  ]
  // Canonical whole: `detail` stands between these members, and is canonical already.
  const text = `${before.slice(0, -1)},"detail":${detail},${after.slice(1)}`
  return createHash('sha256').update(`${DOMAIN}\0${previous}\0`).update(text).digest('hex')
}

/** The text as the database will give it back. */
function storable(text: string): string {
  return parseUtf8(utf8(text))
}
