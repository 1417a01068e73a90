import type { AuditOutcome } from './audit.js'

/** Rows that all services share; made by migration 0001. Times are milliseconds, hashes hexadecimal. */
export interface FoundationTables {
  audit_records: {
    chain: string
    seq: number
    at_ms: number
    actor: string
    action: string
    subject: string
    outcome: AuditOutcome
    /** Canonical JSON. */
    detail: string
    hash: string
  }
  root_keys: {
    name: string
    /** From 1; one more with each change of the key. */
    generation: number
    created_at_ms: number
  }
  root_key_seals: {
    seal_id: string
    root_key: string
    kind: string
    /** How the key is sealed: canonical JSON, authenticated with the key. */
    parameters: string
    sealed: Uint8Array
    created_at_ms: number
  }
  service_keys: {
    service: string
    name: string
    sealed: Uint8Array
  }
  host_status: {
    issuer: string
    host_id: string
    cluster: string
    state: HostStatusState
    epoch: number
    policy_epoch: number
    updated_at_ms: number
  }
  operators: {
    operator_id: string
    name: string
    role: 'administrator' | 'auditor'
    /** JSON array of service names. */
    services: string
    token_hash: string
    created_at_ms: number
    expires_at_ms: number | null
    revoked_at_ms: number | null
  }
  idempotent_answers: {
    service: string
    scope: string
    key: string
    request_digest: string
    /** Absent until the request was answered. */
    sealed: Uint8Array | null
    expires_at_ms: number
  }
  published_revocation_lists: {
    issuer_fingerprint: string
    number: number
    list: Uint8Array
    next_update_ms: number
  }
  once_records: {
    kind: string
    key: string
    expires_at_ms: number
  }
}

/** `late`: was trusted, and has not attested in time. Only `trusted` hosts are served. */
export type HostStatusState =
  | 'awaiting-approval'
  | 'enrolled'
  | 'trusted'
  | 'refused'
  | 'late'
  | 'revoked'
