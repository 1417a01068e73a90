import {
  addDisk,
  cancelTask,
  cloneVm,
  createVm,
  decryptVm,
  deleteVm,
  encryptVm,
  getTask,
  growDisk,
  listAgentVms,
  listTasks,
  readDisk,
  recryptVm,
  removeDisk,
  rewrapVmKeys,
  showVm,
  startVm,
  stopVm,
} from '../../api/host-agent.js'
import { resetNvram } from '../../api/vm-nvram.js'
import { toBase64url } from '../../core/bytes.js'
import { type App, addOperation } from '../../http/index.js'
import { finishTask, type StartDeps, startTask } from '../tasks/start-task.js'

const LOCAL = { access: 'local' } as const

/** VMs of this host: what is quick is answered at once, what takes long is a task. */
export function addVmRoutes(app: App, deps: StartDeps): void {
  const { vms, tasks } = deps
  addOperation(app, rewrapVmKeys, LOCAL, async ({ body }) =>
    startTask(deps, 'keys.rewrap', { request: body }),
  )
  addOperation(app, listAgentVms, LOCAL, async () => ({
    vms: [...(await vms.list())],
    unreadable: [...(await vms.listUnreadable())],
  }))
  addOperation(app, showVm, LOCAL, async ({ params }) => vms.show(params.vm))
  addOperation(app, createVm, LOCAL, async ({ body }) =>
    startTask(deps, 'vm.create', { request: body }),
  )
  addOperation(app, startVm, LOCAL, async ({ params: { vm }, body }) =>
    startTask(deps, 'vm.start', { vm, request: body }),
  )
  addOperation(app, stopVm, LOCAL, async ({ params: { vm }, body }) =>
    startTask(deps, 'vm.stop', { vm, request: body }),
  )
  addOperation(app, encryptVm, LOCAL, async ({ params: { vm }, body }) =>
    startTask(deps, 'vm.encrypt', { vm, request: body }),
  )
  addOperation(app, decryptVm, LOCAL, async ({ params: { vm }, body }) =>
    startTask(deps, 'vm.decrypt', { vm, request: body }),
  )
  addOperation(app, recryptVm, LOCAL, async ({ params: { vm }, body }) =>
    startTask(deps, 'vm.recrypt', { vm, request: body }),
  )
  addOperation(app, cloneVm, LOCAL, async ({ params: { vm }, body }) =>
    startTask(deps, 'vm.clone', { vm, request: body }),
  )
  addOperation(app, addDisk, LOCAL, async ({ params: { vm }, body }) =>
    startTask(deps, 'vm.add-disk', { vm, request: body }),
  )
  addOperation(app, growDisk, LOCAL, async ({ params: { vm, disk }, body }) =>
    finishTask(deps, 'vm.grow-disk', { vm, request: { disk, ...body } }),
  )
  addOperation(app, removeDisk, LOCAL, async ({ params: { vm, disk } }) =>
    finishTask(deps, 'vm.remove-disk', { vm, request: { disk } }),
  )
  addOperation(app, resetNvram, LOCAL, ({ params }) => vms.resetNvram(params.vm))
  addOperation(app, deleteVm, LOCAL, async ({ params }) => {
    await vms.delete(params.vm)
    return {}
  })
  addOperation(app, readDisk, LOCAL, async ({ params, body }) => {
    const { offset, length, assurance } = body
    const data = await vms.readDisk(params.vm, params.disk, offset, length, assurance)
    return { data: toBase64url(data) }
  })
  addOperation(app, listTasks, LOCAL, async () => ({ tasks: [...tasks.list()] }))
  addOperation(app, getTask, LOCAL, async ({ params }) => tasks.get(params.taskId))
  addOperation(app, cancelTask, LOCAL, async ({ params }) => tasks.cancel(params.taskId))
}
