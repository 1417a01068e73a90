import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { SentTask, TaskReport, TaskState } from '../../../src/api/tasks.js'
import { CLUSTER, EXPIRY_SECONDS, SILENCE_SECONDS, World } from './world.js'

const ENDS: readonly TaskState[] = ['done', 'failed', 'cancelled', 'lost']

interface Held {
  readonly task: SentTask
  state: 'waiting' | 'begun' | 'done' | 'cancelled'
  settled: boolean
}

/** A host by the rules of docs/tasks.md: what it takes is written down before it begins, and ends are remembered. */
class ModelHost {
  readonly hostId: string
  readonly journal = new Map<string, Held>()
  /** How often each task had its effect. */
  readonly effects = new Map<string, number>()

  constructor(hostId: string) {
    this.hostId = hostId
  }

  get holds(): readonly string[] {
    return [...this.journal.values()]
      .filter(({ settled }) => !settled)
      .map(({ task }) => task.taskId)
  }

  take(answer: Awaited<ReturnType<World['take']>>['answer']): void {
    for (const task of answer.tasks) {
      const known = this.journal.get(task.taskId)
      if (known) known.settled = false
      else this.journal.set(task.taskId, { task, state: 'waiting', settled: false })
    }
    for (const taskId of answer.cancel) {
      const held = this.journal.get(taskId)
      if (held?.state === 'waiting') held.state = 'cancelled'
    }
  }

  /** Begins what waits, or ends what was begun. */
  work(): void {
    for (const held of this.journal.values()) {
      if (held.state === 'waiting') held.state = 'begun'
      else if (held.state === 'begun') {
        const { taskId } = held.task
        this.effects.set(taskId, (this.effects.get(taskId) ?? 0) + 1)
        held.state = 'done'
      }
    }
  }

  get reports(): readonly TaskReport[] {
    return [...this.journal.values()]
      .filter(({ settled }) => !settled)
      .map(({ task: { taskId }, state }) => {
        if (state === 'cancelled') {
          const error = { code: 'TASK_CANCELLED', message: 'the task was cancelled' }
          return { taskId, state, percent: 0, error }
        }
        return { taskId, state: state === 'begun' ? 'running' : state, percent: 0 }
      })
  }

  settle(taskIds: readonly string[]): void {
    for (const taskId of taskIds) {
      const held = this.journal.get(taskId)
      if (held?.state === 'done' || held?.state === 'cancelled') held.settled = true
    }
  }
}

type Step =
  | { readonly do: 'ask' | 'work' | 'watch' }
  | { readonly do: 'take' | 'report'; readonly answered: boolean }
  | { readonly do: 'cancel'; readonly which: number }
  | { readonly do: 'pass'; readonly seconds: number }

const steps: fc.Arbitrary<Step> = fc.oneof(
  fc.constantFrom<Step>({ do: 'ask' }, { do: 'work' }, { do: 'watch' }),
  fc.record({
    do: fc.constantFrom('take' as const, 'report' as const),
    // an answer that is lost on its way: what the control plane did it has done
    answered: fc.boolean(),
  }),
  fc.record({ do: fc.constant('cancel' as const), which: fc.nat({ max: 5 }) }),
  fc.record({ do: fc.constant('pass' as const), seconds: fc.constantFrom(1, 250, 700) }),
)

async function takeStep(world: World, host: ModelHost, asked: string[], step: Step) {
  switch (step.do) {
    case 'ask':
      asked.push((await world.ask(host)).taskId)
      return
    case 'work':
      host.work()
      return
    case 'watch':
      await world.watch()
      return
    case 'take': {
      const { answer } = await world.take(host)
      if (step.answered) host.take(answer)
      return
    }
    case 'report': {
      const { settled } = await world.report(host.hostId, ...host.reports)
      if (step.answered) host.settle(settled)
      return
    }
    case 'cancel': {
      const taskId = asked[step.which]
      if (taskId !== undefined) await world.cancel(taskId)
      return
    }
    case 'pass':
      world.nowMs += step.seconds * 1000
  }
}

