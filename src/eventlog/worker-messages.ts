import type { ErrorCode } from '../core/error-codes.js'
import type { HashName } from '../tpm/index.js'
import type { BootQuestions } from './describe-boot.js'
import type { EventLogReading } from './verify-event-log.js'

/** What is asked of a worker. Octets are copied, never shared. */
export type WorkerRequest = { readonly id: number } & WorkerTask

export type WorkerTask =
  | {
      readonly task: 'interpret'
      readonly eventLog: Uint8Array
      readonly bank: HashName
      readonly quotedPcrs: ReadonlySet<number>
      readonly questions: BootQuestions
    }
  | {
      readonly task: 'compare'
      readonly reference: Uint8Array
      readonly found: Uint8Array
      readonly bank: HashName
    }

export type WorkerResult =
  | { readonly task: 'interpret'; readonly reading: EventLogReading }
  | { readonly task: 'compare'; readonly differences: readonly string[] }

/** What a worker says: that it can read logs now, then one response to each request. */
export type WorkerMessage = typeof WORKER_READY | WorkerResponse

export const WORKER_READY = 'ready'

export type WorkerResponse =
  | { readonly id: number; readonly ok: true; readonly result: WorkerResult }
  | {
      readonly id: number
      readonly ok: false
      readonly code: ErrorCode
      readonly message: string
    }
