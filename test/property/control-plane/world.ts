import type { VmReport } from '../../../src/api/control-plane.js'
import type { NewVmTask, TaskReport } from '../../../src/api/tasks.js'
import { controlPlaneStore } from '../../../src/control-plane/adapters/store.js'
import { createTask, type TaskRules } from '../../../src/control-plane/domain/create-task.js'
import { giveTasks, takeReports } from '../../../src/control-plane/domain/host-tasks.js'
import { createVmTasks } from '../../../src/control-plane/domain/tasks.js'
import { watchTasks } from '../../../src/control-plane/domain/watch-tasks.js'
import type { ControlPlaneStore, HostCaller } from '../../../src/control-plane/ports.js'
import { newUuid } from '../../../src/core/random.js'
import {
  createOperator,
  type FoundationTables,
  openStore,
  type Store,
  writeHostStatus,
} from '../../../src/store/index.js'

const ISSUER = 'https://authority.example'
export const CLUSTER = 'lab'
export const SILENCE_SECONDS = 600
export const EXPIRY_SECONDS = 300
const RULES: TaskRules = { tasksPerHost: 1000, taskExpirySeconds: EXPIRY_SECONDS }

/** The control plane on a database of its own, and a time that stands still unless it is told to go on. */
export class World implements AsyncDisposable {
  nowMs = 1_800_000_000_000
  readonly store: Store
  readonly domain: ControlPlaneStore
  readonly operatorId: string
  private proofs = 0

  private constructor(store: Store, operatorId: string) {
    this.store = store
    this.domain = controlPlaneStore(store)
    this.operatorId = operatorId
  }

  static async open(...hosts: readonly string[]): Promise<World> {
    const store = await openStore({ file: ':memory:' })
    const { operatorId } = await createOperator(store, {
      ...{ name: 'admin', role: 'administrator', services: ['control-plane'], nowMs: 0 },
    })
    const world = new World(store, operatorId)
    for (const hostId of hosts) await world.place(hostId, CLUSTER)
    return world
  }

  /** Has a host trusted in a cluster. */
  place(hostId: string, cluster: string): Promise<void> {
    return this.store.transaction<FoundationTables, void>((tx) =>
      writeHostStatus(tx, {
        ...{ issuer: ISSUER, hostId, cluster, state: 'trusted', newEpoch: false, policyEpoch: 1 },
        atMs: this.nowMs,
      }),
    )
  }

  get act() {
    const { operatorId, nowMs } = this
    const services = ['control-plane']
    const caller = { kind: 'operator', operatorId, name: 'admin', role: 'administrator', services }
    return { caller: caller as never, operator: 'admin', actor: 'operator:admin', nowMs }
  }

  get deps() {
    return { store: this.domain, changes: { raise: () => undefined } }
  }

  caller(hostId: string, cluster = CLUSTER): HostCaller {
    this.proofs += 1
    const proof = { thumbprint: hostId, id: String(this.proofs), expiresAtMs: this.nowMs + 60_000 }
    const epochs = { hostEpoch: 1, policyEpoch: 1, resetCount: 1 }
    return { issuer: ISSUER, hostId, cluster, ...epochs, tokenId: 'token', proof }
  }

  ask(on: { readonly hostId: string } | { readonly vmId: string }) {
    return this.create(
      'vmId' in on
        ? { kind: 'vm.start', ...on, request: {} }
        : { kind: 'keys.rewrap', ...on, request: {} },
    )
  }

  create(wanted: NewVmTask) {
    return createTask({ ...this.deps, rules: RULES, newId: newUuid }, this.act, wanted)
  }

  get tasks() {
    return createVmTasks({ ...this.deps, rules: RULES, newId: newUuid })
  }

  /** Has a host report a VM, or take one over. */
  async giveVm(vmId: string, hostId: string): Promise<void> {
    const report: VmReport = { name: 'web1', state: 'stopped', disks: [], vtpm: false }
    const vm = { vmId, hostId, cluster: CLUSTER, report, reportedAtMs: this.nowMs }
    await this.domain.transaction((tx) => tx.saveVm(vm))
  }

  /** @returns the code of a refusal */
  async cancel(taskId: string): Promise<string> {
    const refusal = (error: { readonly code: string }) => error.code
    return this.tasks.cancel(this.act, taskId).then(({ state }) => state, refusal)
  }

  take(
    { hostId, holds }: { readonly hostId: string; readonly holds: readonly string[] },
    { room = 100, cluster = CLUSTER } = {},
  ) {
    const caller = this.caller(hostId, cluster)
    const body = { waitSeconds: 0, room, holds: [...holds], cancelling: [] }
    return giveTasks(this.deps, caller, body, { nowMs: this.nowMs, admit: true })
  }

  report(hostId: string, ...reports: readonly TaskReport[]) {
    return takeReports(this.deps, this.caller(hostId), reports, this.nowMs)
  }

  watch() {
    const rules = { silenceSeconds: SILENCE_SECONDS, retentionDays: 30 }
    return watchTasks(this.deps, { ...rules, nowMs: this.nowMs })
  }

  task(taskId: string) {
    return this.tasks.get(this.act, taskId)
  }

  [Symbol.asyncDispose]() {
    return this.store[Symbol.asyncDispose]()
  }
}
