import { isoTime } from '../core/clock.js'
import { failures } from '../core/finding.js'
import { listAudit } from './audit.js'
import type { Store } from './store.js'
import { verifyAudit } from './verify-audit.js'

const PAGE_RECORDS = 100

/** The audit chain of one service, in the form that its routes answer. */
export interface AuditLog {
  list(query: {
    /** Number of the record that the page goes on behind. */
    readonly after?: string
    readonly limit?: number
    readonly subject?: string
  }): Promise<{ records: AuditRecordView[]; next?: string }>
  verify(): Promise<{
    records: number
    head: string
    intact: boolean
    findings: {
      check: string
      ok: boolean
      code?: string
      expected?: string
      found?: string
    }[]
  }>
}

interface AuditRecordView {
  seq: number
  at: string
  actor: string
  action: string
  subject: string
  outcome: 'allowed' | 'refused' | 'done'
  detail: Record<string, unknown>
  hash: string
}

export function auditLog(store: Store, chain: string): AuditLog {
  return {
    async list({ after, limit = PAGE_RECORDS, subject }) {
      const afterSeq = Number(after ?? 0)
      const found = await listAudit(store, { chain, afterSeq, limit: limit + 1, subject })
      const records = found.slice(0, limit)
      const last = records.at(-1)
      return {
        ...(found.length > limit && last ? { next: String(last.seq) } : {}),
        records: records.map(({ seq, atMs, actor, action, subject, outcome, detail, hash }) => ({
          seq,
          at: isoTime(atMs),
          actor,
          action,
          subject,
          outcome,
          detail: { ...detail },
          hash,
        })),
      }
    },
    async verify() {
      const { records, head, findings } = await verifyAudit(store, chain)
      const intact = failures(findings).length === 0
      return { records, head, intact, findings: findings.map((finding) => ({ ...finding })) }
    },
  }
}
