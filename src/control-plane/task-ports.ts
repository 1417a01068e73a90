import type { TaskError, TaskProgress, TaskResult, TaskState } from '../api/tasks.js'
import type { VmTaskKind } from '../api/vm-tasks.js'

export interface StoredTask {
  /** In the order in which tasks were made. */
  readonly seq: number
  readonly taskId: string
  readonly kind: VmTaskKind
  readonly vmId?: string | undefined
  readonly hostId: string
  readonly cluster: string
  readonly request: { readonly [member: string]: unknown }
  readonly askedBy: string
  readonly state: TaskState
  /** Whether the host said that it has it: then it is on the disk there, and may have been begun. */
  readonly held: boolean
  readonly progress: TaskProgress
  readonly error?: TaskError
  readonly result?: TaskResult
  readonly createdAtMs: number
  readonly expiresAtMs: number
  readonly sentAtMs?: number | undefined
  readonly startedAtMs?: number | undefined
  readonly endedAtMs?: number | undefined
  readonly heardAtMs?: number | undefined
  readonly version: number
}

export type NewStoredTask = Omit<StoredTask, 'seq' | 'version'>

export type TaskChange = Partial<
  Pick<
    StoredTask,
    'state' | 'held' | 'progress' | 'result' | 'sentAtMs' | 'startedAtMs' | 'heardAtMs'
  >
> & {
  /** Null: it did not end after all. */
  readonly endedAtMs?: number | null
  readonly error?: TaskError | null
}

export interface TaskFilter {
  readonly vmId?: string | undefined
  readonly hostId?: string | undefined
  readonly state?: TaskState | undefined
}

export interface TrustedHost {
  readonly hostId: string
  readonly cluster: string
}

/** Tasks, in one transaction. */
export interface TaskTransaction {
  insertTask(task: NewStoredTask): Promise<StoredTask>
  findTask(taskId: string): Promise<StoredTask | undefined>
  /** Those of them that there are. */
  findTasks(taskIds: readonly string[]): Promise<readonly StoredTask[]>
  /** The newest first. @param before only those that were made before the one with this number */
  listTasks(
    filter: TaskFilter & { readonly before: number; readonly limit: number },
  ): Promise<readonly StoredTask[]>
  /** The first thousand, in the order in which they were made. */
  listTasksOf(hostId: string, states: readonly TaskState[]): Promise<readonly StoredTask[]>
  countTasksOf(hostId: string, states: readonly TaskState[]): Promise<number>
  countTasks(): Promise<Readonly<Partial<Record<TaskState, number>>>>
  /** @param isNews whether its host has to hear of it */
  updateTask(taskId: string, change: TaskChange, isNews?: boolean): Promise<StoredTask>
  /** Notes that the host spoke of tasks; that is no change that anybody waits for. */
  heardOf(taskIds: readonly string[], atMs: number): Promise<void>
  /** Queued tasks that no host took in time. */
  listExpiredTasks(nowMs: number): Promise<readonly StoredTask[]>
  /** Tasks that a host has and did not speak of since. */
  listSilentTasks(beforeMs: number): Promise<readonly StoredTask[]>
  /** Forgets tasks that ended before; returns how many. */
  pruneTasks(beforeMs: number): Promise<number>
  /** Number of the last change of any task. */
  lastTaskChange(): Promise<number>
  /** Tasks that changed after this number, and whether their hosts have to hear of it. */
  taskChangesAfter(version: number): Promise<
    readonly {
      readonly taskId: string
      readonly hostId: string
      readonly version: number
      readonly news: number
    }[]
  >
  /** Where a host is, and whether it is trusted now; undefined where no attestation service knows it. */
  hostTrust(
    hostId: string,
  ): Promise<{ readonly cluster: string; readonly isTrusted: boolean } | undefined>
  /** Hosts that are trusted now: those with the fewest VMs and open tasks first. */
  listTrustedHosts(cluster: string): Promise<readonly TrustedHost[]>
}

/** Tells those who wait for changes of tasks. */
export interface TaskSignal {
  /** A task of this host was changed; with news, its host has to hear of it. */
  raise(task: { readonly taskId: string; readonly hostId: string }, isNews: boolean): void
}
