import {
  admitStart,
  adoptDomain,
  defineInLibvirt,
  endAdmission,
  mendVtpm,
  showDomain,
  startInLibvirt,
  tellLibvirtEvent,
  undefineInLibvirt,
} from '../../api/libvirt.js'
import { PlatformError } from '../../core/errors.js'
import { newUuid } from '../../core/random.js'
import { type App, addOperation } from '../../http/index.js'
import { defaultProviderOf } from '../host-keys/default-provider.js'
import type { StartDeps } from '../tasks/start-task.js'

const LOCAL = { access: 'local' } as const

/** VMs that libvirt runs, and what its hook asks and tells. */
export function addLibvirtRoutes(app: App, deps: StartDeps): void {
  const { vms } = deps
  addOperation(app, adoptDomain, LOCAL, async ({ body }) => {
    const provider = body.provider ?? (await defaultProviderOf(deps.keeper))
    if (provider === undefined) {
      const message = 'expected a key provider by name, or a default, found neither'
      throw new PlatformError('AGENT_NO_PROVIDER', message)
    }
    const task = { taskId: newUuid(), kind: 'vm.adopt', nowMs: deps.clock.nowMs() }
    return deps.tasks.start({ ...task, cancellable: true }, (onProgress, signal) =>
      vms.adoptDomain({ ...body, provider }, { onProgress, signal }),
    )
  })
  addOperation(app, showDomain, LOCAL, async ({ params }) => ({
    xml: await vms.domainXml(params.vm),
  }))
  addOperation(app, defineInLibvirt, LOCAL, async ({ params }) => vms.defineInLibvirt(params.vm))
  addOperation(app, undefineInLibvirt, LOCAL, async ({ params }) =>
    vms.undefineInLibvirt(params.vm),
  )
  addOperation(app, startInLibvirt, LOCAL, async ({ params }) => vms.startInLibvirt(params.vm))
  addOperation(app, mendVtpm, LOCAL, async ({ params, body }) =>
    vms.mendVtpmInLibvirt(params.vm, body.how),
  )
  addOperation(app, admitStart, LOCAL, async ({ params, body }) => {
    await vms.admitStart(params.vm, body.seconds)
    return {}
  })
  addOperation(app, endAdmission, LOCAL, async ({ params }) => {
    await vms.endAdmission(params.vm)
    return {}
  })
  addOperation(app, tellLibvirtEvent, LOCAL, async ({ body }) => {
    await vms.onLibvirtEvent(body)
    return {}
  })
}
