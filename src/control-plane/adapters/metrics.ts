import type { TaskState } from '../../api/tasks.js'
import { Counter, Gauge, type Registry } from '../../http/index.js'
import type { KeyErrorCounter, KeyErrorKind } from '../host-key-ports.js'
import type { ControlPlaneStore } from '../ports.js'

const KINDS: readonly KeyErrorKind[] = ['not-added', 'missing', 'server-unreachable']
const STATES = ['pending', 'delivered', 'confirmed', 'failed', 'erasing', 'erased'] as const

/** Figures of keys of hosts. No name of a provider, host or VM is a label. */
export function hostKeyMetrics(registry: Registry): {
  readonly errors: KeyErrorCounter
  update(store: ControlPlaneStore): Promise<void>
} {
  const errors = new Counter({
    name: 'control_plane_host_key_errors_total',
    help: 'Keys that hosts could not get, by what was at fault',
    labelNames: ['kind'],
    registers: [registry],
  })
  const deliveries = new Gauge({
    name: 'control_plane_host_key_deliveries',
    help: 'Deliveries of keys to hosts, by their state',
    labelNames: ['state'],
    registers: [registry],
  })
  for (const kind of KINDS) errors.inc({ kind }, 0)
  return {
    errors: { count: (kind) => errors.inc({ kind }) },
    async update(store) {
      const counts = await store.transaction(async (tx) => {
        const all: Readonly<Record<string, number>>[] = []
        for (const { providerId } of await tx.listKeyProviders()) {
          all.push(await tx.countDeliveries(providerId))
        }
        return all
      })
      for (const state of STATES) {
        deliveries.set(
          { state },
          counts.reduce((sum, one) => sum + (one[state] ?? 0), 0),
        )
      }
    },
  }
}

const TASK_STATES = [
  'queued',
  'sent',
  'running',
  'cancelling',
  'done',
  'failed',
  'cancelled',
  'lost',
] as const satisfies readonly TaskState[]

/** Tasks that are remembered, by their states. */
export function taskMetrics(registry: Registry): {
  update(store: ControlPlaneStore): Promise<void>
} {
  const tasks = new Gauge({
    name: 'control_plane_tasks',
    help: 'Tasks for hosts, by their state',
    labelNames: ['state'],
    registers: [registry],
  })
  return {
    async update(store) {
      const counts = await store.transaction((tx) => tx.countTasks())
      for (const state of TASK_STATES) tasks.set({ state }, counts[state] ?? 0)
    },
  }
}
