import { attachDisk, detachDisk, listDetachedDisks } from '../../api/disk-attachment.js'
import { rewrapVm } from '../../api/vm-rewrap.js'
import { type App, addOperation } from '../../http/index.js'
import { type StartDeps, startTask } from '../tasks/start-task.js'

const LOCAL = { access: 'local' } as const

/** What also VMs that run can have done, on the agent's socket: disks that come and go, keys wrapped anew. */
export function addAttachmentRoutes(app: App, deps: StartDeps): void {
  const { vms } = deps
  addOperation(app, attachDisk, LOCAL, async ({ params: { vm }, body }) =>
    startTask(deps, 'vm.attach-disk', { vm, request: body }),
  )
  addOperation(app, detachDisk, LOCAL, async ({ params: { vm, disk } }) => vms.detachDisk(vm, disk))
  addOperation(app, listDetachedDisks, LOCAL, async () => ({
    disks: [...(await vms.listDetached())],
  }))
  addOperation(app, rewrapVm, LOCAL, async ({ params: { vm }, body }) =>
    startTask(deps, 'vm.rewrap', { vm, request: body }),
  )
}
