import type { FastifyRequest } from 'fastify'
import {
  cancelVmTask,
  createVmTask,
  getVmTask,
  listVmTasks,
  reportTasks,
  takeTasks,
} from '../../api/tasks.js'
import type { Clock } from '../../core/clock.js'
import {
  type App,
  addOperation,
  type CallerAccess,
  type HostAccess,
  type HostRate,
  RateLimitedError,
} from '../../http/index.js'
import type { TaskRoom } from '../adapters/task-room.js'
import { giveTasks, takeReports } from '../domain/host-tasks.js'
import type { VmTasks } from '../domain/tasks.js'
import type { ControlPlaneStore, HostCaller } from '../ports.js'
import { attestedHost } from './host-caller.js'

const FOR_PEOPLE = { access: { people: 'control-plane' } } as const
/** A hundred tasks with long messages, or the ids of a thousand. */
const REPORT_LIMIT_OCTETS = 512 * 1024

/** Operations that hosts do for people. */
export function addTaskRoutes(
  app: App,
  deps: {
    readonly tasks: VmTasks
    readonly store: ControlPlaneStore
    readonly room: TaskRoom
    readonly hosts: HostAccess
    readonly rate: HostRate
    readonly callers: CallerAccess
    readonly clock: Clock
  },
): void {
  const { tasks, room, clock } = deps
  app.addHook('preClose', async () => room[Symbol.asyncDispose]())

  const actOf = (request: FastifyRequest) => deps.callers.actOf(request, clock.nowMs())
  addOperation(app, createVmTask, FOR_PEOPLE, ({ body, request }) =>
    tasks.create(actOf(request), body),
  )
  addOperation(app, listVmTasks, FOR_PEOPLE, ({ query: { after, limit, ...filter }, request }) =>
    tasks.list(actOf(request), filter, { after, limit }),
  )
  addOperation(app, getVmTask, FOR_PEOPLE, async ({ params: { taskId }, query, request }) => {
    const task = await tasks.get(actOf(request), taskId)
    const { after = 0, waitSeconds = 0 } = query
    if (task.version > after || waitSeconds === 0) return task
    await room.waitForTask(taskId, after, waitSeconds * 1000)
    return tasks.get(actOf(request), taskId)
  })
  addOperation(app, cancelVmTask, FOR_PEOPLE, ({ params, request }) =>
    tasks.cancel(actOf(request), params.taskId),
  )

  const hostOf = async (request: FastifyRequest): Promise<HostCaller> => {
    const { caller } = await attestedHost(deps.hosts, request)
    const waitSeconds = deps.rate.take(`${caller.issuer} ${caller.hostId}`, clock.nowMs())
    if (waitSeconds === undefined) return caller
    throw new RateLimitedError('this host asks for tasks too often', waitSeconds)
  }
  const domain = { store: deps.store, changes: room }
  const forHosts = { access: 'host', bodyLimitOctets: REPORT_LIMIT_OCTETS } as const
  addOperation(app, takeTasks, forHosts, async ({ body, request }) => {
    const caller = await hostOf(request)
    const first = await giveTasks(domain, caller, body, { nowMs: clock.nowMs(), admit: true })
    if (first.hasNews || body.waitSeconds === 0) return first.answer
    await room.waitForHost(caller.hostId, first.lastChange, body.waitSeconds * 1000)
    // Nobody hears the answer: a task in it would wait for the next call as sent
    if (request.raw.socket.destroyed) return first.answer
    const second = { nowMs: clock.nowMs(), admit: false }
    return (await giveTasks(domain, caller, body, second)).answer
  })
  addOperation(app, reportTasks, forHosts, async ({ body, request }) =>
    takeReports(domain, await hostOf(request), body.tasks, clock.nowMs()),
  )
}
