import { addVtpm } from '../../api/vtpm.js'
import type { Clock } from '../../core/clock.js'
import { newUuid } from '../../core/random.js'
import { type App, addOperation } from '../../http/index.js'
import type { Tasks } from '../domain/tasks.js'
import type { VmService } from '../vm/index.js'

const LOCAL = { access: 'local' } as const

/** Virtual TPMs of VMs, on the agent's socket. */
export function addVtpmRoutes(
  app: App,
  deps: { readonly vms: VmService; readonly tasks: Tasks; readonly clock: Clock },
): void {
  const { vms, tasks, clock } = deps
  addOperation(app, addVtpm, LOCAL, async ({ params }) => {
    const task = { taskId: newUuid(), kind: 'vm.add-vtpm', nowMs: clock.nowMs() }
    return tasks.startCancellable(task, (onProgress, signal) =>
      vms.addVtpm(params.vm, { onProgress, signal }),
    )
  })
}
