import type { ErrorCode } from '../core/error-codes.js'
import type { Finding } from '../core/finding.js'
import type { HashName } from '../tpm/index.js'
import type { BootQuestions, BootSummary } from './describe-boot.js'

/** What is asked of a worker. Octets are copied, never shared. */
export type WorkerRequest = { readonly id: number } & WorkerTask

export type WorkerTask =
  | {
      readonly task: 'verify'
      readonly eventLog: Uint8Array
      readonly bank: HashName
      readonly pcrValues: ReadonlyMap<number, Uint8Array>
      readonly questions: BootQuestions
    }
  | {
      readonly task: 'compare'
      readonly reference: Uint8Array
      readonly found: Uint8Array
      readonly bank: HashName
    }

export type WorkerResult =
  | {
      readonly task: 'verify'
      readonly findings: readonly Finding[]
      readonly summary: BootSummary
    }
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
