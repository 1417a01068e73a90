export {
  type AuditEntry,
  type AuditOutcome,
  type AuditRecord,
  appendAudit,
  listAudit,
} from './audit.js'
export { type AuditLog, auditLog } from './audit-log.js'
export { isUniqueViolation } from './errors.js'
export {
  type HostStatus,
  isTokenRevoked,
  readHostStatus,
  readHostStatuses,
  revokeToken,
  writeHostStatus,
} from './host-status.js'
export { idempotentAnswers } from './idempotent-answers.js'
export { purgeExpired, recordOnce } from './once.js'
export {
  createOperator,
  findOperator,
  type ListedOperator,
  listOperators,
  revokeOperator,
  type StoredOperator,
} from './operators.js'
export { createRootKey, hasRootKey, unsealRootKey } from './passphrase-seal.js'
export type { RootKey } from './root-key.js'
export { loadOrCreateServiceKey } from './service-keys.js'
export { openStore, type Store } from './store.js'
export type { FoundationTables, HostStatusState } from './tables.js'
export { type AuditVerdict, verifyAudit } from './verify-audit.js'
