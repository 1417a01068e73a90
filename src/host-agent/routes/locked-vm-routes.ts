import { unlockVm } from '../../api/locked-vms.js'
import { type App, addOperation } from '../../http/index.js'
import { finishTask, type StartDeps } from '../tasks/start-task.js'

/** VMs whose keys cannot be had, on the agent's socket. */
export function addLockedVmRoutes(app: App, deps: StartDeps): void {
  addOperation(app, unlockVm, { access: 'local' }, async ({ params: { vm } }) =>
    finishTask(deps, 'vm.unlock', { vm, request: {} }),
  )
}
