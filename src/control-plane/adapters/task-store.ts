import { type Generated, type Selectable, sql, type Transaction } from 'kysely'
import { Type } from 'typebox'
import { TaskError, TaskProgress, TaskResult, type TaskState } from '../../api/tasks.js'
import type { VmTaskKind } from '../../api/vm-tasks.js'
import { type FoundationTables, jsonText, readHostStatuses } from '../../store/index.js'
import type { StoredTask, TaskChange, TaskFilter, TaskTransaction } from '../task-ports.js'

export interface TaskTables {
  control_plane_tasks: {
    seq: Generated<number>
    task_id: string
    kind: VmTaskKind
    vm_id: string | null
    host_id: string
    cluster: string
    /** JSON, as the three others. */
    request: string
    asked_by: string
    state: TaskState
    held: number
    progress: string
    error: string | null
    result: string | null
    created_at_ms: number
    expires_at_ms: number
    sent_at_ms: number | null
    started_at_ms: number | null
    ended_at_ms: number | null
    heard_at_ms: number | null
    version: number
    news: number
  }
  control_plane_task_changes: { id: number; last: number }
}

type Row = Selectable<TaskTables['control_plane_tasks']>

const AT_ONCE = 1000
/** Parameters of one statement. */
const IDS_AT_ONCE = 500
const OPEN: readonly TaskState[] = ['queued', 'sent', 'running', 'cancelling']
const ENDED: readonly TaskState[] = ['done', 'failed', 'cancelled', 'lost']

const parseRequest = jsonText(Type.Record(Type.String(), Type.Unknown()))
const parseProgress = jsonText(TaskProgress)
const parseError = jsonText(TaskError)
const parseResult = jsonText(TaskResult)

export function taskTransaction<T extends TaskTables & FoundationTables>(
  transaction: Transaction<T>,
): TaskTransaction {
  const tx = transaction as unknown as Transaction<TaskTables & FoundationTables>

  const nextChange = async (): Promise<number> => {
    const { last } = await tx
      .insertInto('control_plane_task_changes')
      .values({ id: 1, last: 1 })
      .onConflict((conflict) =>
        conflict
          .column('id')
          .doUpdateSet((row) => ({ last: row('control_plane_task_changes.last', '+', 1) })),
      )
      .returning('last')
      .executeTakeFirstOrThrow()
    return last
  }
  const tasks = () => tx.selectFrom('control_plane_tasks').selectAll()

  return {
    async insertTask(task) {
      const version = await nextChange()
      const row = await tx
        .insertInto('control_plane_tasks')
        .values({
          task_id: task.taskId,
          kind: task.kind,
          vm_id: task.vmId ?? null,
          host_id: task.hostId,
          cluster: task.cluster,
          request: JSON.stringify(task.request),
          asked_by: task.askedBy,
          created_at_ms: task.createdAtMs,
          expires_at_ms: task.expiresAtMs,
          ...{ version, news: version, held: 0, state: task.state },
          progress: JSON.stringify(task.progress),
          ...{ error: null, result: null, sent_at_ms: null, started_at_ms: null },
          ...{ ended_at_ms: null, heard_at_ms: null },
        })
        .returningAll()
        .executeTakeFirstOrThrow()
      return storedTask(row)
    },

    async findTask(taskId) {
      const row = await tasks().where('task_id', '=', taskId).executeTakeFirst()
      return row && storedTask(row)
    },

    async findTasks(taskIds) {
      const found: StoredTask[] = []
      for (const some of inPortions(taskIds)) {
        const rows = await tasks().where('task_id', 'in', some).execute()
        found.push(...rows.map(storedTask))
      }
      return found
    },

    async listTasks({ before, limit, ...filter }) {
      const rows = await filtered(tasks(), filter)
        .where('seq', '<', before)
        .orderBy('seq', 'desc')
        .limit(limit)
        .execute()
      return rows.map(storedTask)
    },

    async listTasksOf(hostId, states) {
      const rows = await tasks()
        .where('host_id', '=', hostId)
        .where('state', 'in', states)
        .orderBy('seq')
        .limit(AT_ONCE)
        .execute()
      return rows.map(storedTask)
    },

    async countTasksOf(hostId, states) {
      const row = await tx
        .selectFrom('control_plane_tasks')
        .select((select) => select.fn.countAll<number>().as('tasks'))
        .where('host_id', '=', hostId)
        .where('state', 'in', states)
        .executeTakeFirstOrThrow()
      return Number(row.tasks)
    },

    async countTasks() {
      const rows = await tx
        .selectFrom('control_plane_tasks')
        .select((select) => ['state', select.fn.countAll<number>().as('tasks')])
        .groupBy('state')
        .execute()
      return Object.fromEntries(rows.map(({ state, tasks: count }) => [state, Number(count)]))
    },

    async updateTask(taskId, change, isNews = false) {
      const version = await nextChange()
      const row = await tx
        .updateTable('control_plane_tasks')
        .set({ ...columnsOf(change), version, ...(isNews ? { news: version } : {}) })
        .where('task_id', '=', taskId)
        .returningAll()
        .executeTakeFirstOrThrow()
      return storedTask(row)
    },

    async heardOf(taskIds, atMs) {
      for (const some of inPortions(taskIds)) {
        await tx
          .updateTable('control_plane_tasks')
          .set({ heard_at_ms: atMs, held: 1 })
          .where('task_id', 'in', some)
          .execute()
      }
    },

    async listExpiredTasks(nowMs) {
      const rows = await tasks()
        .where('state', '=', 'queued')
        .where('expires_at_ms', '<=', nowMs)
        .limit(AT_ONCE)
        .execute()
      return rows.map(storedTask)
    },

    async listSilentTasks(beforeMs) {
      const rows = await tasks()
        .where('state', 'in', ['sent', 'running', 'cancelling'])
        .where((row) =>
          row(row.fn.coalesce('heard_at_ms', 'sent_at_ms', 'created_at_ms'), '<=', beforeMs),
        )
        .limit(AT_ONCE)
        .execute()
      return rows.map(storedTask)
    },

    async pruneTasks(beforeMs) {
      const { numDeletedRows } = await tx
        .deleteFrom('control_plane_tasks')
        .where('state', 'in', ENDED)
        .where('ended_at_ms', '<=', beforeMs)
        .executeTakeFirst()
      return Number(numDeletedRows)
    },

    async lastTaskChange() {
      const row = await tx
        .selectFrom('control_plane_task_changes')
        .select('last')
        .executeTakeFirst()
      return row?.last ?? 0
    },

    async taskChangesAfter(after) {
      const rows = await tx
        .selectFrom('control_plane_tasks')
        .select(['task_id', 'host_id', 'version', 'news'])
        .where('version', '>', after)
        .orderBy('version')
        .limit(AT_ONCE)
        .execute()
      return rows.map(({ task_id: taskId, host_id: hostId, version, news }) => ({
        ...{ taskId, hostId, version, news },
      }))
    },

    async hostTrust(hostId) {
      const statuses = await readHostStatuses(
        tx as unknown as Transaction<FoundationTables>,
        hostId,
      )
      const status = statuses.find(({ state }) => state === 'trusted') ?? statuses[0]
      return status && { cluster: status.cluster, isTrusted: status.state === 'trusted' }
    },

    async listTrustedHosts(cluster) {
      const rows = await tx
        .selectFrom('host_status as host')
        .select('host.host_id')
        .distinct()
        .select((row) => [
          row
            .selectFrom('control_plane_tasks')
            .select((count) => count.fn.countAll<number>().as('tasks'))
            .whereRef('control_plane_tasks.host_id', '=', 'host.host_id')
            .where('state', 'in', OPEN)
            .as('tasks'),
          sql<number>`(select count(*) from control_plane_vms as vm where vm.host_id = host.host_id)`.as(
            'vms',
          ),
        ])
        .where('host.cluster', '=', cluster)
        .where('host.state', '=', 'trusted')
        .execute()
      return rows
        .map(({ host_id: hostId, tasks: open, vms }) => ({
          hostId,
          load: Number(open ?? 0) + Number(vms),
        }))
        .sort((a, b) => a.load - b.load || (a.hostId < b.hostId ? -1 : 1))
        .map(({ hostId }) => ({ hostId, cluster }))
    },
  }
}