describe('whatever happens between people, control plane and host', () => {
  test('a task has its effect once at most, and ends as it did on its host', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(steps, { minLength: 10, maxLength: 40 }), async (all) => {
        await using world = await World.open('a')
        const host = new ModelHost('a')
        const asked: string[] = []
        for (const step of all) {
          await takeStep(world, host, asked, step)
          for (const taskId of asked) expectWhole(await world.task(taskId))
        }
        // The host is there from now on, and every answer arrives
        for (let turn = 0; turn < 4; turn += 1) {
          host.take((await world.take(host)).answer)
          host.work()
          host.settle((await world.report(host.hostId, ...host.reports)).settled)
        }
        expect(host.holds).toEqual([])
        for (const taskId of asked) {
          const task = await world.task(taskId)
          const times = host.effects.get(taskId) ?? 0
          expect({ state: task.state, times }).toEqual({
            state: expect.stringMatching(/^(done|failed|cancelled|lost)$/),
            times: task.state === 'done' ? 1 : 0,
          })
        }
      }),
      { numRuns: process.env['SLOW'] === '1' ? 2000 : 25 },
    )
  })
})

const MOVED = { state: 'failed', error: { code: 'TASK_HOST' } }
const LOST = { state: 'lost', error: { code: 'TASK_LOST' } }
const VM = '11111111-2222-4333-8444-555555555555'

describe('a task is not done by a host', () => {
  test('that the VM has left since, whether the task was on its way or not', async () => {
    await using world = await World.open('a', 'b')
    await world.giveVm(VM, 'a')
    const a = { hostId: 'a', holds: [] }
    const sent = await world.ask({ vmId: VM })
    const { answer } = await world.take(a, { room: 1 })
    expect(answer.tasks).toMatchObject([{ taskId: sent.taskId, vmId: VM }])
    const queued = await world.ask({ vmId: VM })
    await world.giveVm(VM, 'b')
    // the answer did not arrive: the host does not have the task
    expect((await world.take(a)).answer.tasks).toEqual([])
    for (const { taskId } of [sent, queued]) {
      expect(await world.task(taskId)).toMatchObject(MOVED)
    }
    const onB = await world.ask({ vmId: VM })
    const given = (await world.take({ hostId: 'b', holds: [] })).answer.tasks
    expect(given.map(({ taskId }) => taskId)).toEqual([onB.taskId])
  })

  test('that is of another cluster since, whether the task was on its way or not', async () => {
    await using world = await World.open('a')
    const a = { hostId: 'a', holds: [] }
    const sent = await world.ask({ hostId: 'a' })
    await world.take(a, { room: 1 })
    const queued = await world.ask({ hostId: 'a' })
    await world.place('a', 'depot')
    expect((await world.take(a, { cluster: 'depot' })).answer.tasks).toEqual([])
    for (const { taskId } of [sent, queued]) {
      expect(await world.task(taskId)).toMatchObject(MOVED)
    }
  })
})

describe('a task is lost', () => {
  const waiting = (taskId: string) => ({ taskId, state: 'waiting', percent: 0 }) as const
  const running = (taskId: string) => ({ taskId, state: 'running', percent: 7 }) as const

  /** A task that the host said it has. */
  async function heldTask(world: World) {
    const { taskId } = await world.ask({ hostId: 'a' })
    await world.take({ hostId: 'a', holds: [] })
    await world.take({ hostId: 'a', holds: [taskId] })
    return taskId
  }

  async function silence(world: World) {
    world.nowMs += SILENCE_SECONDS * 1000
    await world.watch()
  }

  test.each(['waiting', 'running', 'to be cancelled'])(
    'when the host that had it knows it no more: %s',
    async (how) => {
      await using world = await World.open('a')
      const taskId = await heldTask(world)
      if (how !== 'waiting') await world.report('a', running(taskId))
      if (how === 'to be cancelled') await world.cancel(taskId)
      const { answer } = await world.take({ hostId: 'a', holds: [] })
      expect(answer.tasks).toEqual([])
      expect(await world.task(taskId)).toMatchObject(LOST)
      expect(await world.cancel(taskId)).toBe('TASK_UNCANCELLABLE')
      // and is not sent again ever after
      expect((await world.take({ hostId: 'a', holds: [] })).answer.tasks).toEqual([])
    },
  )

  test('when the host says nothing of it for long, also where nobody knows whether it came', async () => {
    await using world = await World.open('a')
    const { taskId: onItsWay } = await world.ask({ hostId: 'a' })
    await world.take({ hostId: 'a', holds: [] })
    const held = await heldTask(world)
    await silence(world)
    for (const taskId of [onItsWay, held]) expect(await world.task(taskId)).toMatchObject(LOST)
    expect((await world.take({ hostId: 'a', holds: [] })).answer.tasks).toEqual([])
  })

  test('but not while the host has it, however long it takes', async () => {
    await using world = await World.open('a')
    const taskId = await heldTask(world)
    for (let hour = 0; hour < 3; hour += 1) {
      world.nowMs += (SILENCE_SECONDS - 1) * 1000
      await world.take({ hostId: 'a', holds: [taskId] })
      await world.watch()
    }
    expect(await world.task(taskId)).toMatchObject({ state: 'sent', waitingFor: 'turn' })
  })

  test('until its host comes back with it, or with its end, which is then what counts', async () => {
    await using world = await World.open('a')
    const ends = ['done', 'failed'] as const
    for (const state of ends) {
      const taskId = await heldTask(world)
      await silence(world)
      const error = { code: 'VM_RUNNING', message: 'expected a stopped VM' }
      const end = { taskId, state, percent: 100, ...(state === 'failed' ? { error } : {}) }
      expect(await world.report('a', end)).toEqual({ settled: [taskId] })
      const task = await world.task(taskId)
      expectWhole(task)
      expect(task).toMatchObject({ state, ...(state === 'failed' ? { error } : {}) })
    }
    const goesOn = await heldTask(world)
    await world.report('a', running(goesOn))
    const waits = await heldTask(world)
    await silence(world)
    const { answer } = await world.take({ hostId: 'a', holds: [goesOn, waits] })
    expect(answer).toEqual({ tasks: [], cancel: [], goOn: [goesOn, waits] })
    await world.report('a', waiting(waits))
    for (const [taskId, state] of [
      [goesOn, 'running'],
      [waits, 'sent'],
    ] as const) {
      const task = await world.task(taskId)
      expect(task).toMatchObject({ state })
      expectWhole(task)
    }
  })
})

