import {
  createVmSnapshot,
  listVmSnapshots,
  removeVmSnapshot,
  revertVmSnapshot,
} from '../../api/vm-snapshots.js'
import { type App, addOperation } from '../../http/index.js'
import { type StartDeps, startTask } from '../tasks/start-task.js'

const LOCAL = { access: 'local' } as const

/** Snapshots of VMs, on the agent's socket. */
export function addSnapshotRoutes(app: App, deps: StartDeps): void {
  addOperation(app, listVmSnapshots, LOCAL, async ({ params }) => ({
    snapshots: [...(await deps.vms.listSnapshots(params.vm))],
  }))
  addOperation(app, createVmSnapshot, LOCAL, async ({ params: { vm }, body }) =>
    startTask(deps, 'vm.create-snapshot', { vm, request: body }),
  )
  addOperation(app, revertVmSnapshot, LOCAL, async ({ params: { vm, snapshot }, body }) =>
    startTask(deps, 'vm.revert-snapshot', { vm, request: { snapshot, ...body } }),
  )
  addOperation(app, removeVmSnapshot, LOCAL, async ({ params: { vm, snapshot } }) =>
    startTask(deps, 'vm.remove-snapshot', { vm, request: { snapshot } }),
  )
}
