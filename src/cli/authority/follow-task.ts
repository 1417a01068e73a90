import { getVmTask, type VmTaskView } from '../../api/tasks.js'
import type { ErrorCode } from '../../core/error-codes.js'
import { PlatformError } from '../../core/errors.js'
import { progressBar } from '../output.js'
import type { Connection } from './connection.js'

const WAIT_SECONDS = 20
/** Where there is no terminal, a line for each step and for so much more of the whole. */
const PERCENT_OF_LINE = 10

/**
 * Waits for a task with its progress: a bar on a terminal, else lines.
 *
 * An interrupt (Ctrl-C) says how to cancel it, a second one leaves it to itself: it goes on in any case.
 *
 * @returns the task, ended or left
 * @throws PlatformError with the code that the task failed with
 */
export async function followVmTask(connection: Connection, task: VmTaskView): Promise<VmTaskView> {
  const { client, output } = connection
  const { taskId } = task
  const left = new AbortController()
  let interrupts = 0
  const onInterrupt = () => {
    interrupts += 1
    if (interrupts > 1) left.abort()
    else output.note(`it goes on; cancel it: sigillo task cancel ${taskId}; Ctrl-C again: leave it`)
  }
  process.on('SIGINT', onInterrupt)
  const shown = { line: '', percent: 0 }
  let current = task
  try {
    while (!hasEnded(current)) {
      show(connection, current, shown)
      const query = { after: current.version, waitSeconds: WAIT_SECONDS }
      current = await client.call(getVmTask, { params: { taskId }, query }, {}, left.signal)
    }
  } catch (error) {
    if (!left.signal.aborted) throw error
    process.exitCode = 1
    return current
  } finally {
    process.off('SIGINT', onInterrupt)
  }
  requireDone(current)
  return current
}

/** The task as lines for a person. */
export function taskLines(task: VmTaskView): readonly string[] {
  const { kind, state, taskId, result, hostId } = task
  const vm = result ? `, VM ${result.name} (${result.vmId}) is ${result.state}` : ''
  return [`${kind} on ${hostId} is ${state}${vm}: task ${taskId}`]
}

function hasEnded({ state }: VmTaskView): boolean {
  return state === 'done' || state === 'failed' || state === 'cancelled' || state === 'lost'
}

/** @throws PlatformError with the code of a task that ended otherwise */
function requireDone({ state, error, kind }: VmTaskView): void {
  if (state === 'done') return
  const code = (error?.code ?? 'TASK_CANCELLED') as ErrorCode
  throw new PlatformError(code, error?.message ?? `${kind} is ${state}`)
}

function show(
  { output }: Connection,
  task: VmTaskView,
  shown: { line: string; percent: number },
): void {
  const { percent, octets } = task
  const step = stepOf(task)
  if (output.live) {
    output.progress(progressBar(percent, step, octets, task))
    return
  }
  if (step === shown.line && percent < shown.percent + PERCENT_OF_LINE) return
  shown.line = step
  shown.percent = percent
  output.note(progressBar(percent, step, octets, task))
}

const WAITING = {
  trust: (hostId: string) => `waits until ${hostId} is trusted`,
  host: (hostId: string) => `waits for ${hostId}`,
  turn: () => 'waits for its turn',
} as const

function stepOf({ state, waitingFor, hostId, step }: VmTaskView): string {
  if (waitingFor !== undefined) return WAITING[waitingFor](hostId)
  return state === 'cancelling' ? `cancelling: ${step ?? ''}` : (step ?? state)
}
