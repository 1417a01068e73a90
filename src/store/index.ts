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
export { jsonColumn, jsonText, keptByText } from './json-column.js'
export { keptQuery, type Parameters } from './kept-query.js'
export { purgeExpired, recordOnce } from './once.js'
export {
  createOperator,
  findOperator,
  type ListedOperator,
  listOperators,
  revokeOperator,
  type StoredOperator,
} from './operators.js'
export { type PublishedList, publishList, readPublishedLists } from './published-lists.js'
export {
  type SealedColumn,
  type SealedRow,
  sharedSealedColumns,
  textOf,
} from './reseal.js'
export { type RootKey, rootKeyOf } from './root-key.js'
export {
  parametersOf,
  SEAL_KINDS,
  type Sealer,
  type SealKind,
  type SealParameters,
  type StoredSeal,
} from './root-key-seal.js'
export {
  addSeal,
  createRootKey,
  readRootKey,
  removeSeal,
  rotateRootKey,
  type StoredRootKey,
  unsealRootKey,
} from './root-keys.js'
export { loadOrCreateServiceKey } from './service-keys.js'
export { openStore, type Store } from './store.js'
export type { FoundationTables, HostStatusState } from './tables.js'
export { type AuditVerdict, verifyAudit } from './verify-audit.js'
