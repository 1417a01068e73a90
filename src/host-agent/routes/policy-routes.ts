import { applyVmPolicy } from '../../api/vm-policy.js'
import { type App, addOperation } from '../../http/index.js'
import { type StartDeps, startTask } from '../tasks/start-task.js'

const LOCAL = { access: 'local' } as const

/** Storage policies of VMs, on the agent's socket. */
export function addPolicyRoutes(app: App, deps: StartDeps): void {
  addOperation(app, applyVmPolicy, LOCAL, async ({ params: { vm }, body }) =>
    startTask(deps, 'vm.apply-policy', { vm, request: body }),
  )
}
