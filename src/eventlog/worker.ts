import { parentPort } from 'node:worker_threads'
import { isPlatformError, messageOf } from '../core/errors.js'
import { WORKER_READY, type WorkerRequest, type WorkerResponse } from './worker-messages.js'
import { answer } from './worker-tasks.js'

// Entry of the worker thread: one request at a time, plain data in and out.
parentPort?.on('message', (request: WorkerRequest) => {
  parentPort?.postMessage(respond(request))
})

parentPort?.postMessage(WORKER_READY)

function respond(request: WorkerRequest): WorkerResponse {
  try {
    return { id: request.id, ok: true, result: answer(request) }
  } catch (error) {
    const code = isPlatformError(error) ? error.code : 'INTERNAL'
    return { id: request.id, ok: false, code, message: messageOf(error) }
  }
}
