export { findCaller, missingPrivilege } from './adapters/find-caller.js'
export { readRights } from './adapters/read-rights.js'
export type { PeopleTables } from './adapters/tables.js'
export { type Place, type Rights, SITE } from './domain/rights.js'
