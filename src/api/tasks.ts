import { type Static, type TSchema, Type } from 'typebox'
import { Empty, Exactly, Name, Next, NumberedPageQuery, Sentence, Time, Uuid } from './common.js'
import { VmState } from './control-plane.js'
import { onObject } from './needs.js'
import { operation } from './operation.js'
import { VM_TASKS, type VmTaskKind, type VmTaskRequest } from './vm-tasks.js'

const BASE = '/control-plane/v1'

/** How many tasks one answer to a host, and one report of it, have at most. */
export const MAX_TASKS_AT_ONCE = 100
/** How many tasks a host may have that are not settled. */
export const MAX_TASKS_HELD = 1000

export const TaskState = Type.Union([
  Type.Literal('queued'),
  Type.Literal('sent'),
  Type.Literal('running'),
  Type.Literal('cancelling'),
  Type.Literal('done'),
  Type.Literal('failed'),
  Type.Literal('cancelled'),
  Type.Literal('lost'),
])
export type TaskState = Static<typeof TaskState>

export const TaskError = Exactly({ code: Type.String({ maxLength: 64 }), message: Sentence })
export type TaskError = Static<typeof TaskError>

/** The VM that an operation left. */
export const TaskResult = Exactly({ vmId: Uuid, name: Name, state: VmState })
export type TaskResult = Static<typeof TaskResult>

/** How far a task is, as its host said last. */
export const TaskProgress = Exactly({
  step: Type.Optional(Type.String({ maxLength: 200 })),
  percent: Type.Integer({ minimum: 0, maximum: 100 }),
  octets: Type.Optional(
    Exactly(
      { done: Type.Integer({ minimum: 0 }), total: Type.Integer({ minimum: 0 }) },
      'what is copied and was copied, where the task copies disks',
    ),
  ),
  octetsPerSecond: Type.Optional(Type.Integer({ minimum: 0, description: 'as measured lately' })),
  secondsLeft: Type.Optional(Type.Integer({ minimum: 0, description: 'at this rate' })),
})
export type TaskProgress = Static<typeof TaskProgress>

export const VmTaskView = Exactly({
  taskId: Uuid,
  kind: Type.String(),
  state: TaskState,
  vmId: Type.Optional({ ...Uuid, description: 'the VM that it is about, or that it makes' }),
  hostId: Name,
  cluster: Name,
  request: Type.Record(Type.String(), Type.Unknown()),
  askedBy: Type.String(),
  waitingFor: Type.Optional(
    Type.Union([Type.Literal('trust'), Type.Literal('host'), Type.Literal('turn')], {
      description:
        'why it did not begin: the host is not trusted now, did not ask yet, or has others before it',
    }),
  ),
  ...TaskProgress.properties,
  createdAt: Time,
  expiresAt: Type.Optional({ ...Time, description: 'when it fails if no host took it' }),
  sentAt: Type.Optional(Time),
  startedAt: Type.Optional(Time),
  endedAt: Type.Optional(Time),
  error: Type.Optional(Exactly({ code: Type.String(), message: Type.String() })),
  result: Type.Optional(TaskResult),
  version: Type.Integer({ description: 'rises with each change of the task' }),
})
export type VmTaskView = Static<typeof VmTaskView>

export const expiresInSeconds = Type.Optional(
  Type.Integer({
    minimum: 1,
    maximum: 31_536_000,
    description: 'how long it may wait for its host; else as the control plane is configured',
  }),
)

/** A task to be made, by its kind. */
export type NewVmTask = {
  readonly [K in VmTaskKind]: {
    readonly kind: K
    /** For kinds on a VM. */
    readonly vmId?: string
    /** For kinds on a host: it, or a cluster, of which one is chosen. */
    readonly hostId?: string
    readonly cluster?: string
    readonly request: VmTaskRequest<K>
    readonly expiresInSeconds?: number
  }
}[VmTaskKind]

const NewVmTask = Type.Unsafe<NewVmTask>(
  Type.Union(
    Object.entries(VM_TASKS).map(([name, { on, summary, request }]) =>
      Exactly(
        {
          kind: Type.Literal(name),
          ...(on === 'vm'
            ? { vmId: Uuid }
            : { hostId: Type.Optional(Name), cluster: Type.Optional(Name) }),
          request: request as TSchema,
          expiresInSeconds,
        },
        summary,
      ),
    ),
  ),
)

