import type { TaskView, VmDetails } from '../../api/host-agent.js'
import { VM_TASKS, type VmTaskKind } from '../../api/vm-tasks.js'
import type { Clock } from '../../core/clock.js'
import { newUuid } from '../../core/random.js'
import type { Tasks } from '../domain/tasks.js'
import { TASK_HANDLERS, type TaskCall, type TaskServices } from './handlers.js'

/** What routes of the socket start operations on VMs with. */
export interface StartDeps extends TaskServices {
  readonly tasks: Tasks
  readonly clock: Clock
}

/** Begins an operation as a task of this agent, and says how it stands. */
export function startTask<K extends VmTaskKind>(
  deps: StartDeps,
  kind: K,
  call: TaskCall<K>,
): TaskView {
  const { cancellable } = VM_TASKS[kind]
  const task = { taskId: newUuid(), kind, nowMs: deps.clock.nowMs(), cancellable }
  return deps.tasks.start(task, (onProgress, signal) =>
    TASK_HANDLERS[kind].run(deps, call, { onProgress, signal }),
  )
}

/** Does an operation that leaves a VM while the caller waits. */
export async function finishTask<K extends VmTaskKind>(
  deps: TaskServices,
  kind: K,
  call: TaskCall<K>,
): Promise<VmDetails> {
  const following = { onProgress: () => undefined, signal: new AbortController().signal }
  const vm = await TASK_HANDLERS[kind].run(deps, call, following)
  if (!vm) throw new TypeError(`${kind} leaves a VM`)
  return vm
}
