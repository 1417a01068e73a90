import { isoTime } from '../core/clock.js'
import { failures } from '../core/finding.js'
import { listAudit } from './audit.js'
import type { Store } from './store.js'
import { verifyAudit } from './verify-audit.js'

/** The audit chain of one service, in the form that its routes answer. */
export interface AuditLog {
  list(query: {
    readonly afterSeq?: number
    readonly limit?: number
    readonly subject?: string
  }): Promise<{ records: AuditRecordView[] }>
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
    async list(query) {
      const records = await listAudit(store, { chain, ...query })
      return {
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