export const createVmTask = operation({
  id: 'createVmTask',
  needs: onObject('System.Read'),
  summary: 'Have an operation on VMs done by its host; what that needs depends on the kind',
  method: 'POST',
  path: `${BASE}/tasks`,
  status: 201,
  body: NewVmTask,
  answer: VmTaskView,
  errors: ['HOST_ENCRYPTION_OFF', 'NOT_FOUND', 'TASK_HOST', 'TASK_QUEUE_FULL', 'VM_NOT_FOUND'],
  example: { kind: 'vm.start', vmId: '6f1c1d9e-5c52-4f0b-9a7e-0d6d1f0f7a11', request: {} },
})

export const listVmTasks = operation({
  id: 'listVmTasks',
  needs: onObject('System.Read'),
  summary: 'Tasks, the newest first',
  method: 'GET',
  path: `${BASE}/tasks`,
  status: 200,
  query: Exactly({
    ...NumberedPageQuery,
    vmId: Type.Optional(Uuid),
    hostId: Type.Optional(Name),
    state: Type.Optional(TaskState),
  }),
  answer: Exactly({ tasks: Type.Array(VmTaskView), next: Next }),
})

const TaskParams = Exactly({ taskId: Uuid })

export const getVmTask = operation({
  id: 'getVmTask',
  needs: onObject('System.Read'),
  summary:
    'One task; with `after`, once it is newer than that version, or the time to wait is over',
  method: 'GET',
  path: `${BASE}/tasks/:taskId`,
  status: 200,
  params: TaskParams,
  query: Exactly({
    after: Type.Optional(Type.Integer({ minimum: 0 })),
    waitSeconds: Type.Optional(Type.Integer({ minimum: 0, maximum: 25 })),
  }),
  answer: VmTaskView,
})

export const cancelVmTask = operation({
  id: 'cancelVmTask',
  needs: onObject('System.Read'),
  summary: 'Cancel a task: one that did not begin never does; what it was changing stays as it was',
  method: 'POST',
  path: `${BASE}/tasks/:taskId/cancellation`,
  status: 202,
  params: TaskParams,
  body: Empty,
  answer: VmTaskView,
  errors: ['TASK_UNCANCELLABLE'],
})

// ---------------------------------------------------------------- what hosts call

const Held = Type.Array(Uuid, { maxItems: MAX_TASKS_HELD, uniqueItems: true })

/** A task as its host gets it. */
export const SentTask = Exactly({
  taskId: Uuid,
  kind: Type.String({ maxLength: 64 }),
  vmId: Type.Optional(Uuid),
  request: Type.Record(Type.String(), Type.Unknown()),
})
export type SentTask = Static<typeof SentTask>

export const takeTasks = operation({
  id: 'takeTasks',
  summary: 'Take tasks for this host; without any, answered when there is one or the time is over',
  method: 'POST',
  path: `${BASE}/host/tasks/take`,
  status: 200,
  body: Exactly({
    waitSeconds: Type.Integer({ minimum: 0, maximum: 25 }),
    room: Type.Integer({ minimum: 0, maximum: MAX_TASKS_AT_ONCE }),
    /** Tasks that the host has and that are not settled. */
    holds: Held,
    /** Those of them that it knows to be cancelled. */
    cancelling: Held,
  }),
  answer: Exactly({
    tasks: Type.Array(SentTask),
    cancel: Type.Array(Uuid, { description: 'of those that it holds' }),
    goOn: Type.Array(Uuid, { description: 'of those that it holds: still to be done' }),
  }),
})

export const TaskReport = Exactly({
  taskId: Uuid,
  state: Type.Union([
    Type.Literal('waiting'),
    Type.Literal('running'),
    Type.Literal('done'),
    Type.Literal('failed'),
    Type.Literal('cancelled'),
  ]),
  ...TaskProgress.properties,
  error: Type.Optional(TaskError),
  result: Type.Optional(TaskResult),
})
export type TaskReport = Static<typeof TaskReport>

export const reportTasks = operation({
  id: 'reportTasks',
  summary: 'Report how tasks of this host stand, and how they ended',
  method: 'POST',
  path: `${BASE}/host/tasks/reports`,
  status: 200,
  body: Exactly({ tasks: Type.Array(TaskReport, { maxItems: MAX_TASKS_AT_ONCE }) }),
  answer: Exactly({
    settled: Type.Array(Uuid, {
      description: 'their ends are recorded: need not be reported again',
    }),
  }),
})
