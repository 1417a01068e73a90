import type { TaskView } from '../../api/host-agent.js'
import type { AnswerOf } from '../../api/operation.js'
import {
  MAX_TASKS_AT_ONCE,
  type SentTask,
  type TaskError,
  type TaskReport,
  type TaskResult,
  type takeTasks,
} from '../../api/tasks.js'
import { isVmTaskKind, VM_TASKS, type VmTaskKind } from '../../api/vm-tasks.js'
import type { Clock } from '../../core/clock.js'
import { isPlatformError, messageOf, PlatformError } from '../../core/errors.js'
import type { Logger } from '../../core/logger.js'
import { misfitOf } from '../../core/schema-errors.js'
import { CopyRate } from '../domain/copy-rate.js'
import type { Tasks } from '../domain/tasks.js'
import { TASK_HANDLERS, type TaskServices } from './handlers.js'
import type { JournalEntry, TaskJournal } from './journal.js'
import { readyTasks } from './lanes.js'

/** Tasks on different VMs that are done beside one another. */
const AT_ONCE = 4
/** Tasks that are taken and wait for their turn. */
const MOST_HELD = 64
const MAX_MESSAGE = 2000

/** A task that this host has, until its end is recorded by the control plane. */
interface Held {
  entry: JournalEntry
  readonly task: SentTask
  /** Whether the control plane said, since this agent has it in memory, that it is to be done. */
  mayBegin: boolean
  isRunning: boolean
  isCancelled: boolean
  progress: Pick<TaskReport, 'step' | 'percent' | 'octets' | 'octetsPerSecond' | 'secondsLeft'>
  readonly rate: CopyRate
  /** Counts changes; what was reported last. */
  changes: number
  reported: number
}

/** Tasks of the control plane on this host: in order for each VM, some at once, and each once. */
export interface TaskRunner {
  /** To be called once, when VMs were settled: takes up what an agent before this one left. @throws PlatformError `TASK_JOURNAL` */
  recover(): void
  /** Writes down what came, begins what is to be done, and ends what is not. @throws PlatformError `TASK_JOURNAL` */
  take(answer: AnswerOf<typeof takeTasks>): void
  /** Begins nothing until the control plane says again what is to be done. What was begun goes on. */
  pause(): void
  readonly room: number
  readonly holds: readonly string[]
  /** Those that need not be cancelled any more: they were, or have ended. */
  readonly cancelling: readonly string[]
  /** How tasks stand that changed since they were reported, and what says that they were. */
  reports(): { readonly tasks: readonly TaskReport[]; reported(settled: readonly string[]): void }
  /** Nothing begins any more; what is cancelled by the end of the agent is taken up by the next one. */
  close(): void
}

