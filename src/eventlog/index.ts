export { type BootDifference, compareBoots } from './compare-boots.js'
export { type Coverage, coverageOf, isDataCovered } from './coverage.js'
export { parseDbxFile } from './dbx-file.js'
export { decodeEvent } from './decode-event.js'
export {
  type BootApplication,
  type BootQuestions,
  type BootSummary,
  describeBoot,
  type MicrocodeMeasurement,
  type RevocationList,
} from './describe-boot.js'
export { type DescribedEvent, describeEvent, eventLine } from './describe-event.js'
export type { EventContent } from './event-content.js'
export { EVENT_TYPES, type EventTypeName, eventTypeName } from './event-types.js'
export {
  EVENT_LOG_LIMITS,
  type EventLog,
  type EventLogLimits,
  type EventLogQuirk,
  encodeEventLog,
  type LoggedEvent,
  parseEventLog,
} from './parse-event-log.js'
export { initialPcr, isExtending, replayEventLog, startupLocality } from './replay.js'
export { imageHashesOf } from './signature-list.js'
export { verifyEventLog } from './verify-event-log.js'
export { withEventDigests } from './with-digests.js'
export { createEventLogWorkers, type EventLogWorkers } from './worker-pool.js'
