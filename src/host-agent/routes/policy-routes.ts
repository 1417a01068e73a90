import { applyVmPolicy } from '../../api/vm-policy.js'
import type { Clock } from '../../core/clock.js'
import { newUuid } from '../../core/random.js'
import { type App, addOperation } from '../../http/index.js'
import type { Tasks } from '../domain/tasks.js'
import { defaultProviderOf } from '../host-keys/default-provider.js'
import type { KeyKeeper } from '../host-keys/keeper.js'
import type { VmService } from '../vm/index.js'

const LOCAL = { access: 'local' } as const

/** Storage policies of VMs, on the agent's socket. */
export function addPolicyRoutes(
  app: App,
  deps: {
    readonly vms: VmService
    readonly tasks: Tasks
    readonly keeper: KeyKeeper
    readonly clock: Clock
  },
): void {
  const { vms, tasks, keeper, clock } = deps
  addOperation(app, applyVmPolicy, LOCAL, async ({ params, body }) => {
    const { compare = 'samples', ...wanted } = body
    const request = { ...wanted, defaultProvider: await defaultProviderOf(keeper) }
    const task = { taskId: newUuid(), kind: 'vm.apply-policy', nowMs: clock.nowMs() }
    return tasks.startCancellable(task, (onProgress, signal) =>
      vms.applyPolicy(params.vm, request, { onProgress, signal, compare }),
    )
  })
}