/** @param deps.onChange called when there is something to report; `isEnd` when a task ended */
export function createTaskRunner(
  deps: TaskServices & {
    readonly journal: TaskJournal
    readonly tasks: Tasks
    readonly clock: Clock
    readonly logger: Logger
    readonly onChange: (isEnd: boolean) => void
  },
): TaskRunner {
  const { journal, tasks, clock, logger } = deps
  const held = new Map<string, Held>()
  /** Settled: remembered so that they are not done again. */
  const remembered = new Map<string, JournalEntry>()
  let order = 0
  let closing = false

  const hold = (entry: JournalEntry, mayBegin: boolean): Held => {
    const one: Held = {
      ...{ entry, task: entry.task, mayBegin, isRunning: false, isCancelled: false },
      ...{ progress: { percent: 0 }, rate: new CopyRate(), changes: 1, reported: 0 },
    }
    held.set(entry.task.taskId, one)
    order = Math.max(order, entry.order)
    return one
  }
  const changed = (one: Held, isEnd = false): void => {
    one.changes += 1
    deps.onChange(isEnd)
  }

  const end = (
    one: Held,
    state: 'done' | 'failed' | 'cancelled',
    { error, result }: { error?: TaskError | undefined; result?: TaskResult | undefined } = {},
  ): void => {
    const { taskId } = one.task
    const percent = state === 'done' ? 100 : one.progress.percent
    const { octetsPerSecond: _, secondsLeft: __, ...progress } = one.progress
    const report: TaskReport = {
      ...{ ...progress, taskId, state, percent },
      ...(error ? { error } : {}),
      ...(result ? { result } : {}),
    }
    one.isRunning = false
    one.entry = { ...one.entry, state: 'ended', end: report, endedAtMs: clock.nowMs() }
    try {
      journal.write(one.entry)
    } catch (err) {
      // It is reported all the same; the next agent finds out from the VM what became of it
      logger.error({ event: 'task.not-journalled', taskId, err }, 'the end was not written down')
    }
    changed(one, true)
    begin()
  }
  const endWith = (one: Held, error: unknown): void => {
    const code = isPlatformError(error) ? error.code : 'INTERNAL'
    const message = isPlatformError(error) ? messageOf(error) : 'an error of our own'
    if (code === 'INTERNAL') {
      logger.error({ event: 'task.failed', kind: one.task.kind, err: error }, 'task failed')
    }
    end(one, 'failed', { error: { code, message: message.slice(0, MAX_MESSAGE) } })
  }

  const begin = (): void => {
    if (closing) return
    const open = [...held.values()].filter(({ entry }) => entry.state !== 'ended')
    const running = open.filter(({ isRunning }) => isRunning).length
    const ready = readyTasks(open, ({ mayBegin, isRunning }) => mayBegin && !isRunning)
    for (const one of ready.slice(0, Math.max(0, AT_ONCE - running))) {
      one.isRunning = true
      void run(one, one.task.kind as VmTaskKind).catch((error: unknown) => endWith(one, error))
    }
  }

  const run = async <K extends VmTaskKind>(one: Held, kind: K): Promise<void> => {
    const { taskId, vmId: vm } = one.task
    const handler = TASK_HANDLERS[kind]
    const { makesVm, bringsVm, cancellable } = VM_TASKS[kind]
    const makes = makesVm ? taskId : undefined
    const decisive = makes ?? vm
    const factsNow = async () => {
      if (bringsVm) return deps.vms.factsOfBrought(taskId)
      return decisive === undefined ? undefined : deps.vms.facts(decisive)
    }
    // Checked against the schema of the kind when it was taken
    let request = one.task.request as Parameters<typeof handler.rest>[0]
    if (one.entry.state === 'begun') {
      const now = await factsNow()
      const rest = handler.rest(request, one.entry.before ?? undefined, now)
      if (rest === undefined) {
        logger.info({ event: 'task.found-done', taskId, kind }, 'a task had been done')
        const result = now && { vmId: now.vmId, name: now.name, state: stateOf(now) }
        return end(one, 'done', { result })
      }
      if (one.isCancelled) return end(one, 'cancelled', { error: CANCELLED })
      request = rest
      logger.info({ event: 'task.again', taskId, kind }, 'a task that was interrupted goes on')
    } else {
      if (one.isCancelled) return end(one, 'cancelled', { error: CANCELLED })
      one.entry = { ...one.entry, state: 'begun', before: (await factsNow()) ?? null }
      journal.write(one.entry)
    }
    // whoever is on this host reads what they like themselves; others do not read it through a disk
    for (const path of imagesOf(kind, request)) await deps.vms.requireImportable(path)
    const onChange = (view: TaskView) => watch(one, view)
    tasks.start(
      { taskId, kind, nowMs: clock.nowMs(), cancellable, onChange },
      (onProgress, signal) => {
        return handler.run(deps, { vm, request, makes, taskId }, { onProgress, signal })
      },
    )
    if (one.isCancelled) stop(one)
  }

  const watch = (one: Held, { state, step, percent, octets, error, vm }: TaskView): void => {
    if (state === 'running') {
      const rate = octets ? one.rate.measure(octets, clock.monotonicMs()) : {}
      one.progress = {
        ...{ step: step.slice(0, 200), percent },
        ...(octets ? { octets: { done: octets.done, total: octets.total } } : {}),
        ...rate,
      }
      changed(one)
      return
    }
    // The next agent goes on with it
    if (closing && state === 'cancelled' && !one.isCancelled) return
    if (error?.code === 'AUTHORITY_UNREACHABLE' && !one.isCancelled) {
      // Once it answers it says whether the task is still wanted; what is left is done then
      one.isRunning = false
      one.mayBegin = false
      one.progress = { percent, step: 'waits for the authority' }
      logger.warn(
        { event: 'task.waits', taskId: one.task.taskId },
        'a task waits for the authority',
      )
      changed(one)
      begin()
      return
    }
    one.progress = { ...one.progress, step, ...(octets ? { octets } : {}) }
    const result = vm && { vmId: vm.vmId, name: vm.name, state: vm.state }
    const short = error && { code: error.code, message: error.message.slice(0, MAX_MESSAGE) }
    end(one, state, { error: short, result })
  }

  const stop = (one: Held): void => {
    try {
      tasks.cancel(one.task.taskId)
    } catch (error) {
      if (!isPlatformError(error, 'TASK_UNCANCELLABLE') && !isPlatformError(error, 'NOT_FOUND')) {
        throw error
      }
    }
  }

  const cancel = (taskId: string): void => {
    const one = held.get(taskId)
    if (!one || one.isCancelled || one.entry.state === 'ended') return
    one.isCancelled = true
    if (one.isRunning) stop(one)
    else if (one.entry.state === 'waiting') end(one, 'cancelled', { error: CANCELLED })
    // Begun by an agent before: whether it was done has to be found out
    else one.mayBegin = true
  }

  const accept = (task: SentTask): void => {
    const { taskId } = task
    if (held.has(taskId) || remembered.has(taskId)) {
      logger.info({ event: 'task.known', taskId }, 'a task came that is known')
      const before = remembered.get(taskId)
      const one = before ? hold(before, true) : held.get(taskId)
      if (one) {
        one.mayBegin = true
        one.changes += 1
      }
      remembered.delete(taskId)
      return
    }
    order += 1
    const entry: JournalEntry = { format: 1, order, task, state: 'waiting' }
    const error = errorOf(task)
    if (!error) journal.write(entry)
    const one = hold(entry, true)
    if (error) endWith(one, error)
  }

  return {
    recover() {
      for (const entry of journal.load()) {
        if (entry.settled) remembered.set(entry.task.taskId, entry)
        else hold(entry, false)
        order = Math.max(order, entry.order)
      }
      for (const { task } of journal.prune([...remembered.values()], clock.nowMs())) {
        remembered.delete(task.taskId)
      }
    },
    take({ tasks: sent, cancel: cancelled, goOn }) {
      for (const task of sent) accept(task)
      for (const taskId of goOn) {
        const one = held.get(taskId)
        if (one) one.mayBegin = true
      }
      for (const taskId of cancelled) cancel(taskId)
      if (sent.length > 0) deps.onChange(false)
      begin()
    },
    pause() {
      for (const one of held.values()) one.mayBegin = false
    },
    get room() {
      return Math.max(0, Math.min(MAX_TASKS_AT_ONCE, MOST_HELD - held.size))
    },
    get holds() {
      return [...held.keys()]
    },
    get cancelling() {
      return [...held.values()]
        .filter(({ isCancelled, entry }) => isCancelled || entry.state === 'ended')
        .map(({ task }) => task.taskId)
    },
    reports() {
      const due = [...held.values()]
        // An end is reported until it is settled
        .filter(({ changes, reported, entry }) => changes > reported || entry.state === 'ended')
        .slice(0, MAX_TASKS_AT_ONCE)
        .map((one) => ({ one, changes: one.changes }))
      return {
        tasks: due.map(({ one }) => reportOf(one)),
        reported(settled) {
          for (const { one, changes } of due) one.reported = changes
          for (const taskId of settled) settle(taskId)
        },
      }
    },
    close() {
      closing = true
    },
  }

  function settle(taskId: string): void {
    const one = held.get(taskId)
    if (one?.entry.state !== 'ended') return
    const entry = { ...one.entry, settled: true }
    try {
      journal.write(entry)
    } catch (err) {
      logger.warn({ event: 'task.not-journalled', taskId, err }, 'a task is reported once more')
    }
    held.delete(taskId)
    remembered.set(taskId, entry)
  }
}

