import {
  acceptVtpmState,
  addVtpm,
  importVtpmCertificate,
  removeVtpm,
  replaceVtpmCertificates,
  requestVtpmCertificate,
  restoreVtpmState,
} from '../../api/vtpm.js'
import { type App, addOperation } from '../../http/index.js'
import { pemOf } from '../../pki/index.js'
import { finishTask, type StartDeps, startTask } from '../tasks/start-task.js'

const LOCAL = { access: 'local' } as const

/** Virtual TPMs of VMs, on the agent's socket. */
export function addVtpmRoutes(app: App, deps: StartDeps): void {
  addOperation(app, addVtpm, LOCAL, async ({ params: { vm }, body }) =>
    startTask(deps, 'vm.add-vtpm', { vm, request: body }),
  )
  addOperation(app, removeVtpm, LOCAL, ({ params: { vm } }) =>
    finishTask(deps, 'vm.remove-vtpm', { vm, request: {} }),
  )
  addOperation(app, replaceVtpmCertificates, LOCAL, async ({ params: { vm }, body }) =>
    startTask(deps, 'vm.replace-vtpm-certificates', { vm, request: body }),
  )
  addOperation(app, importVtpmCertificate, LOCAL, async ({ params: { vm }, body }) =>
    startTask(deps, 'vm.import-vtpm-certificate', { vm, request: body }),
  )
  addOperation(app, requestVtpmCertificate, LOCAL, async ({ params: { vm }, body }) => {
    const { request, publicKey } = await deps.vms.requestVtpmCertificate(vm, body.key)
    return {
      request: pemOf('CERTIFICATE REQUEST', request),
      publicKey: pemOf('PUBLIC KEY', publicKey),
    }
  })
  addOperation(app, acceptVtpmState, LOCAL, ({ params: { vm }, body }) =>
    finishTask(deps, 'vm.accept-vtpm-state', { vm, request: body }),
  )
  addOperation(app, restoreVtpmState, LOCAL, ({ params: { vm }, body }) =>
    finishTask(deps, 'vm.restore-vtpm-state', { vm, request: body }),
  )
}
