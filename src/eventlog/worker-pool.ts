import { Worker } from 'node:worker_threads'
import { PlatformError } from '../core/errors.js'
import type { Finding } from '../core/finding.js'
import type { HashName } from '../tpm/index.js'
import type { BootQuestions, BootSummary } from './describe-boot.js'
import { KeptReadings } from './kept-readings.js'
import { compareReading } from './verify-event-log.js'
import {
  WORKER_READY,
  type WorkerMessage,
  type WorkerResponse,
  type WorkerResult,
  type WorkerTask,
} from './worker-messages.js'

/** Heap of one worker: a log of 1 MiB with 20 000 events needs less than 32 MiB. */
const HEAP_MIB = 64

/** Threads that read event logs of strangers, each with a heap and a time of its own. */
export interface EventLogWorkers extends AsyncDisposable {
  /**
   * `parseEventLog` and `verifyEventLog`. A log that was read before is not read again: hosts bring the same one until
   * they boot, and hosts of one kind often have the same. It is known by the digest of the octets that came, and its
   * values are compared with the quoted ones each time.
   *
   * @throws PlatformError of these; `EVENTLOG_TIMEOUT` above the time or the heap of a log; `UNAVAILABLE` once disposed
   */
  verify(
    eventLog: Uint8Array,
    bank: HashName,
    pcrValues: ReadonlyMap<number, Uint8Array>,
    questions?: BootQuestions,
  ): Promise<{ readonly findings: readonly Finding[]; readonly summary: BootSummary }>
  /** `compareBoots`, as sentences. @throws PlatformError as `verify` */
  compare(reference: Uint8Array, found: Uint8Array, bank: HashName): Promise<readonly string[]>
}

interface Job {
  readonly task: WorkerTask
  readonly resolve: (result: WorkerResult) => void
  readonly reject: (error: unknown) => void
}

/**
 * @param options.size threads at the most; they are started when they are first needed
 * @param options.budgetMs time of one log; a worker that takes longer is ended and replaced
 */
export function createEventLogWorkers(options: {
  readonly size: number
  readonly budgetMs: number
}): EventLogWorkers {
  const waiting: Job[] = []
  const idle: Worker[] = []
  const all = new Set<Worker>()
  const readings = new KeptReadings()
  let nextId = 0
  let closed = false

  const next = (): void => {
    while (waiting.length > 0 && !closed) {
      const worker = idle.pop() ?? (all.size < options.size ? start() : undefined)
      const job = worker && waiting.shift()
      if (!worker || !job) return
      void runOn(worker, job)
    }
  }

  const start = (): Worker => {
    const worker = createWorker()
    all.add(worker)
    worker.unref()
    return worker
  }

  const runOn = async (worker: Worker, job: Job): Promise<void> => {
    const id = nextId
    nextId += 1
    worker.ref()
    try {
      const response = await respond(worker, { id, ...job.task }, options.budgetMs)
      if (response.ok) job.resolve(response.result)
      else job.reject(new PlatformError(response.code, response.message))
      worker.unref()
      idle.push(worker)
    } catch (error) {
      all.delete(worker)
      job.reject(error)
      await worker.terminate()
    }
    next()
  }

  const submit = (task: WorkerTask): Promise<WorkerResult> =>
    new Promise((resolve, reject) => {
      if (closed) throw endedEarly()
      waiting.push({ task, resolve, reject })
      next()
    })

  return {
    async verify(eventLog, bank, pcrValues, questions = { dbx: true }) {
      const quotedPcrs = new Set(pcrValues.keys())
      const key = readings.keyOf(eventLog, bank, quotedPcrs, questions)
      const known = readings.get(key)
      if (known) return compareReading(known, pcrValues)
      const result = await submit({ task: 'interpret', eventLog, bank, quotedPcrs, questions })
      if (result.task !== 'interpret') throw new TypeError('another task was answered')
      readings.keep(key, result.reading)
      return compareReading(result.reading, pcrValues)
    },
    async compare(reference, found, bank) {
      const result = await submit({ task: 'compare', reference, found, bank })
      if (result.task !== 'compare') throw new TypeError('another task was answered')
      return result.differences
    },
    async [Symbol.asyncDispose]() {
      closed = true
      readings.clear()
      for (const { reject } of waiting.splice(0)) reject(endedEarly())
      await Promise.all([...all].map((worker) => worker.terminate()))
    },
  }
}

function endedEarly(): PlatformError {
  return new PlatformError('UNAVAILABLE', 'expected a worker for the event log, found it ended')
}

/** Threads run compiled code: a test runner that runs the sources uses the build beside them. */
function createWorker(): Worker {
  const fromSource = import.meta.url.endsWith('.ts')
  const compiled = fromSource ? '../../dist/src/eventlog/worker.js' : '../eventlog/worker.js'
  return new Worker(new URL(compiled, import.meta.url), {
    execArgv: [],
    resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB },
  })
}

async function respond(
  worker: Worker,
  request: WorkerTask & { readonly id: number },
  budgetMs: number,
): Promise<WorkerResponse> {
  let timer: NodeJS.Timeout | undefined
  let stop = (): void => undefined
  try {
    return await new Promise<WorkerResponse>((resolve, reject) => {
      const late = `expected the event log to be read within ${budgetMs} ms`
      const begin = (): void => {
        ready.add(worker)
        timer = setTimeout(() => reject(new PlatformError('EVENTLOG_TIMEOUT', late)), budgetMs)
      }
      const onMessage = (message: WorkerMessage): void => {
        if (message === WORKER_READY) begin()
        else if (message.id === request.id) resolve(message)
      }
      const onError = (error: unknown): void => reject(tooLarge(error) ?? error)
      const onExit = (): void => reject(endedEarly())
      worker.on('message', onMessage).on('error', onError).on('exit', onExit)
      stop = () => {
        worker.off('message', onMessage).off('error', onError).off('exit', onExit)
      }
      // The time to start the thread and to load its modules is not the log's.
      if (ready.has(worker)) begin()
      worker.postMessage(request)
    })
  } finally {
    clearTimeout(timer)
    stop()
  }
}

/** A worker that was ended for its heap; any other error of a worker is a fault of ours. */
function tooLarge(error: unknown): PlatformError | undefined {
  if (!(error instanceof Error && 'code' in error)) return undefined
  if (error.code !== 'ERR_WORKER_OUT_OF_MEMORY') return undefined
  const expected = `expected the event log to be read within ${HEAP_MIB} MiB`
  return new PlatformError('EVENTLOG_TIMEOUT', expected, { cause: error })
}

const ready = new WeakSet<Worker>()
