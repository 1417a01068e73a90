import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Selectable } from 'kysely'
import { type Finding, failed, passed } from '../core/finding.js'
import { auditHash, GENESIS, parseAuditRow } from './audit.js'
import type { Store } from './store.js'
import type { FoundationTables } from './tables.js'

export interface AuditVerdict {
  /** How many records fit, from the first on. */
  readonly records: number
  /** Hash of the last record that fits: kept elsewhere, it shows later whether the end was cut off. */
  readonly head: string
  readonly findings: readonly Finding[]
}

type AuditRow = Selectable<FoundationTables['audit_records']>

const PAGE = 1000

/**
 * Recomputes a chain: finds any record that was changed, removed, added or moved.
 *
 * That the end was cut off is found only with `expectedHead`, a hash that was kept elsewhere; so is a chain that somebody
 * wrote anew from its start, since the hashes are not keyed. One finding is reported for the first record that does not
 * fit, since nothing after it can be judged. Reads in pages and lets others have their turn between them.
 */
export async function verifyAudit(
  store: Store,
  chain: string,
  expectedHead?: string,
): Promise<AuditVerdict> {
  let head = GENESIS
  let records = 0
  let headSeen = expectedHead === undefined || expectedHead === GENESIS
  for (;;) {
    const page = await readPage(store, chain, records)
    for (const row of page) {
      const seq = records + 1
      const expected = hashOfRow(row, seq, head)
      if (row.seq !== seq || row.hash !== expected) {
        const finding = failed(
          'audit.chain',
          'AUDIT_BROKEN',
          expected === undefined
            ? `record ${seq} as it was written`
            : `record ${seq} with hash ${expected}`,
          `record ${row.seq} with hash ${row.hash}`,
        )
        return { records, head, findings: [finding] }
      }
      head = expected
      records = seq
      headSeen ||= head === expectedHead
    }
    if (page.length < PAGE) break
    await nextTurn()
  }
  return {
    records,
    head,
    findings: [
      passed('audit.chain', `${records} records`),
      headSeen
        ? passed('audit.head')
        : failed('audit.head', 'AUDIT_TRUNCATED', `a record with hash ${expectedHead}`, 'none'),
    ],
  }
}

/** Rows after number `after`; the first page begins with whatever is there, also with numbers that no record has. */
function readPage(store: Store, chain: string, after: number): Promise<AuditRow[]> {
  const all = store
    .tables<FoundationTables>()
    .selectFrom('audit_records')
    .selectAll()
    .where('chain', '=', chain)
    .orderBy('seq')
    .limit(PAGE)
  return (after === 0 ? all : all.where('seq', '>', after)).execute()
}

/** The hash that the row must have, or undefined where it holds what no record can hold. The row is not trusted. */
function hashOfRow(row: AuditRow, seq: number, previous: string): string | undefined {
  try {
    return auditHash({ ...parseAuditRow(row), seq }, previous)
  } catch {
    return undefined
  }
}