const CANCELLED = { code: 'TASK_CANCELLED', message: 'the task was cancelled' }

function reportOf({ entry, task, isRunning, progress }: Held): TaskReport {
  if (entry.end) return entry.end
  return { taskId: task.taskId, state: isRunning ? 'running' : 'waiting', ...progress }
}

function stateOf({ isRunning }: { readonly isRunning: boolean }): 'running' | 'stopped' {
  return isRunning ? 'running' : 'stopped'
}

/** What cannot be done by this agent, whatever the VM. */
function errorOf({ kind, vmId, request }: SentTask): PlatformError | undefined {
  if (!isVmTaskKind(kind)) {
    return new PlatformError('TASK_KIND', `the agent of this host does not know ${kind}`)
  }
  const { on, request: schema } = VM_TASKS[kind]
  const misfit = misfitOf(schema, request)
  if (misfit !== undefined) {
    return new PlatformError('REQUEST_INVALID', `request of ${kind}${misfit}`)
  }
  if (on === 'vm' && vmId === undefined) {
    return new PlatformError('REQUEST_INVALID', `expected a VM for ${kind}`)
  }
  return undefined
}

/** Paths of images that disks are to be filled from. What is attached is checked when it is. */
function imagesOf(kind: VmTaskKind, request: object): readonly string[] {
  if (kind !== 'vm.create' && kind !== 'vm.add-disk') return []
  const { from, disks } = request as {
    readonly from?: unknown
    readonly disks?: readonly { readonly from?: unknown }[]
  }
  const paths = [from, ...(Array.isArray(disks) ? disks.map((disk) => disk?.from) : [])]
  return paths.filter((path): path is string => typeof path === 'string')
}
