import type { SentTask } from '../../api/tasks.js'
import { isVmTaskKind, VM_TASKS } from '../../api/vm-tasks.js'

/** What tasks must not have in common to be done beside one another: VMs, and for kinds on a host their kind. */
export function lanesOf({ taskId, kind, vmId }: SentTask): readonly string[] {
  const isMade = isVmTaskKind(kind) && VM_TASKS[kind].makesVm === true
  const lanes = [...(vmId === undefined ? [] : [vmId]), ...(isMade ? [taskId] : [])]
  return lanes.length === 0 ? [kind] : lanes
}

/** Those that may begin now: tasks that have a lane in common are done in their order. */
export function readyTasks<T extends { readonly task: SentTask }>(
  inOrder: readonly T[],
  isReady: (one: T) => boolean,
): readonly T[] {
  const taken = new Set<string>()
  return inOrder.filter((one) => {
    const lanes = lanesOf(one.task)
    const isFree = !lanes.some((lane) => taken.has(lane))
    for (const lane of lanes) taken.add(lane)
    return isFree && isReady(one)
  })
}