test('a task that its host has and a restored database does not know to be sent goes on, and is not sent', async () => {
  await using world = await World.open('a')
  const { taskId } = await world.ask({ hostId: 'a' })
  const { answer } = await world.take({ hostId: 'a', holds: [taskId] })
  expect(answer).toEqual({ tasks: [], cancel: [], goOn: [taskId] })
  expect(await world.task(taskId)).toMatchObject({ state: 'sent', waitingFor: 'turn' })
  world.nowMs += EXPIRY_SECONDS * 1000
  await world.watch()
  expect(await world.task(taskId)).toMatchObject({ state: 'sent' })
})

test('a task that no host took in time fails, and is not given any more', async () => {
  await using world = await World.open('a')
  const { taskId } = await world.ask({ hostId: 'a' })
  world.nowMs += EXPIRY_SECONDS * 1000 - 1
  await world.watch()
  expect(await world.task(taskId)).toMatchObject({ state: 'queued' })
  world.nowMs += 1
  await world.watch()
  expect(await world.task(taskId)).toMatchObject({ error: { code: 'TASK_EXPIRED' } })
  expect((await world.take({ hostId: 'a', holds: [] })).answer.tasks).toEqual([])
  // what has ended here is to end there
  const { answer } = await world.take({ hostId: 'a', holds: [taskId] })
  expect(answer).toMatchObject({ cancel: [taskId], goOn: [] })
})

describe('a task that encrypts or brings an encrypted VM, for any host of a cluster,', () => {
  const request = { name: 'web1', provider: 'gold', disks: [] }
  const make = (world: World) =>
    world.create({ kind: 'vm.create', cluster: CLUSTER, request } as never)
  const set = (world: World, hostId: string, setting: 'on' | 'off') =>
    world.domain.transaction((tx) => tx.saveHostEncryption(hostId, { setting }))

  test('goes to one where encryption is not turned off, though others have less to do', async () => {
    await using world = await World.open('a', 'b')
    await set(world, 'a', 'off')
    await world.giveVm(VM, 'b')
    expect(await make(world)).toMatchObject({ hostId: 'b' })
    const plain = { ...request, plain: true }
    const task = { kind: 'vm.create', cluster: CLUSTER, request: plain } as never
    expect(await world.create(task)).toMatchObject({ hostId: 'a' })
  })

  test('is refused where it is turned off on every one', async () => {
    await using world = await World.open('a', 'b')
    for (const hostId of ['a', 'b']) await set(world, hostId, 'off')
    const come = {
      kind: 'vm.import',
      cluster: CLUSTER,
      request: { directory: '/srv/web1' },
    } as const
    for (const ask of [() => make(world), () => world.create(come)]) {
      await expect(ask()).rejects.toMatchObject({ code: 'HOST_ENCRYPTION_OFF' })
    }
  })
})

/** What belongs to a state is there, and what does not is not. */
function expectWhole(task: Awaited<ReturnType<World['task']>>): void {
  const hasEnded = ENDS.includes(task.state)
  const { state } = task
  expect({
    state,
    hasEnded: task.endedAt !== undefined,
    hasError: task.error !== undefined,
  }).toEqual({
    state,
    hasEnded,
    hasError: hasEnded && state !== 'done',
  })
}
