import { compareBoots } from './compare-boots.js'
import { parseEventLog } from './parse-event-log.js'
import { interpretEventLog } from './verify-event-log.js'
import type { WorkerResult, WorkerTask } from './worker-messages.js'

/** Does what a worker is asked for. */
export function answer(request: WorkerTask): WorkerResult {
  switch (request.task) {
    case 'interpret': {
      const { bank, quotedPcrs, questions } = request
      const log = parseEventLog(request.eventLog)
      return { task: 'interpret', reading: interpretEventLog(log, bank, quotedPcrs, questions) }
    }
    case 'compare': {
      const reference = parseEventLog(request.reference)
      const found = parseEventLog(request.found)
      const differences = compareBoots(reference, found, request.bank)
      return { task: 'compare', differences: differences.map(({ sentence }) => sentence) }
    }
  }
}
