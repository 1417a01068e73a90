import { setTimeout as delay } from 'node:timers/promises'
import { getVmTask, type VmTaskView } from '../../api/tasks.js'
import type { ErrorCode } from '../../core/error-codes.js'
import { isPlatformError, PlatformError } from '../../core/errors.js'
import { progressBar } from '../output.js'
import type { Connection } from './connection.js'

const WAIT_SECONDS = 20
/** Where there is no terminal, a line for each step and for so much more of the whole. */
const PERCENT_OF_LINE = 10
/** An authority that is restarted meanwhile is waited for. */
const PATIENCE_MS = 120_000
const PAUSE_MS = 1_000

/**
 * Waits for a task with its progress: a bar on a terminal, else lines; also while the authority is away for two minutes.
 *
 * An interrupt (Ctrl-C) says how to cancel it, a second one leaves it to itself: it goes on in any case.
 *
 * @returns the task, ended or left
 * @throws PlatformError with the code that the task failed with
 */
export async function followVmTask(
  connection: Pick<Connection, 'client' | 'output'>,
  task: VmTaskView,
): Promise<VmTaskView> {
  const { client, output } = connection
  const { taskId } = task
  let heardAtMs = performance.now()
  let isAway = false
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
      try {
        current = await client.call(getVmTask, { params: { taskId }, query }, {}, left.signal)
        heardAtMs = performance.now()
        isAway = false
      } catch (error) {
        const isOver = left.signal.aborted || performance.now() - heardAtMs > PATIENCE_MS
        if (isOver || !isAwayFor(error)) throw error
        if (!isAway) output.note('the authority is away; the task goes on')
        isAway = true
        await delay(PAUSE_MS, undefined, { signal: left.signal })
      }
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

/** Whether an error ends by itself once the authority is back. */
function isAwayFor(error: unknown): boolean {
  return (['AUTHORITY_UNREACHABLE', 'UNAVAILABLE', 'SEALED', 'RATE_LIMITED'] as const).some(
    (code) => isPlatformError(error, code),
  )
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
  { output }: Pick<Connection, 'output'>,
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