function inPortions(taskIds: readonly string[]): readonly (readonly string[])[] {
  const portions: (readonly string[])[] = []
  for (let at = 0; at < taskIds.length; at += IDS_AT_ONCE) {
    portions.push(taskIds.slice(at, at + IDS_AT_ONCE))
  }
  return portions
}

function filtered<
  Q extends {
    where(column: 'vm_id' | 'host_id' | 'state', operator: '=', value: string): Q
  },
>(query: Q, { vmId, hostId, state }: TaskFilter): Q {
  let result = query
  if (vmId !== undefined) result = result.where('vm_id', '=', vmId)
  if (hostId !== undefined) result = result.where('host_id', '=', hostId)
  if (state !== undefined) result = result.where('state', '=', state)
  return result
}

function columnsOf(change: TaskChange) {
  return {
    ...(change.state === undefined ? {} : { state: change.state }),
    ...(change.held === undefined ? {} : { held: change.held ? 1 : 0 }),
    ...(change.progress === undefined ? {} : { progress: JSON.stringify(change.progress) }),
    ...(change.error === undefined
      ? {}
      : { error: change.error === null ? null : JSON.stringify(change.error) }),
    ...(change.result === undefined ? {} : { result: JSON.stringify(change.result) }),
    ...(change.sentAtMs === undefined ? {} : { sent_at_ms: change.sentAtMs }),
    ...(change.startedAtMs === undefined ? {} : { started_at_ms: change.startedAtMs }),
    ...(change.endedAtMs === undefined ? {} : { ended_at_ms: change.endedAtMs }),
    ...(change.heardAtMs === undefined ? {} : { heard_at_ms: change.heardAtMs }),
  }
}

function storedTask(row: Row): StoredTask {
  return {
    seq: row.seq,
    taskId: row.task_id,
    kind: row.kind,
    vmId: row.vm_id ?? undefined,
    hostId: row.host_id,
    cluster: row.cluster,
    request: parseRequest(row.request),
    askedBy: row.asked_by,
    state: row.state,
    held: row.held === 1,
    progress: parseProgress(row.progress),
    ...(row.error === null ? {} : { error: parseError(row.error) }),
    ...(row.result === null ? {} : { result: parseResult(row.result) }),
    createdAtMs: row.created_at_ms,
    expiresAtMs: row.expires_at_ms,
    sentAtMs: row.sent_at_ms ?? undefined,
    startedAtMs: row.started_at_ms ?? undefined,
    endedAtMs: row.ended_at_ms ?? undefined,
    heardAtMs: row.heard_at_ms ?? undefined,
    version: row.version,
  }
}
