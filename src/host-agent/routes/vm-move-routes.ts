import { exportVm, importVm, receiveVm, sendVm, takeBackVm } from '../../api/agent-vm-moves.js'
import { type App, addOperation } from '../../http/index.js'
import { type StartDeps, startTask } from '../tasks/start-task.js'

const LOCAL = { access: 'local' } as const

/** VMs that leave this host and come to it, on the agent's socket. */
export function addVmMoveRoutes(app: App, deps: StartDeps): void {
  addOperation(app, exportVm, LOCAL, async ({ params: { vm }, body }) =>
    startTask(deps, 'vm.export', { vm, request: body }),
  )
  addOperation(app, importVm, LOCAL, async ({ body }) =>
    startTask(deps, 'vm.import', { request: body }),
  )
  addOperation(app, sendVm, LOCAL, async ({ params: { vm }, body }) =>
    startTask(deps, 'vm.send', { vm, request: body }),
  )
  addOperation(app, receiveVm, LOCAL, async ({ body }) =>
    startTask(deps, 'vm.receive', { request: body }),
  )
  addOperation(app, takeBackVm, LOCAL, async ({ params: { vm }, body }) =>
    startTask(deps, 'vm.take-back', { vm, request: body }),
  )
}
